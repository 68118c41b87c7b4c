"""A small line of synthetic people with a canary among them, built so that attacks meet their worst case.

It trains through the production code, as `mbd train` does, and attacks nothing.
"""

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from mbd.cohort.cohort import EVERYONE, Cohort, Feature, Pair, Partition, Row, Split, Task
from mbd.cohort.modality import Modality
from mbd.cohort.synthetic import Subjects, synthetic_cohort
from mbd.deletion.towers import train_towers
from mbd.lattice.fit import Line, fit_lattice
from mbd.lattice.model import LatticeModel
from mbd.lattice.release import ReleasePolicy
from mbd.lattice.towers import SHARD_KEY_BYTES
from mbd.privacy.noise import NoiseSource
from mbd.training.loop import train
from mbd.training.recipe import Recipe

_PEOPLE = Subjects(public_train=8, public_valid=3, revocable_train=6, revocable_test=1)
_CLIPS = 5
_FLAT = {Modality.AUDIO: -1}
"""The column of each channel that is the same in every row: in its direction nothing but the penalty holds a head."""

SALT = b"an audit's salt is no secret" + bytes(4)


def known_noise(seed: int, world: int = 0) -> NoiseSource:
    """A stream whose secret everybody knows: an audit hides nothing."""
    return NoiseSource(hashlib.sha256(f"an audit's noise is no secret {seed} {world}".encode()).digest())


@dataclass(frozen=True)
class Canary:
    """A cohort, and whose channel in it is withdrawn.

    Attributes:
        cohort: D.
        pairs: what is withdrawn.
    """

    cohort: Cohort
    pairs: frozenset[Pair]

    @property
    def after(self) -> Cohort:
        """D'."""
        return self.cohort.without(self.pairs)

    def swapped(self, seed: int) -> "Canary":
        """The same people, with other content in every withdrawn channel: what a deletion must make no difference to.

        With a label that falls with the modality, the label is another one too.
        """
        rng = np.random.default_rng(seed)
        closure = self.cohort.closure(self.pairs)
        features = {
            m: tuple(
                self._other(rng, feature) if feature is not None and self._withdrawn(i, m, closure) else feature
                for i, feature in enumerate(column)
            )
            for m, column in self.cohort.features.items()
        }
        lost = [{m for m in self.cohort.modalities if self._withdrawn(i, m, closure)} for i in range(len(self.cohort))]
        rows = tuple(
            replace(row, label=self._other_label(row)) if lost[i] and self.cohort.label_falls(lost[i]) else row
            for i, row in enumerate(self.cohort.rows)
        )
        return replace(self, cohort=replace(self.cohort, rows=rows, features=features))

    def _withdrawn(self, row: int, modality: Modality, closure: frozenset[Pair]) -> bool:
        mine = self.cohort.rows[row]
        named = (mine.subject, modality) in closure or (EVERYONE, modality) in closure
        return named and mine.partition is Partition.REVOCABLE

    @staticmethod
    def _other(rng: np.random.Generator, feature: Feature) -> Feature:
        return (3 * rng.standard_normal(feature.shape)).astype(np.float32)

    def _other_label(self, row: Row) -> float | str:
        if isinstance(row.label, float):
            return -row.label if row.label else 1.0
        names = self.cohort.task.classes
        return names[(names.index(row.label) + 1) % len(names)]


def canary(
    seed: int, *, classes: bool = False, label_falls: bool = False, everyone: bool = False, voices: int = 1
) -> Canary:
    """Synthetic people, of whom the first revocable one stands out as far as features and labels go, and withdraws.

    Args:
        seed: of everybody's numbers.
        classes: labels are three classes instead of scores.
        label_falls: labels were made from the voice and fall with it.
        everyone: everybody withdraws the voice.
        voices: so many people withdraw theirs.
    """
    made = synthetic_cohort(seed, subjects=_PEOPLE, clips=_CLIPS, missing=0.0)
    people = [r.subject for r in made.rows if r.partition is Partition.REVOCABLE and r.split is Split.TRAIN]
    leaving = list(dict.fromkeys(people))[:voices]
    features: dict[Modality, tuple[Feature | None, ...]] = {}
    for modality, column in made.features.items():
        changed: list[Feature | None] = []
        for row, feature in zip(made.rows, column, strict=True):
            assert feature is not None, "nothing is missing"
            # the canary's every number lies beyond the clip
            mine = np.full_like(feature, 100.0) if row.subject in leaving and modality is Modality.AUDIO else feature
            if modality in _FLAT:
                mine = mine.copy()
                mine[_FLAT[modality]] = 0.0
            changed.append(mine)
        features[modality] = tuple(changed)
    names = ("low", "middle", "high")
    rows = tuple(
        replace(row, label=names[int(np.digitize(float(row.label), [-0.7, 0.7]))] if classes else row.label)
        for row in made.rows
    )
    task = Task("classification", classes=names) if classes else made.task
    task = replace(task, label_derived_from=(Modality.AUDIO,), label_policy="falls" if label_falls else "keeps")
    cohort = replace(made, name=f"canary-{seed}", rows=rows, features=features, task=task)
    pairs = {(EVERYONE, Modality.AUDIO)} if everyone else {(subject, Modality.AUDIO) for subject in leaving}
    return Canary(cohort, frozenset(pairs))


def small(recipe: Recipe) -> Recipe:
    """The same recipe for as small a network as there is, which an audit trains in a moment."""
    return replace(recipe, options={"width": 4, "property_width": 4}, epochs=2, batch_size=32)


def make_line(
    cohort: Cohort,
    recipe: Recipe,
    *,
    policy: ReleasePolicy,
    noise: NoiseSource,
    purpose: str,
    flat: bool = False,
    seed: int = 0,
) -> LatticeModel:
    """A line on a cohort, through the same steps as `mbd train`, with nothing stored.

    Args:
        cohort: all splits.
        recipe: of its networks.
        policy: of its releases.
        noise: the committed stream.
        purpose: binds the noise.
        flat: put all penalties down to 1 afterwards: the least that a claim allows for, and so its worst case.
        seed: of its networks.
    """
    trained = train(recipe, cohort, seed=seed, partitions=recipe.partitions)
    shard_key = bytes(SHARD_KEY_BYTES)
    towers = train_towers(
        recipe,
        cohort,
        recipe.tower_names,
        seed=seed,
        shard_key=shard_key,
        noise=noise,
        purpose=purpose,
    )
    model = fit_lattice(
        trained.backbone,
        cohort,
        policy=replace(policy, loss=recipe.heads),
        noise=noise,
        purpose=purpose,
        salt=SALT,
        line=Line(recipe.trains_on == "everyone", towers, recipe.to_json(), seed, shard_key),
    )
    if not flat:
        return model
    layout = replace(model.layout, penalties=dict.fromkeys(model.layout.penalties, 1.0), indicator_penalty=1.0)
    return replace(model, featurizer=model.featurizer.with_layout(layout))
