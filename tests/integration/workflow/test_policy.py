"""Settings of a new model line reach its constants, its deletions and its certificates."""

import pytest

from certs.statement import Exact
from mbd.cohort.modality import Modality
from mbd.lattice.model import load_model
from mbd.settings import Settings
from mbd.workflow.planning import plan_revocation
from mbd.workflow.replay import replay
from mbd.workflow.revocation import revoke
from mbd.workflow.system import open_system
from mbd.workflow.training import train_line

AUDIO = Modality.AUDIO


@pytest.fixture
def trained(tmp_path, cohort, recipe, monkeypatch):
    monkeypatch.setenv("MBD_EXACT_ROWS", "100000")
    monkeypatch.setenv("MBD_INDICATOR_PENALTY", "2.5")
    with open_system(Settings(home=tmp_path / "home"), create=True) as system:
        train_line(system, cohort, recipe, line="main", seed=0)
        yield system


def test_a_line_of_few_rows_gets_exact_certificates_and_spends_nothing(trained, people, check):
    for version, person in enumerate(people[:3], start=2):
        (planned,) = plan_revocation(trained, frozenset({(person, AUDIO)}))
        assert (planned.plan.mechanism, planned.plan.budget.after) == ("lattice-refit", 0)
        (result,) = revoke(trained, [(person, AUDIO)])
        predicate = check(trained, result).statement.predicate
        assert isinstance(predicate.guarantee, Exact)
        assert predicate.procedure.mechanism == "lattice-refit"
        assert predicate.lineage.version == version
    done = replay(trained, result.bundle.read_bytes())
    assert done.matched, [found for found in done.checks if not found.matched]


def test_the_penalty_of_indicators_is_a_constant_of_the_line(trained, people, check):
    (result,) = revoke(trained, [(people[0], AUDIO)])
    layout = load_model(trained.model_folder("main", 2)).layout
    assert layout.indicator_penalty == 2.5
    assert all(layout.penalty_D[block.indicator] == 2.5 for block in layout.blocks)
    assert check(trained, result).statement.predicate.procedure.lambda_min == layout.lambda_min == 2.5
