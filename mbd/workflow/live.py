"""A live version: its files, held against what was registered, and what its line has spent. It loads torch."""

from sqlalchemy import Connection

from mbd.cohort import folder
from mbd.cohort.cohort import Cohort
from mbd.errors import DeletionError, TrainingError
from mbd.hashing import file_digest
from mbd.lattice.model import PARTS, LatticeModel, Saved, load_model, lost_towers, tower_file
from mbd.privacy.gaussian import compose
from mbd.records import models
from mbd.records.models import ModelVersion
from mbd.workflow.claim import Version
from mbd.workflow.office import Office
from mbd.workflow.system import System


def load_live_model(office: Office, live: ModelVersion, *, without_lost_towers: bool = False) -> LatticeModel:
    """A live version's model.

    Args:
        office: the deployment.
        live: which.
        without_lost_towers: leave out towers whose files are lost or damaged, and the heads that used them.

    Raises:
        TrainingError: its files are damaged, or those of another version.
    """
    where = office.model_folder(live.line, live.version)
    lost = lost_towers(where) if without_lost_towers else ()
    model = load_model(where, without=lost)
    registered = file_digest(where / "model.json") == live.digest and (lost or model.commitment == live.statistics)
    if not registered:
        raise TrainingError(
            f"The files in {where} are not those of {live.line} version {live.version} as it was registered.",
            remedy="restore that version's own files; another version's hold what has been deleted since",
        )
    return model


def load_version(system: System, live: ModelVersion, cohort: Cohort) -> Version:
    """A live version with its rows, which the caller has read, its manifest and the digests of its files.

    Raises:
        TrainingError: see `load_live_model`.
        DeletionError: the rows are not those that were registered.
    """
    where = system.model_folder(live.line, live.version)
    model = load_live_model(system, live)
    manifest = folder.read_manifest(system.cohort_folder(live.line, live.version))
    if manifest.root != live.cohort:
        raise DeletionError(
            f"The rows of {live.line} version {live.version} are not those that were registered.",
            remedy="restore that version's own cohort folder; another version's holds what has been deleted since",
        )
    names = (*PARTS, *map(tower_file, model.origins), "model.json")
    saved = Saved(where, {name: file_digest(where / name) for name in names})
    return Version(live.version, saved, model, cohort, manifest)


def spent_on(connection: Connection, line: str) -> list[float]:
    """The mu of each certified deletion of a line so far, in order."""
    by_version: dict[int, list[float]] = {}
    for release in models.mu_series(connection, line):
        by_version.setdefault(release.version, []).append(release.mu)
    return [compose(mus) for _, mus in sorted(by_version.items())]
