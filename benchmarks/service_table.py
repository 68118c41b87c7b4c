"""The table of docs/operations.md, made from what `benchmarks.service` measured; a target that was missed says so."""

from typing import Any

from benchmarks.cohorts import load_results

FILING_TARGET = 200  # a second
READ_TARGET = 50  # milliseconds
IMPORT_TARGET = 2  # seconds
MEMORY_TARGET = 200  # megabytes

Row = tuple[str, str, str, bool]
"""What, how much, the target, and whether it is met."""


def service_table() -> str:
    """Every figure of the issue, on SQLite, and what came out right on PostgreSQL."""
    found = load_results("service")
    cores = found["environment"]["cores"]
    lines = [f"| with clients on the same {cores} cores | measured | target | |", "|---|---|---|---|"]
    rows = [*_sqlite(found), *_postgresql(found["postgresql"])]
    return "\n".join(lines + [f"| {' | '.join(row[:3])} | {'met' if row[3] else 'MISSED'} |" for row in rows])


def _sqlite(found: dict[str, Any]) -> list[Row]:
    sqlite = found["sqlite"]
    slowest, reads = max(sqlite["reads"].items(), key=lambda each: each[1]["p99_ms"])
    size = f"{found['requests']:,} requests and {found['leaves']:,} leaves"
    return [
        _filing(sqlite["filing"], found["clients"], "SQLite", target=FILING_TARGET),
        (
            f"slowest of {len(sqlite['reads'])} reads ({slowest}) at {size}, 99th percentile",
            f"{reads['p99_ms']:.0f} ms",
            f"{READ_TARGET} ms",
            reads["p99_ms"] < READ_TARGET,
        ),
        _batch(sqlite["batch"], "SQLite"),
        (
            "memory of the API process after all that",
            f"{sqlite['api_megabytes']:.0f} MB",
            f"{MEMORY_TARGET} MB",
            sqlite["api_megabytes"] < MEMORY_TARGET,
        ),
        (
            "import of the API",
            f"{sqlite['import_seconds']:.1f} s",
            f"{IMPORT_TARGET} s",
            sqlite["import_seconds"] < IMPORT_TARGET,
        ),
    ]


def _postgresql(found: dict[str, Any]) -> list[Row]:
    where = f"PostgreSQL {found['server_version']}"
    return [_filing(found["filing"], None, where, target=None), _batch(found["batch"], where, timed=False)]


def _filing(found: dict[str, Any], clients: int | None, where: str, *, target: int | None) -> Row:
    by = f" by {clients} clients" if clients else ""
    rate, lost = found["per_second"], found["lost"]
    wanted = "none lost" if target is None else f"{target} a second, none lost"
    met = lost == 0 and (target is None or rate >= target)
    return f"requests filed{by}, {where}", f"{rate:.0f} a second; {lost} of {found['filed']:,} lost", wanted, met


def _batch(found: dict[str, Any], where: str, *, timed: bool = True) -> Row:
    asked, workers = found["requests"], found["workers"]
    whole = found["ledger_whole"] and found["completed"] == found["certificates"] == asked
    took = f"{found['seconds']:.0f} s; " if timed else ""
    measured = f"{took}{found['certificates']:,} certificates; {found['versions'] - 1} solve"
    what = f"{asked:,} approved revocations worked off by {workers} worker{'s' * (workers > 1)}, {where}"
    return what, measured, "one solve, a certificate each", whole and found["versions"] == 2
