"""A live version: its files, held against what was registered, and what its line has spent. It loads torch."""

from sqlalchemy import Connection

from mbd.errors import TrainingError
from mbd.hashing import file_digest
from mbd.lattice.model import LatticeModel, load_model
from mbd.privacy.gaussian import compose
from mbd.records import models
from mbd.records.models import ModelVersion
from mbd.workflow.system import System


def load_live_model(system: System, live: ModelVersion) -> LatticeModel:
    """A live version's model.

    Raises:
        TrainingError: its files are damaged, or those of another version.
    """
    where = system.model_folder(live.line, live.version)
    model = load_model(where)
    if (file_digest(where / "model.json"), model.commitment) != (live.digest, live.statistics):
        raise TrainingError(
            f"The files in {where} are not those of {live.line} version {live.version} as it was registered.",
            remedy="restore that version's own files; another version's hold what has been deleted since",
        )
    return model


def spent_on(connection: Connection, line: str) -> list[float]:
    """The mu of each certified deletion of a line so far, in order."""
    by_version: dict[int, list[float]] = {}
    for release in models.mu_series(connection, line):
        by_version.setdefault(release.version, []).append(release.mu)
    return [compose(mus) for _, mus in sorted(by_version.items())]
