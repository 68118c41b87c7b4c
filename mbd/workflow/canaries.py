"""Every attack on canaries, the leak sweep included, which needs a deployment of its own."""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mbd.attacks.canary import canary, small
from mbd.attacks.report import Effort, OnProgress, Report
from mbd.attacks.suite import ATTACKS, Attack
from mbd.settings import Settings
from mbd.training.recipe import Recipe
from mbd.training.tower_recipe import ShardedRecipe, TowerRecipe
from mbd.workflow.leaks import hits_now, needles_before, sweep_deployment
from mbd.workflow.revocation import revoke
from mbd.workflow.system import open_system
from mbd.workflow.training import train_line


def leaks(effort: Effort, on_progress: OnProgress) -> list[Report]:
    """Deployments in temporary folders: train, look for a voice and find it, withdraw it, look again."""
    plain = small(Recipe())
    lines = {
        "public backbone": plain,
        "sharded towers": replace(plain, sharded=(ShardedRecipe(TowerRecipe("audio", width=3, epochs=1)),)),
        "entangled, retrain": replace(plain, trains_on="everyone"),
    }
    people = canary(effort.seed).swapped(effort.seed)  # a voice that is not the same number throughout
    reports = []
    for done, (name, recipe) in enumerate(lines.items()):
        on_progress(done / len(lines), name)
        started = time.process_time()
        with (
            tempfile.TemporaryDirectory(prefix="mbd-leaks-") as folder,
            open_system(Settings(home=Path(folder) / "home"), create=True) as system,
        ):
            train_line(system, people.cohort, recipe, line="canary", seed=effort.seed)
            needles = needles_before(system, people.pairs)
            found = hits_now(system, needles)
            revoke(system, people.pairs)
            report = sweep_deployment(system, needles, before=found)
        reports.append(replace(report, target=name, seed=effort.seed, seconds=time.process_time() - started))
    return reports


CANARY_ATTACKS: Mapping[str, Attack] = {**ATTACKS, "leaks": leaks}
"""Every attack on canaries by name."""
