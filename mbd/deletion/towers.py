"""Towers in a deletion: which of them a withdrawal touches, what becomes of those, and how they come back.

- A ``sharded`` tower was trained by one shard of the people. When one of them withdraws its modality, the tower goes at
  once, with every coordinate that it made: what remains never depended on it. It is trained again later, without them.
- A ``private`` tower was trained by everybody under differential privacy. It stays, and its account counts who left,
  until the line's budget is used up; then it goes as well.

Source: docs/guarantees.md, Claims 8 and 9. It chooses no mechanism.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mbd.cohort.cohort import Cohort, Partition, Split
from mbd.cohort.modality import Modality
from mbd.errors import PrivacyError
from mbd.lattice.fit import training_rows
from mbd.lattice.layout import tower_modality
from mbd.lattice.model import LatticeModel
from mbd.lattice.release import ReleasePolicy, release_heads
from mbd.lattice.towers import Origin, Private, Sharded, Trained, part_of, retired
from mbd.privacy.guarantee import Departed, epsilon_at
from mbd.privacy.noise import NoiseSource
from mbd.training.private import train_private_tower
from mbd.training.recipe import Recipe
from mbd.training.tower import train_tower
from mbd.training.tower_recipe import ShardedRecipe


@dataclass(frozen=True)
class Touched:
    """What a withdrawal does to the towers of a model.

    Attributes:
        dropped: towers that go.
        origins: of the towers that stay, with their new accounts.
    """

    dropped: tuple[str, ...]
    origins: Mapping[str, Origin]


def touched(model: LatticeModel, before: Cohort, after: Cohort, *, spent: Sequence[float], heads: int) -> Touched:
    """Which towers go, and what the accounts of the others are.

    Args:
        model: the version before, without the modalities that leave for everyone.
        before: training rows of D, among them all that D' lacks or has with fewer channels.
        after: what is left of those rows in D'.
        spent: mu of every certified deletion of the line so far.
        heads: how many heads may be released again with noise that counts: a bound, so that the decision is made first.
    """
    people = _who_lost(before, after)
    dropped, origins = [], dict(model.origins)
    for name, origin in model.origins.items():
        concerned = [s for s in people.get(tower_modality(name), ()) if origin.concerns(s, model.shard_key)]
        if not concerned:
            continue
        if isinstance(origin, Sharded):
            dropped.append(name)
        else:
            origins[name] = replace(origin, departed=origin.departed + len(concerned))
    mus = [*spent, *[model.policy.head_mu] * heads]
    counted = [name for name, origin in origins.items() if origin != model.origins[name]]
    if counted and not _fits_budget(model.policy, mus, ever_departed(origins, model.retired)):
        dropped += counted
    return Touched(tuple(dropped), {name: origin for name, origin in origins.items() if name not in dropped})


def departed(origins: Mapping[str, Origin]) -> tuple[Departed, ...]:
    """The private towers among these that somebody has left."""
    return tuple(
        Departed(name, origin.run, origin.departed)
        for name, origin in origins.items()
        if isinstance(origin, Private) and origin.departed
    )


def ever_departed(origins: Mapping[str, Origin], old: Mapping[str, Private]) -> tuple[Departed, ...]:
    """What the line's total has to count: of each name the account that most people have left, towers gone included."""
    now = {each.tower: each for each in departed(origins)}
    for each in departed(old):
        if each.tower not in now or now[each.tower].subjects < each.subjects:
            now[each.tower] = each
    return tuple(now.values())


def drop_towers(model: LatticeModel, names: Collection[str]) -> LatticeModel:
    """The model without these towers and every coordinate that they made; no row is read.

    The heads that used them are gone too: their weights belong to coordinates that are no more.
    """
    if not names:
        return model
    layout = model.layout.without_towers(names)
    blind = {tower_modality(name) for name in names}
    return replace(
        model,
        featurizer=model.featurizer.with_layout(layout),
        statistics=model.statistics.at(model.layout.kept_in(layout)),
        heads={pattern: head for pattern, head in model.heads.items() if not pattern & blind},
        origins={name: origin for name, origin in model.origins.items() if name not in names},
        retired=retired(model.retired, model.origins, names),
        provenance={part: value for part, value in model.provenance.items() if part not in map(part_of, names)},
    )


def missing_towers(model: LatticeModel) -> tuple[str, ...]:
    """The towers that the line's recipe has, of modalities in force, and this version lacks."""
    recipe = Recipe.from_json(model.recipe) if model.recipe else Recipe()
    return tuple(
        name
        for wanted in recipe.towers
        if wanted.modality in model.layout.modalities
        for name in wanted.names()
        if name not in model.origins
    )


