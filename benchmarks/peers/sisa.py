"""SISA: people in shards, a network each, predictions averaged; a deletion trains the touched shards again.

Source: Bourtoule et al. 2021 (IEEE S&P), section IV: sharded, isolated, sliced, aggregated; here without slices.
"""

import hashlib

import numpy as np

from benchmarks.peers.setting import FloatArray, Peer, Setting, Stopwatch, Unlearned, network_outputs
from mbd.backbones.base import Backbone
from mbd.cohort.cohort import Cohort, Partition, Split
from mbd.training.loop import train

SHARDS = 4


def unlearn(setting: Setting) -> Unlearned:
    """Train all shards on D, which is not counted, and again those that hold a withdrawn row."""
    watch = Stopwatch()
    networks = [train_shard(setting, setting.cohort, n) for n in range(SHARDS)]
    touched = sorted({shard_of(row.subject) for row in setting.revoked_rows.rows})
    with watch.running():
        for n in touched:
            networks[n] = train_shard(setting, setting.after, n)

    def predict(rows: Cohort) -> FloatArray:
        return np.asarray(np.mean([network_outputs(network, rows) for network in networks], axis=0))

    return Unlearned(predict, watch.seconds, 0.0, details={"shards": SHARDS, "trained_again": len(touched)})


def shard_of(subject: str) -> int:
    """A person's shard, by a hash of the name."""
    return int.from_bytes(hashlib.sha256(subject.encode()).digest()[:4], "big") % SHARDS


def train_shard(setting: Setting, cohort: Cohort, number: int) -> Backbone:
    """A network on one shard of the people who can withdraw; public people are in every shard."""
    mine = [
        i
        for i, row in enumerate(cohort.rows)
        if row.split is not Split.TRAIN or row.partition is Partition.PUBLIC or shard_of(row.subject) == number
    ]
    rows = cohort.select(mine)
    return train(setting.recipe, rows, seed=setting.seed + 7919 * number, partitions=tuple(Partition)).backbone


SISA = Peer(
    name="SISA, 4 shards",
    family="shards",
    source="Bourtoule et al. 2021, section IV",
    deviations=(
        "no slices",
        "public people, who never withdraw, stand in every shard: alone, a fourth of the people train no network",
    ),
    unlearn=unlearn,
)
