import pytest

from mbd.cohort.synthetic import Subjects, synthetic_cohort
from mbd.training.recipe import Recipe


@pytest.fixture(scope="session")
def cohort():
    """A synthetic cohort with missing channels and sequences, small enough for many runs."""
    return synthetic_cohort(
        subjects=Subjects(public_train=5, public_valid=2, revocable_train=3, revocable_test=2),
        clips=8,
        missing=0.3,
        sequence=True,
    )


@pytest.fixture
def recipe():
    """Four quick epochs of the default backbone."""
    return Recipe(options={"width": 8, "property_width": 6}, epochs=4, batch_size=16)
