"""One rank, started by torchrun with `--max-restarts`: `rank.py FOLDER`. It leaves what it found in FOLDER/<rank>.json.

After each of the first epochs of a training with checkpoints, all ranks are killed by their process ids and started
again. When that training has ended, everything else is tried. The pytest process imports the constants.
"""

import json
import os
import signal
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist

from mbd.backbones.base import Interface
from mbd.backbones.weights import save_backbone, weights_digest
from mbd.backbones.zoo import build
from mbd.cohort.batch import make_batch
from mbd.cohort.cohort import Partition
from mbd.cohort.synthetic import Subjects, synthetic_cohort
from mbd.errors import RanksError, TrainingError
from mbd.ranks import ALONE, Ranks, all_ranks
from mbd.training.data import public_rows
from mbd.training.distributed import loss_gradients
from mbd.training.loop import train, validation_losses
from mbd.training.recipe import Recipe

SMALL = {"width": 8, "property_width": 6}
STILL = {**SMALL, "dropout": 0.0, "input_dropout": 0.0}
RECIPE = Recipe(options=SMALL, epochs=3, batch_size=13)  # 40 rows: the last batch has one, and one rank has none of it
BATCHES = (15, 2, 1)  # rows: unequal shares, one each, an empty share


def cohort():
    people = Subjects(public_train=5, public_valid=2, revocable_train=5, revocable_test=2)
    return synthetic_cohort(subjects=people, clips=8, missing=0.3, sequence=True)


def private_tower():
    from mbd.privacy.noise import NoiseSource  # loaded late: those that are killed need not wait for it
    from mbd.training.private import train_private_tower
    from mbd.training.tower_recipe import PrivateRecipe, TowerRecipe

    start = TowerRecipe("audio", width=6, epochs=1)
    recipe = PrivateRecipe(start, rate=0.7, noise_multiplier=4.0, steps=4, subjects=5, learning_rate=0.1)
    return train_private_tower(recipe, cohort(), noise=NoiseSource(b"n" * 32), purpose="test", seed=1)


# Ways in which sharing a batch goes wrong. The first is what averaging the ranks' own losses would do.


def mean_of_shares(backbone, batch, ranks, **_):
    mine = ranks.share(len(batch.present))
    terms = {"none": next(backbone.parameters()).sum() * 0.0}
    if mine:
        own = batch.select(torch.tensor(mine))
        terms = backbone.losses(backbone(own), own)
    torch.autograd.backward(torch.stack(list(terms.values())).sum())
    for parameter in backbone.parameters():
        parameter.grad = ranks.sum(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
        parameter.grad /= ranks.count


class Everyone(Ranks):
    """The gradient of the loss's own parameters is counted by every rank."""

    first = True


def everyone_counts(backbone, batch, ranks, **streams):
    return loss_gradients(backbone, batch, Everyone(ranks.rank, ranks.count), **streams)


def largest_difference(share, rows):
    """Between gradients by all ranks and by one process, relative to the largest gradient, in float64."""
    torch.manual_seed(5)
    training, _ = public_rows(cohort())
    backbone = build("mbd", Interface.of(training), STILL).double().train()
    backbone.standardiser.fit(training)
    batch = make_batch(training, range(3, 3 + rows), torch.float64)
    found = []
    for way, ranks in ((loss_gradients, ALONE), (share, all_ranks())):
        backbone.zero_grad()
        way(backbone, batch, ranks, seed=0, step="test")
        found.append([None if p.grad is None else p.grad.clone() for p in backbone.parameters()])
    if share is loss_gradients:
        assert [g is None for g in found[0]] == [g is None for g in found[1]]
    pairs = [(a, b) for a, b in zip(*found, strict=True) if a is not None]
    scale = max(a.abs().max().item() for a, _ in pairs)
    return max((a - b).abs().max().item() for a, b in pairs) / scale


def meet(folder, name):
    """A new group: a rank that failed left the one before."""
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group("gloo", init_method=f"file://{folder / name}", rank=rank, world_size=count)


def how_it_fails(folder, name, call):
    """What each rank meets when one of them fails. All stay alive until all have met it."""
    meet(folder, name)
    rank, count = dist.get_rank(), dist.get_world_size()
    try:
        call(rank)
    except (TrainingError, RanksError) as error:
        met = f"{type(error).__name__}: {error.message}"
    else:
        met = "nothing"
    (folder / f"{name}-{rank}-met").touch()
    while len(list(folder.glob(f"{name}-*-met"))) < count:
        time.sleep(0.01)
    assert not dist.is_initialized()
    return met


def broken_off(done, *_):
    raise TrainingError(f"broken off after {done}", remedy="none")


def killed_after_each_epoch(folder):
    restarts = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    meet(folder, f"killed-{restarts}")
    process_ids = [numbers[0] for numbers in all_ranks().gather([os.getpid()])]

    def on_progress(done, *_):
        (folder / f"epoch-{done}-of-start-{restarts}").touch()
        if done < RECIPE.epochs:
            for process_id in process_ids[::-1]:  # this one at last
                os.kill(process_id, signal.SIGKILL)

    trained = train(RECIPE, cohort(), seed=3, checkpoint_dir=folder / "run", on_progress=on_progress)
    dist.destroy_process_group()
    return {"resumed": trained.transcript.to_json()}


def everything_else(folder):
    meet(folder, "whole")
    ranks, rows = all_ranks(), cohort()
    trained = train(RECIPE, rows, seed=3)
    still = train(replace(RECIPE, options=STILL), rows, seed=3)
    if ranks.first:
        save_backbone(still.backbone, folder / "still.safetensors")
    public = rows.where(partition=Partition.PUBLIC)
    found = {
        "transcript": trained.transcript.to_json(),
        "digest": weights_digest(trained.backbone),
        "again": train(RECIPE, rows, seed=3).transcript.to_json(),
        "still": still.transcript.to_json(),
        "validation": validation_losses(still.backbone, public, ranks=ranks),
        "validation alone": validation_losses(still.backbone, public),
        "private": private_tower().transcript.to_json(),
        "gradients": [largest_difference(loss_gradients, rows) for rows in BATCHES],
        "mean of shares": [largest_difference(mean_of_shares, rows) for rows in BATCHES],
        "everyone counts": [largest_difference(everyone_counts, rows) for rows in BATCHES],
    }
    dist.destroy_process_group()

    nobody = rows.select([])
    go = partial(train, RECIPE)
    found |= {
        "another seed": how_it_fails(folder, "seed", lambda rank: go(rows, seed=rank)),
        "no rows on one": how_it_fails(folder, "rows", lambda rank: go(nobody if rank else rows, seed=0)),
        "stopped on the way": how_it_fails(folder, "way", lambda _: go(rows, seed=0, on_progress=broken_off)),
        "a GPU": how_it_fails(folder, "gpu", lambda _: go(rows, seed=0, device="cuda")),
    }
    return found


def main(folder):
    found = killed_after_each_epoch(folder) | everything_else(folder)
    (folder / f"{os.environ['RANK']}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
