"""Bring towers back that a deletion dropped or that were lost: a new version of the line, trained on who is left.

It runs whenever somebody lets it, apart from deletions: until then the line answers without these towers.
"""

import secrets
import shutil
from collections.abc import Callable

from mbd.cohort import folder
from mbd.cohort.manifest import KEY_BYTES
from mbd.cohort.suppression import drop_suppressed
from mbd.deletion.towers import bring_back, missing_towers, train_towers
from mbd.lattice.model import save_model
from mbd.records.database import begin_locked
from mbd.records.models import ModelVersion
from mbd.training.recipe import Recipe
from mbd.workflow.live import load_live_model
from mbd.workflow.office import refuse_rollback
from mbd.workflow.registration import register_successor
from mbd.workflow.system import System, remove_unregistered


def missing(system: System, line: str) -> tuple[str, ...]:
    """The towers that a line's recipe has and its live version lacks.

    Raises:
        SettingsError: there is no such line.
        TrainingError: the live version's files are damaged, beyond lost towers.
    """
    return missing_towers(load_live_model(system, system.live(line), without_lost_towers=True))


def retrain_towers(
    system: System, line: str, *, on_progress: Callable[[float, str], None] = lambda done, name: None
) -> tuple[ModelVersion, tuple[str, ...]] | None:
    """Train the line's missing towers on the live version's rows and put a version with them live.

    Nobody's channels change, so there is no certificate: what is released anew is a function of the rows that are left.
    Channels that were withdrawn and not deleted yet train nothing. A crash leaves nothing behind but a folder that the
    next command removes.

    Returns:
        The new version and the towers it has more; None when nothing is missing, or nobody is left to train it.

    Raises:
        SettingsError: there is no such line, or another command is changing the deployment.
        TrainingError: the live version's files are damaged, or a training cannot go on.
    """
    with system.exclusive():
        live = system.live(line)
        model = load_live_model(system, live, without_lost_towers=True)
        cohort = folder.read(system.cohort_folder(line, live.version))
        number = system.next_version(line)
        trained = train_towers(
            Recipe.from_json(model.recipe),
            drop_suppressed(cohort, system.suppressed()),  # a withdrawal may be waiting to be finished
            missing_towers(model),
            seed=model.seed,
            shard_key=model.shard_key,
            noise=system.keyring.noise,
            purpose=f"{line}/{number}",
            on_progress=on_progress,
        )
        whole = all(pattern in model.heads for pattern in model.layout.patterns)
        if not trained and whole:
            return None
        after = bring_back(
            model,
            cohort,
            trained,
            noise=system.keyring.noise,
            purpose=f"{line}/{number}/towers",
            salt=secrets.token_bytes(KEY_BYTES),
        )
        shutil.rmtree(system.version_folder(line, number), ignore_errors=True)
        key = secrets.token_bytes(KEY_BYTES)
        manifest = folder.write(cohort, system.cohort_folder(line, number), key=key)
        saved = save_model(after, system.model_folder(line, number), cohort_root=manifest.root)
        with begin_locked(system.engine) as connection:
            refuse_rollback(system, connection)
            version = register_successor(
                connection, live=live, manifest=manifest, model=after, saved=saved, now=system.clock()
            )
        with begin_locked(system.engine) as connection:  # only now: before the commit the old folder is the live one
            remove_unregistered(system, connection)
        return version, tuple(trained)
