"""The table of docs/ledger.md, made from what `benchmarks.ledger` measured; a target that was missed says so."""

from typing import Any

from benchmarks.cohorts import load_results

BATCH_TARGET = 10_000  # appends a second
PROOF_TARGET, VERIFICATION_TARGET, OPENING_TARGET = 1e-3, 3e-3, 0.1  # seconds
MEMORY_GROWTH = 1.05  # what two runs of the same thing may differ by

Row = tuple[str, str, str, str, str, bool | None]
"""What, ours, plain INSERTs, pymerkle, target, and whether it is met."""


def ledger_table() -> str:
    """Every row on SQLite, then those of PostgreSQL, which pymerkle has not."""
    found = load_results("ledger")
    environment = found["environment"]
    lines = [
        f"| at {found['leaves']:,} leaves | ours | plain INSERTs | pymerkle {environment['pymerkle']} | target | |",
        "|---|---|---|---|---|---|",
    ]
    rows = _sqlite(found, f"SQLite {environment['sqlite']}")
    rows += _postgresql(found, f"PostgreSQL {environment['postgresql']['server_version']}")
    verified = found["verification"]
    stamp = "time stamp included" if verified["time_stamp"] else "without a time stamp"
    rows.append(
        (
            f"full offline verification of a certificate, {stamp}",
            _ms(verified["ours"]),
            "",
            "",
            "3 ms",
            verified["ours"] < VERIFICATION_TARGET,
        )
    )
    verdict = {True: "met", False: "MISSED", None: ""}
    return "\n".join(lines + [f"| {' | '.join(row[:5])} | {verdict[row[5]]} |" for row in rows])


def _sqlite(found: dict[str, Any], where: str) -> list[Row]:
    sqlite, size = found["sqlite"], found["batch"]
    single, batch, opening, check = (sqlite[name] for name in ("single", "batch", "opening", "check"))
    rows = _appends(sqlite, size, where)
    rows[0] = _beside(rows[0], _rate(single["pymerkle"]), single["ours"] < single["pymerkle"])
    rows[1] = _beside(rows[1], _rate(batch["pymerkle"], size), batch["ours"] < batch["pymerkle"])
    rows += [
        (
            "one by one, beside pymerkle's bare row in WAL mode, which makes no root",
            _rate(single["ours"]),
            "",
            _rate(single["pymerkle_wal"]),
            "",
            None,
        ),
        (
            "in batches, beside the same",
            _rate(batch["ours"], size),
            "",
            _rate(batch["pymerkle_no_root"], size),
            "",
            None,
        ),
    ]
    for name, title in (("inclusion", "inclusion proof"), ("consistency", "consistency proof"), ("root", "root")):
        ours, theirs = sqlite[name]["ours"], sqlite[name]["pymerkle"]
        target = "1 ms, and faster" if name == "inclusion" else "faster"
        met = ours < theirs and (name != "inclusion" or ours < PROOF_TARGET)
        rows.append((f"{where}: {title} at a random place", _ms(ours), "", _ms(theirs), target, met))
    small, large = sorted(sqlite["check_memory_mib"].items(), key=lambda entry: int(entry[0]))
    return [
        *rows,
        (
            f"{where}: opening in a new process, imports apart ({sqlite['imports']['ours']:.1f} s)",
            _ms(opening["ours"]),
            "",
            _ms(opening["pymerkle"]),
            "100 ms, and faster",
            opening["ours"] < OPENING_TARGET and opening["ours"] < opening["pymerkle"],
        ),
        (
            f"{where}: the whole log re-hashed",
            f"{check['ours']:.1f} s",
            "",
            f"{check['pymerkle']:.1f} s",
            "faster",
            check["ours"] < check["pymerkle"],
        ),
        (
            f"{where}: memory of that process, beside {int(small[0]):,} leaves",
            f"{large[1]:.0f} MiB, {small[1]:.0f} MiB",
            "",
            "",
            "no growth",
            large[1] < MEMORY_GROWTH * small[1],
        ),
    ]


def _postgresql(found: dict[str, Any], where: str) -> list[Row]:
    postgresql = found["postgresql"]
    rows = _appends(postgresql, found["batch"], where)
    for name, title in (("inclusion", "inclusion proof"), ("consistency", "consistency proof"), ("root", "root")):
        ours = postgresql[name]["ours"]
        rows.append((f"{where}: {title} at a random place", _ms(ours), "", "", "1 ms", ours < PROOF_TARGET))
    return rows


def _appends(database: dict[str, Any], size: int, where: str) -> list[Row]:
    single, batch = database["single"], database["batch"]
    share, of_driver = single["plain"] / single["ours"], single["driver"] / single["ours"]
    return [
        (
            f"{where}: append one by one, with the new root",
            f"{_rate(single['ours'])}, {share:.2f} of plain ({of_driver:.2f} of the driver's)",
            f"{_rate(single['plain'])} (driver alone {_rate(single['driver'])})",
            "",
            "0.5 of plain",
            share >= 0.5,
        ),
        (
            f"{where}: append in batches of {size:,}, with the new root",
            _rate(batch["ours"], size),
            f"{_rate(batch['plain'], size)} (driver alone {_rate(batch['driver'], size)})",
            "",
            f"{BATCH_TARGET:,}/s",
            size / batch["ours"] >= BATCH_TARGET,
        ),
    ]


def _beside(row: Row, theirs: str, faster: bool) -> Row:
    """The same row with pymerkle's figure, which must be the slower one."""
    what, ours, plain, _, target, met = row
    return what, ours, plain, theirs, f"{target}, and faster", bool(met) and faster


def _rate(seconds: float, rows: int = 1) -> str:
    return f"{rows / seconds:,.0f}/s"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms"
