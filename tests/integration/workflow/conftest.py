"""A small deployment with one trained line, made once and copied for each test."""

import shutil
from collections.abc import Iterator

import pytest

from certs.verification import verify
from mbd.cohort.cohort import Partition, Split
from mbd.cohort.modality import Modality
from mbd.cohort.synthetic import Subjects, synthetic_cohort
from mbd.settings import Settings
from mbd.training.recipe import Recipe
from mbd.workflow.office import utc_now
from mbd.workflow.system import System, open_system
from mbd.workflow.training import train_line

RECIPE = Recipe(epochs=2, options={"width": 8, "property_width": 8})


@pytest.fixture(scope="session")
def cohort():
    return synthetic_cohort(subjects=Subjects(5, 2, 6, 2), clips=5)


@pytest.fixture(scope="session")
def people(cohort):
    """Revocable training subjects, in order."""
    rows = [row for row in cohort.rows if (row.partition, row.split) == (Partition.REVOCABLE, Split.TRAIN)]
    return list(dict.fromkeys(row.subject for row in rows))


@pytest.fixture(scope="session")
def tester(cohort):
    """Somebody who is only in the test split."""
    return next(row.subject for row in cohort.rows if row.split is Split.TEST)


@pytest.fixture(scope="session")
def trained_home(cohort, tmp_path_factory):
    home = tmp_path_factory.mktemp("trained") / "home"
    with open_system(Settings(home=home), create=True) as system:
        train_line(system, cohort, RECIPE, line="main", seed=0)
    return home


@pytest.fixture(scope="session")
def two_lines_home(trained_home, cohort, people, recipe, tmp_path_factory):
    """A second line that does not know the first of the people, nor the voice of the second."""
    home = tmp_path_factory.mktemp("two") / "home"
    shutil.copytree(trained_home, home)
    others = [i for i, row in enumerate(cohort.rows) if row.subject != people[0]]
    with open_system(Settings(home=home), create=False) as system:
        train_line(system, cohort.select(others).without([(people[1], Modality.AUDIO)]), recipe, line="second", seed=0)
    return home


@pytest.fixture
def home(trained_home, tmp_path):
    """A copy of the deployment, of the test's own."""
    shutil.copytree(trained_home, tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def system(home) -> Iterator[System]:
    with open_system(Settings(home=home), create=False) as opened:
        yield opened


@pytest.fixture(scope="session")
def check():
    """Verifies a certificate of a deployment offline, as whoever receives it would."""

    def verified(system, result, **more):
        return verify(result.bundle.read_bytes(), system.trusted_root_path.read_bytes(), at=utc_now(), **more)

    return verified


@pytest.fixture(scope="session")
def recipe():
    return RECIPE


@pytest.fixture
def audio():
    return Modality.AUDIO
