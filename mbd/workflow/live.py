"""A live version: its files, held against what was registered, and what its line has spent. It loads torch."""

from sqlalchemy import Connection

from mbd.errors import TrainingError
from mbd.hashing import file_digest
from mbd.lattice.model import LatticeModel, load_model, lost_towers
from mbd.privacy.gaussian import compose
from mbd.records import models
from mbd.records.models import ModelVersion
from mbd.workflow.system import System


def load_live_model(system: System, live: ModelVersion, *, without_lost_towers: bool = False) -> LatticeModel:
    """A live version's model.

    Args:
        system: the deployment.
        live: which.
        without_lost_towers: leave out towers whose files are lost or damaged, and the heads that used them.

    Raises:
        TrainingError: its files are damaged, or those of another version.
    """
    where = system.model_folder(live.line, live.version)
    lost = lost_towers(where) if without_lost_towers else ()
    model = load_model(where, without=lost)
    registered = file_digest(where / "model.json") == live.digest and (lost or model.commitment == live.statistics)
    if not registered:
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
