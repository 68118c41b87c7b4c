"""What of a withdrawn channel is left in a deployment: every file of it, and every table of its database.

PostgreSQL's own files (old row versions, write-ahead log) lie elsewhere: name their folder, and those of logs and
backups, to have them searched too. A backup from before a deletion holds the values by nature, and is reported.
"""

import math
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import MetaData, select

from mbd.attacks.containers import could_be_container
from mbd.attacks.leaks import Hit, Needle, Source, find, needles_of, sweep
from mbd.attacks.report import Report
from mbd.backbones.zoo import known
from mbd.cohort.cohort import EVERYONE, Cohort, Pair, Partition
from mbd.lattice.model import LatticeModel
from mbd.records.database import begin_snapshot
from mbd.training.data import data_digest, public_rows, training_rows
from mbd.training.recipe import Recipe
from mbd.workflow.filing import complaint, live_cohorts
from mbd.workflow.live import load_live_model
from mbd.workflow.system import System

_CHUNK = 1 << 22
_MOST = 200
"""Of each line so many withdrawn channels of single rows are looked for; of more, evenly chosen ones."""


def needles_before(system: System, pairs: frozenset[Pair]) -> list[Needle]:
    """Withdrawn values of every live line, before they are withdrawn: channels, and the features made of them.

    Also the digest of the rows that shaped a network which the deletion has to replace: it would confirm a guess. Not
    values that a row holds which stays: finding them says nothing.
    """
    stays = {
        left.feature(i, modality).tobytes()
        for _, cohort in live_cohorts(system)
        for left in [cohort.without(pair for pair in pairs if complaint(cohort, pair) is None)]
        for i in range(len(left))
        for modality in left.present(i)
    }
    values: dict[str, NDArray[np.generic]] = {}
    digests: list[Needle] = []
    for live, cohort in live_cohorts(system):
        mine = frozenset(pair for pair in pairs if complaint(cohort, pair) is None)
        if mine:
            model = load_live_model(system, live)
            values |= _values(live.line, cohort, model, mine, stays)
            recipe = Recipe.from_json(model.recipe)
            if recipe.trains_on == "everyone":
                digest, after = (_digest(some, recipe) for some in (cohort, cohort.without(mine)))
                if digest != after:
                    digests.append(Needle(f"{live.line}, training rows", "the digest in a transcript", digest.encode()))
    return [*needles_of(values), *digests]


def hits_now(system: System, needles: list[Needle], *, also: Iterable[Path] = ()) -> list[Hit]:
    """Where the deployment holds them: somewhere, as long as nothing was deleted."""
    return find(sources(system, also=also), needles).hits


def sweep_deployment(system: System, needles: list[Needle], *, before: list[Hit], also: Iterable[Path] = ()) -> Report:
    """Search the whole deployment after a deletion.

    Args:
        system: the deployment.
        needles: of `needles_before`.
        before: of `hits_now`, before the deletion.
        also: more folders or files: logs, backups, the database server's own.

    Raises:
        AttackError: nothing had been found before.
    """
    return sweep(sources(system, also=also), needles, before=before, target=f"{system.home}")


def sources(system: System, *, also: Iterable[Path] = ()) -> Iterator[Source]:
    """Every file below the state folder and the named ones, and every table as the database gives it out."""
    for root in (system.home, *also):
        files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
        for path in files:
            yield str(path), _chunks(path)
    tables = MetaData()
    with begin_snapshot(system.engine) as connection:
        tables.reflect(connection)
        for table in tables.sorted_tables:
            rows = connection.execute(select(table))
            cells = [_cell(value) for row in rows for value in row]
            yield f"table {table.name}", cells
            for number, cell in enumerate(cells):
                if could_be_container(cell):
                    yield f"table {table.name}, cell {number}", [cell.removesuffix(b"\n")]


def _chunks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except FileNotFoundError:  # a database server moves its own files while they are read
        return


def _cell(value: object) -> bytes:
    return (bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()) + b"\n"


def _digest(cohort: Cohort, recipe: Recipe) -> str:
    _, selection = public_rows(cohort)
    context = known(recipe.backbone).reads_context
    return data_digest(training_rows(cohort, recipe.partitions), selection, context=context)


def _values(
    line: str, cohort: Cohort, model: LatticeModel, pairs: frozenset[Pair], stays: Collection[bytes]
) -> dict[str, NDArray[np.generic]]:
    """Each withdrawn channel of each row, and, in lines without a network that goes, its features on the grid."""
    closure = cohort.closure(pairs)
    found: dict[str, NDArray[np.generic]] = {}
    wanted = [
        (i, modality)
        for i, row in enumerate(cohort.rows)
        for modality in cohort.present(i)
        if row.partition is Partition.REVOCABLE
        and ((row.subject, modality) in closure or (EVERYONE, modality) in closure)
        and cohort.feature(i, modality).tobytes() not in stays
    ]
    for i, modality in wanted[:: max(1, math.ceil(len(wanted) / _MOST))]:
        clip = cohort.rows[i].clip
        found[f"{line}, {clip}, {modality.value}"] = cohort.feature(i, modality)
        phi_D = model.featurizer.features(cohort, [i])[0]
        for block in model.layout.blocks:
            if modality in block.channels and block.start + 4 < block.indicator:
                found[f"{line}, {clip}, features of {block.name}"] = phi_D[block.start : block.indicator]
    return found
