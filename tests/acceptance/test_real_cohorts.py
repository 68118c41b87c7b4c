"""Five real people withdraw their voice one after the other, then everyone does, on RAVDESS and on MOSI."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import binomtest

from certs.statement import Certified, Exact
from certs.verification import verify
from mbd.cohort.cohort import EVERYONE, Partition, Split
from mbd.cohort.importers.mosi import mosi
from mbd.cohort.importers.ravdess import ravdess, ravdess_fold
from mbd.cohort.modality import Modality, parse_pattern
from mbd.lattice.fit import training_rows
from mbd.lattice.model import load_model
from mbd.settings import Settings
from mbd.training import recipes
from mbd.workflow.evaluation import predict_rows
from mbd.workflow.office import utc_now
from mbd.workflow.replay import replay
from mbd.workflow.revocation import revoke
from mbd.workflow.system import open_system
from mbd.workflow.training import train_line

pytestmark = pytest.mark.real_data
AUDIO = Modality.AUDIO


@dataclass
class Story:
    cohort: object
    recipe: object
    rest: str  # the pattern that remains when nobody's voice may be used


@pytest.fixture(params=["ravdess", "mosi"])
def story(request, real_data):
    folder = real_data(request.param)
    if request.param == "ravdess":
        return Story(ravdess(folder, **ravdess_fold(0, 0)), recipes.ravdess(), "v")
    return Story(mosi(folder, seed=0), recipes.mosi(), "t")


def correct(model, test):
    """Which test rows are answered right: the class, or the sign of the score."""
    outputs, targets = model.predict(test).outputs_NK, test.targets
    if model.task.kind == "classification":
        return outputs.argmax(axis=1) == targets.argmax(axis=1)
    return (outputs[:, 0] >= 0) == (targets[:, 0] >= 0)


def significant(before, after):
    """McNemar's exact test at 1 %: whether as many answers got worse as got better."""
    changed = int((before != after).sum())
    return changed > 0 and binomtest(int((before & ~after).sum()), changed).pvalue < 0.01


def test_five_voices_and_then_everyones(story, tmp_path):
    cohort = story.cohort
    test = cohort.where(split=Split.TEST)
    speakers = list(
        dict.fromkeys(
            row.subject
            for i, row in enumerate(cohort.rows)
            if (row.partition, row.split) == (Partition.REVOCABLE, Split.TRAIN) and AUDIO in cohort.present(i)
        )
    )[:5]
    with open_system(Settings(home=tmp_path / "home"), create=True) as system:
        original = train_line(system, cohort, story.recipe, line="real", seed=0).model
        commitment = (system.home / "published" / "noise-commitment.sigstore.json").read_bytes()
        remaining, model = cohort, original
        for speaker in speakers:
            (result,) = revoke(system, [(speaker, AUDIO)])
            remaining = remaining.without([(speaker, AUDIO)])
            model = load_model(system.model_folder("real", result.version))
            assert model.statistics == model.featurizer.statistics(training_rows(remaining))
            verified = verify(
                result.bundle.read_bytes(),
                system.trusted_root_path.read_bytes(),
                at=utc_now(),
                noise_commitment=commitment,
            )
            assert isinstance(verified.statement.predicate.guarantee, Certified)
            assert replay(system, result.bundle.read_bytes()).matched
            assert not significant(correct(original, test), correct(model, test))

        (result,) = revoke(system, [(EVERYONE, AUDIO)])
        silent = load_model(system.model_folder("real", result.version))
        verified = verify(result.bundle.read_bytes(), system.trusted_root_path.read_bytes(), at=utc_now())
        assert isinstance(verified.statement.predicate.guarantee, Exact)
        answers = predict_rows(silent, test, system.suppressed())
        assert {answer.pattern for answer in answers} == {story.rest}
        rest = parse_pattern(story.rest)
        assert np.array_equal(silent.heads[rest].weights_DK, original.heads[rest].weights_DK)
        assert np.array_equal(
            silent.predict(test).outputs_NK, original.predict(test.restrict(rest)).outputs_NK, equal_nan=True
        )


def test_the_comparison_of_answers_can_fail():
    right = np.ones(300, dtype=bool)
    worse = right.copy()
    worse[:20] = False
    assert significant(right, worse)
    assert not significant(right, right)
