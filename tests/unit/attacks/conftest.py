"""A small line with a canary in it, whose claims are worst cases."""

import pytest


@pytest.fixture(scope="session")
def audit_noise():
    from mbd.privacy.noise import NoiseSource

    return NoiseSource(b"an audit's noise is known to all")


@pytest.fixture(scope="session")
def canary_line(audit_noise):
    """(model, canary) with all penalties at 1."""
    from mbd.attacks.canary import canary, make_line, small
    from mbd.lattice.release import ReleasePolicy
    from mbd.training.recipe import Recipe

    people = canary(0)
    recipe = small(Recipe())
    return make_line(
        people.cohort, recipe, policy=ReleasePolicy(), noise=audit_noise, purpose="before", flat=True
    ), people


@pytest.fixture(scope="session")
def arms_of(canary_line):
    """``arms_of(history)`` at a mu of 1 a head."""
    from mbd.attacks.distinguishing import deletion_arms, loud
    from mbd.deletion.outcome import Revocation

    model, people = canary_line
    return lambda history, policy=None: deletion_arms(
        model,
        people.cohort,
        Revocation(people.pairs, "audit"),
        history=history,
        policy=policy or loud(model.policy),
        seed=3,
    )
