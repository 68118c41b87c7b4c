import pytest

from mbd.cohort.cohort import Partition, Split
from mbd.cohort.modality import Modality
from mbd.cohort.synthetic import Subjects, synthetic_cohort
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