def train_towers(
    recipe: Recipe,
    cohort: Cohort,
    names: Collection[str],
    *,
    seed: int,
    shard_key: bytes,
    noise: NoiseSource,
    purpose: str,
    on_progress: Callable[[float, str], None] = lambda done, name: None,
) -> dict[str, Trained]:
    """Train these towers on a cohort's training rows. A tower for which nobody has a row is left out.

    Args:
        recipe: the line's.
        cohort: only training rows are read, of each tower its own channel alone, and of a shard its own people alone.
        names: which towers.
        seed: of ordinary training.
        shard_key: puts people into shards.
        noise: the committed stream, for private towers.
        purpose: binds the noise to the model line and the version to come.
        on_progress: told the finished fraction and which tower comes next.

    Raises:
        TrainingError: no public row has a tower's channel, or the training cannot go on.
    """
    public = cohort.where(partition=Partition.PUBLIC, split=Split.TRAIN)
    revocable = cohort.where(partition=Partition.REVOCABLE, split=Split.TRAIN)
    wanted = [(entry, name) for entry in recipe.towers for name in entry.names() if name in names]
    trained = {}
    for done, (entry, name) in enumerate(wanted):
        on_progress(done / len(wanted), name)
        rows = revocable.restrict([entry.modality])
        origin: Origin
        if isinstance(entry, ShardedRecipe):
            origin = Sharded(entry.names().index(name), entry.shards)
            mine = rows.of_subjects([s for s in rows.subjects if origin.concerns(s, shard_key)])
            if len(mine):
                trained[name] = Trained(train_tower(entry.tower, mine, seed, public=public), origin)
        elif len(rows):
            made = train_private_tower(entry, cohort, noise=noise, purpose=f"{purpose}/tower {name}", seed=seed)
            trained[name] = Trained(made.tower, Private(entry.run))
    return trained


def bring_back(
    model: LatticeModel,
    cohort: Cohort,
    trained: Mapping[str, Trained],
    *,
    noise: NoiseSource,
    purpose: str,
    salt: bytes,
) -> LatticeModel:
    """The model with these towers beside the others; every head that sees their channels is solved from nothing.

    Whatever changes is a function of the rows that are there, constants and fresh noise. Every training row is read.

    Args:
        model: the version before, without them.
        cohort: its rows.
        trained: the towers, trained on these rows.
        noise: the committed stream.
        purpose: binds the noise to the model line and the version to come.
        salt: 32 fresh random bytes, of the new version.

    Raises:
        NotCertifiedError: a head's residual stayed above tau; nothing was released.
    """
    public = cohort.where(partition=Partition.PUBLIC, split=Split.TRAIN)
    towers = {name: made.tower for name, made in trained.items()}
    featurizer = model.featurizer.with_towers(towers, public) if towers else model.featurizer
    rows = training_rows(cohort).restrict(model.layout.modalities)
    statistics = featurizer.statistics(rows)
    seeing = {tower_modality(name) for name in trained}
    again = [p for p in featurizer.layout.patterns if p & seeing or p not in model.heads]
    needs_rows = model.policy.loss == "cross-entropy" and bool(again)
    released = release_heads(
        featurizer.layout,
        statistics,
        again,
        policy=model.policy,
        noise=noise,
        purpose=purpose,
        commitment=statistics.commitment(salt),
        rows=featurizer.head_rows(rows, salt=salt) if needs_rows else None,
    )
    provenance = {part_of(name): made.origin.provenance.value for name, made in trained.items()}
    return replace(
        model,
        featurizer=featurizer,
        statistics=statistics,
        salt=salt,
        heads={pattern: {**model.heads, **released.heads}[pattern] for pattern in featurizer.layout.patterns},
        origins={**model.origins, **{name: made.origin for name, made in trained.items()}},
        provenance={**model.provenance, **provenance},
    )


def _fits_budget(policy: ReleasePolicy, mus: Sequence[float], left: Sequence[Departed]) -> bool:
    """Whether the line's budget covers all of this. An account that cannot be stated at its delta covers nothing."""
    try:
        return epsilon_at(policy.delta, mus, left) <= policy.budget_epsilon
    except PrivacyError:
        return False


def _who_lost(before: Cohort, after: Cohort) -> dict[Modality, list[str]]:
    """For each modality the people whose rows a tower on it no longer has, each once."""
    kept = {row.clip: j for j, row in enumerate(after.rows)}
    lost: dict[Modality, dict[str, None]] = {}
    for i, row in enumerate(before.rows):
        left: Iterable[Modality] = after.present(kept[row.clip]) if row.clip in kept else ()
        for modality in before.present(i) - frozenset(left):
            lost.setdefault(modality, {})[row.subject] = None
    return {modality: list(people) for modality, people in lost.items()}
