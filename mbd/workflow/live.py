"""The files of a live version, held against what was registered. It loads torch; `mbd.workflow.system` does not."""

from mbd.errors import TrainingError
from mbd.hashing import file_digest
from mbd.lattice.model import LatticeModel, load_model
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
