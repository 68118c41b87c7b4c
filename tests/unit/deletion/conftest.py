"""Models to delete from, and what has to be true after a deletion from a line with towers."""

import dataclasses

import numpy as np
import pytest

from mbd.backbones.weights import weights_digest
from mbd.cohort.cohort import EVERYONE, Partition, Split
from mbd.cohort.modality import Modality
from mbd.cohort.synthetic import Subjects, synthetic_cohort
from mbd.deletion import engine
from mbd.deletion.outcome import Revocation
from mbd.deletion.towers import train_towers
from mbd.lattice.fit import training_rows
from mbd.lattice.layout import tower_modality
from mbd.lattice.release import normal_equations, remove_noise
from mbd.lattice.solve import residual
from mbd.lattice.towers import Sharded, part_of, shard_of
from mbd.privacy.noise import NoiseSource
from mbd.training.loop import train
from mbd.training.recipe import Recipe


@pytest.fixture(scope="session")
def cohort(random_cohort):
    return random_cohort(3, subjects=14, clips=4)


@pytest.fixture(scope="session")
def model(cohort, fit_small):
    return fit_small(cohort)


@pytest.fixture(scope="session")
def someone(cohort):
    """A revocable training subject who has a voice."""
    return next(
        row.subject
        for i, row in enumerate(cohort.rows)
        if (row.partition, row.split) == (Partition.REVOCABLE, Split.TRAIN) and Modality.AUDIO in cohort.present(i)
    )


@pytest.fixture(scope="session")
def entangled_cohort():
    """Few synthetic people, for networks that are trained on the revocable ones too."""
    people = Subjects(public_train=4, public_valid=2, revocable_train=4, revocable_test=1)
    return synthetic_cohort(subjects=people, clips=8, missing=0.2)


@pytest.fixture(scope="session")
def someone_revocable(entangled_cohort):
    """The first revocable subject; their clips train."""
    return next(row.subject for row in entangled_cohort.rows if row.partition is Partition.REVOCABLE)


@pytest.fixture(scope="session")
def quick_recipe():
    return Recipe(epochs=2, batch_size=16, options={"width": 8, "property_width": 8})


@pytest.fixture(scope="session")
def entangled(entangled_cohort, quick_recipe):
    """A small MBD network that saw every training row; tests must not change it."""
    return train(quick_recipe, entangled_cohort, seed=0, partitions=tuple(Partition)).backbone


@pytest.fixture(scope="session")
def towers_model(cohort, fit_towers):
    """Version 1 of a line with three shards for the voice and a private tower for the face."""
    return fit_towers(cohort)


class Towered:
    """What a deletion from a line with towers must leave behind, as assertions that a planted bug has to break."""

    noise = NoiseSource(b"n" * 32)

    def asked(self, *pairs):
        return Revocation(frozenset(pairs), "ab" * 32)

    def deleted(self, model, cohort, *pairs, spent=()):
        return engine.delete(
            model, cohort, self.asked(*pairs), noise=self.noise, occasion="line/2", spent=spent, salt=b"t" * 32
        )

    def trained(self, model, cohort, names, purpose="line/1"):
        """These towers of a line, trained on a cohort."""
        recipe = Recipe.from_json(model.recipe)
        return train_towers(
            recipe, cohort, names, seed=model.seed, shard_key=model.shard_key, noise=self.noise, purpose=purpose
        )

    def digests(self, towers):
        return {name: weights_digest(tower) for name, tower in towers.items()}

    def shards_of(self, model, cohort, rest):
        """The sharded towers that somebody trained who has fewer rows with their channel in D'. From the definition."""
        before, after = training_rows(cohort), training_rows(rest)
        gone = set()
        for name, origin in model.origins.items():
            mine = tower_modality(name)
            for subject in before.where(partition=Partition.REVOCABLE).subjects if isinstance(origin, Sharded) else ():
                had, has = (
                    sum(mine in rows.present(i) for i in rows.rows_of.get(subject, ())) for rows in (before, after)
                )
                if has < had and shard_of(subject, origin.shards, model.shard_key) == origin.shard:
                    gone.add(name)
        return gone

    def rest_of(self, model, cohort, pairs):
        """D': a modality that left for everyone is nobody's."""
        everyones = {m for s, m in cohort.closure(pairs) if s == EVERYONE}
        return cohort.restrict([m for m in model.layout.modalities if m not in everyones]).without(pairs)

    def assert_towers_of_the_rest(self, model, cohort, outcome, *pairs, beyond_budget=()):
        """Just the towers of the people concerned are gone, with every trace; the others are those that D' trains."""
        after, rest = outcome.model, self.rest_of(model, cohort, pairs)
        nobodys = {name for name in model.origins if tower_modality(name) not in rest.modalities}
        gone = nobodys | self.shards_of(model, cohort, rest) | set(beyond_budget)
        assert set(outcome.towers) == gone
        left = set(model.origins) - gone
        assert set(after.origins) == set(after.featurizer.towers) == set(after.layout.towers) == left
        assert {part for part in after.provenance if part.startswith("tower ")} == set(map(part_of, left))
        assert not gone & set(after.layout.groups)
        sharded = [name for name in left if isinstance(after.origins[name], Sharded)]
        anew = {name: made.tower.double() for name, made in self.trained(model, rest, sharded).items()}
        assert self.digests(anew) == self.digests({name: after.featurizer.towers[name] for name in sharded})

    def assert_statistics_and_heads_of_the_rest(self, model, cohort, outcome, *pairs):
        """Statistics bit for bit those of D'; every head solves them up to tau once its noise is subtracted."""
        after = outcome.model
        rest = training_rows(self.rest_of(model, cohort, pairs))
        assert after.statistics == after.featurizer.statistics(rest)
        assert set(after.heads) == set(after.layout.patterns)
        for pattern, head in after.heads.items():
            assert len(head.weights_DK) == len(after.layout.coordinates(pattern))
            matrix_DD, moment_DK = normal_equations(after.layout, after.statistics, pattern)
            assert residual(matrix_DD, moment_DK, remove_noise(head, self.noise))[1] <= after.policy.tau

    def with_nonsense_heads(self, model):
        """The same model with weights that know everything about nothing."""
        heads = {
            pattern: dataclasses.replace(head, weights_DK=np.full_like(head.weights_DK, 1e3))
            for pattern, head in model.heads.items()
        }
        return dataclasses.replace(model, heads=heads)


@pytest.fixture(scope="session")
def towered():
    return Towered()
