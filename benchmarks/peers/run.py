"""Every method on the same rows, by the same backbone, in the same run.

    python -m benchmarks.peers.run mosi|ravdess people|everyone [worlds]

Writes ``benchmarks/results/peers-<cohort>-<request>.json``. `benchmarks.peers.tables` makes tables and pictures of it.
Two processes share the worlds; seconds are processor time.
"""

import json
import platform
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib import metadata
from itertools import combinations
from typing import Any

import numpy as np
from rich.progress import Progress

from benchmarks.cohorts import RESULTS
from benchmarks.peers.measure import FloatArray, measure
from benchmarks.peers.methods import PEERS
from benchmarks.peers.worlds import NETWORK, Request, make_world

WORLDS: dict[Request, int] = {"people": 12, "everyone": 5}
DEEP = 5
"""So many worlds are attacked by relearning and reconstruction too, which take longest."""

_PROCESSES = 2


def run_world(name: str, request: Request, seed: int) -> dict[str, Any]:
    """All methods in one world; outputs of the references are kept for the distances between worlds."""
    world = make_world(name, request, seed)
    found: dict[str, dict[str, Any]] = {}
    for peer in PEERS:
        found[peer.name] = measure(peer, peer.unlearn(world.setting), world, deeply=seed < DEEP)
    spread = float(world.whole.targets.std())
    references = {peer.family: peer.name for peer in PEERS if peer.reference}
    kept = {name: found[name]["outputs"] for name in references.values()}
    for mine in found.values():
        outputs_NK = mine.pop("outputs")
        mine["distance"] = {name: round(distance(outputs_NK, kept[name], spread), 5) for name in kept}
    return {
        "seed": seed,
        "targets": len(world.targets),
        "member": [person in world.members for person in world.targets],
        "rows": {"before": len(world.setting.before_rows), "revoked": len(world.setting.revoked_rows)},
        "training_seconds": round(world.setting.network_seconds, 2),
        "methods": found,
        "references": kept,
        "spread": spread,
    }


def distance(one_NK: FloatArray, two_NK: FloatArray, spread: float) -> float:
    """The root mean square difference of two models' outputs, in standard deviations of the labels."""
    return float(np.sqrt(np.square(one_NK - two_NK).mean()) / spread)


def seed_noise(worlds: list[dict[str, Any]]) -> dict[str, float]:
    """The mean distance between two references of two worlds: D' is the same, only seeds differ."""
    names = worlds[0]["references"]
    return {
        name: round(
            float(
                np.mean(
                    [
                        distance(one["references"][name], two["references"][name], one["spread"])
                        for one, two in combinations(worlds, 2)
                    ]
                )
            ),
            5,
        )
        for name in names
    }


def main(name: str, request: Request, worlds: int) -> None:
    """Run all worlds of one request on one cohort and write what was measured."""
    found = sorted(_all_worlds(name, request, worlds), key=lambda world: world["seed"])
    noise = seed_noise(found)
    for world in found:
        del world["references"]
    result = {
        "cohort": name,
        "request": request,
        "recipe": NETWORK.to_json(),
        "environment": {"python": platform.python_version(), "torch": metadata.version("torch").partition("+")[0]},
        "peers": {
            peer.name: {
                "family": peer.family,
                "source": peer.source,
                "deviations": list(peer.deviations),
                "reference": peer.reference,
            }
            for peer in PEERS
        },
        "seed_noise": noise,
        "worlds": found,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"peers-{name}-{request}.json").write_text(json.dumps(result, sort_keys=True, default=float) + "\n")


def _all_worlds(name: str, request: Request, worlds: int) -> Iterator[dict[str, Any]]:
    with Progress() as progress, ProcessPoolExecutor(_PROCESSES) as pool:
        bar = progress.add_task(f"{name}, {request}", total=worlds)
        for done in as_completed([pool.submit(run_world, name, request, seed) for seed in range(worlds)]):
            yield done.result()
            progress.advance(bar)


if __name__ == "__main__":
    asked = [request for request in WORLDS if request in sys.argv[2:3]]
    if len(sys.argv) not in (3, 4) or sys.argv[1] not in ("mosi", "ravdess") or not asked:
        sys.exit("usage: python -m benchmarks.peers.run mosi|ravdess people|everyone [worlds]")
    main(sys.argv[1], asked[0], int(sys.argv[3]) if len(sys.argv) == 4 else WORLDS[asked[0]])
