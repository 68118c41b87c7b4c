import numpy as np
import pytest

from mbd.errors import TrainingError
from mbd.lattice.model import PARTS, load_model, save_model


@pytest.fixture
def model(random_cohort, fit_small):
    return fit_small(random_cohort(2))


def test_a_saved_model_comes_back_bit_for_bit(model, random_cohort, tmp_path):
    saved = save_model(model, tmp_path / "v1", cohort_root="c" * 64)
    loaded = load_model(tmp_path / "v1")
    assert loaded.statistics == model.statistics
    assert loaded.task == model.task
    assert loaded.layout == model.layout
    for pattern, head in model.heads.items():
        assert np.array_equal(loaded.heads[pattern].weights_DK, head.weights_DK)
        assert loaded.heads[pattern].context == head.context
    cohort = random_cohort(2)
    assert np.array_equal(loaded.predict(cohort).outputs_NK, model.predict(cohort).outputs_NK, equal_nan=True)
    assert save_model(loaded, tmp_path / "again", cohort_root="c" * 64).digests == saved.digests


@pytest.mark.parametrize("part", [*PARTS, "model.json"])
def test_a_missing_or_changed_file_is_refused(model, tmp_path, part):
    save_model(model, tmp_path / "v1", cohort_root="c" * 64)
    path = tmp_path / "v1" / part
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(TrainingError, match="backup"):
        load_model(tmp_path / "v1")
    path.unlink()
    with pytest.raises(TrainingError, match="backup"):
        load_model(tmp_path / "v1")
