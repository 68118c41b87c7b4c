"""The documents' tables, made from result files and from the code; nothing in them is typed.

python -m benchmarks.readme           write them into README.md and the documents
python -m benchmarks.readme --check   exit 1 if a document has other ones
"""

import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import missing
from benchmarks.cohorts import NAMES, load_results, size_then_order
from benchmarks.ledger_table import ledger_table
from benchmarks.peers import tables
from benchmarks.service_table import service_table
from mbd.backbones.zoo import ZOO
from mbd.benchmark.leaderboard import METRICS, markdown
from mbd.benchmark.result import Endings
from mbd.metrics.bootstrap import Interval, paired_interval

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = {
    "ravdess": {"accuracy": "accuracy", "macro_f1": "macro F1"},
    "mosi": {"mae": "MAE", "corr": "Corr", "acc2_non0": "Acc-2 Non0", "f1_non0": "F1 Non0", "acc7": "Acc-7"},
}
ZOO_COHORTS = ("mosi", "wordlevel", "ravdess")
METHODS = {"lattice": "lattice", "run by run": "lattice, chosen run by run", "ridge": "ridge"}


def accuracy_table(name: str) -> str:
    """Mean and SD over seeds (folds of a seed averaged first), one row for each method."""
    runs = load_results(name)["runs"]
    metrics = COLUMNS[name]
    error = "wrong clips" if name == "ravdess" else "error"
    lines = [
        "| available | method | " + " | ".join(metrics.values()) + f" | {error} less than ridge's, 95 % interval |",
        "|---|---|" + "---|" * (len(metrics) + 1),
    ]
    for pattern in sorted(runs[0]["patterns"], key=size_then_order):
        for method, title in METHODS.items():
            cells = [_mean_sd(runs, pattern, method, metric) for metric in metrics]
            cells.append("" if method == "ridge" else _gain(runs, pattern, method))
            lines.append(f"| {NAMES[pattern]} | {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def withdrawal_table(name: str) -> str:
    """Each withdrawal in order, and the accuracy of the others before and after."""
    story = load_results(name)["withdrawals"]
    metric = next(iter(COLUMNS[name]))
    title = COLUMNS[name][metric]
    lines = [
        f"| withdraws voice | mechanism | guarantee | statistics = refit | certificate | {title} of others | after |",
        "|---|---|---|---|---|---|---|",
    ]
    for step in story:
        full, rest = (max(step[when], key=size_then_order) for when in ("before", "after"))
        cells = [
            step["who"],
            step["mechanism"],
            _guarantee(step["guarantee"]),
            *_shown(step),
            f"{step['before'][full][metric]:.3f} ({NAMES[full]})",
            f"{step['after'][rest][metric]:.3f} ({NAMES[rest]})",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def deletion_table() -> str:
    """What a deletion costs, beside what was aimed at; a target that was missed says so."""
    found = load_results("deletion")
    small, *_, large = sorted(found["deletion_seconds"], key=int)
    one, people = found["deletion_seconds"][large], found["batch"]["people"]
    batch = found["batch"]["seconds"] / people
    refit, again = found["refit_seconds"][large], found["retraining"]
    rate = found["accumulation_seconds_per_row"]
    lost = round(found["accuracy"]["points"]["ta"]["acc2_non0"], 3) + 0.0  # no minus before a zero
    how = f"extrapolated from {again['extrapolated_from_steps']} steps to {again['epochs']} epochs"
    noise = f"epsilon {found['accuracy']['epsilon']:g}, mean of {found['accuracy']['releases']} releases"
    rows = f"{int(large):,} rows"
    growth, faster = one / found["deletion_seconds"][small], one / batch
    refits, trainings = refit / one, again["seconds"][large] / one
    kept = int(large) * rate["statistics"] + found["solve_all_heads_seconds"]
    share, peak = rate["product"] / rate["statistics"], found["peak_memory_mib"]
    lines = [
        ("one person's voice, 4 heads", f"{1000 * one:.1f} ms, {1 / one:.0f} a second", "100 a second", one <= 0.01),
        (f"the same, {rows} beside {int(small):,}", f"{growth:.2f} times", "1.3 times", growth <= 1.3),
        (f"{people:,} people at once", f"{1000 * batch:.2f} ms each, 1/{faster:.0f}", "1/10", faster >= 10),
        (f"refit of the heads on {rows}", f"{refit:,.0f} s, {refits:,.0f} times", "1,000 times", refits >= 1e3),
        ("the same, were all features kept (extrapolated)", f"{kept:,.1f} s, {kept / one:,.0f} times", "", None),
        (
            f"training backbone and heads on {rows} ({how})",
            f"{again['seconds'][large] / 3600:,.1f} h, {trainings:,.0f} times",
            "10,000 times",
            trainings >= 1e4,
        ),
        (
            "accumulating statistics, beside the bare matrix product",
            f"{1 / rate['statistics']:,.0f} rows/s, {share:.0%}",
            "60%",
            share >= 0.6,
        ),
        (f"peak memory of summing {rows}, the rows not counted", f"{peak:,.0f} MiB", "1,024 MiB", peak <= 1024),
        (f"Acc-2 points that the noise costs on MOSI ({noise})", f"{lost:.3f}", "0.05", lost < 0.05),
    ]
    head = ["| at D = 448, on one core | measured | target | |", "|---|---|---|---|"]
    verdict = {True: "met", False: "MISSED", None: ""}
    return "\n".join(head + [f"| {a} | {b} | {c} | {verdict[met]} |" for a, b, c, met in lines])


def openssl_block() -> str:
    """The one fenced block of the specification's section on openssl."""
    section = (ROOT / "certs" / "SPEC.md").read_text().partition("with openssl")[2]
    return "```sh" + section.partition("```sh")[2].partition("```")[0] + "```"


def zoo_rows() -> str:
    """One row a backbone."""
    return "\n".join(f"| {b.name} | {b.fidelity} | {'; '.join(b.deviations)} |" for b in ZOO.values())


def leaderboard(name: str, table: str) -> str:
    """One table of the zoo's results on a cohort."""
    return markdown(*load_results(f"zoo-{name}")[table]).rstrip("\n")


def zoo_trainings(name: str) -> str:
    """How much was trained, and how it ended."""
    found = load_results(f"zoo-{name}")
    folds = f"{found['folds']} fold{'s'[: found['folds'] > 1]}"
    return f"{found['people']} test people in {folds}, {found['seeds']} seeds. {Endings(**found['endings'])}"


def zoo_withdrawals(name: str) -> str:
    """One voice that is withdrawn from a line on each backbone: what was done, what is proved, what is left."""
    found = load_results(f"zoo-{name}")
    metric = found["metric"]
    columns = ["backbone", "mechanism", "rows", "guarantee", "statistics = refit", "certificate"]
    columns += [f"{METRICS[metric]} of the line", "after"]
    rows = [
        [
            backbone,
            step["mechanism"],
            str(step["rows"]),
            _guarantee(step["guarantee"]),
            *_shown(step),
            *(f"{step[when][metric]:.3f}" for when in ("before", "after")),
        ]
        for backbone, step in found["withdrawals"].items()
    ]
    return markdown(columns, rows).rstrip("\n")


def alignment_table() -> str:
    """What AlignMamba-2's regularisers cost in training and at inference: ratios of paired times."""
    found = load_results("alignmamba")
    rows = [
        [what, *(f"{found[what][part]:.3f}" for part in ("ratio", "low", "high"))] for what in ("inference", "training")
    ]
    return markdown(["CPU time with regularisers over without", "median", "from", "to"], rows).rstrip("\n")


def reliability_table() -> str:
    """How QA-MoE's reliabilities follow what was done to real clips: Spearman's correlations."""
    columns = ["cohort", "reliability of", "when", "of the mean", "row by row"]
    rows, variances, fell = [], [], []
    for cohort, found in load_results("reliability").items():
        for what, value in found.items():
            if " under " in what:
                of, _, when = what.partition(" under ")
                rows.append([cohort, of, f"more {when}", *(f"{value[part]:.2f}" for part in ("mean", "each"))])
        stated = found["stated over real"]
        variances.append(f"{cohort} {stated['clean']:.2f} and {stated['noisy']:.2f}")
        fell.append(f"{cohort} {found['fell']} of {found['seeds']}")
    said = (
        f"Seeds at which the row's mean falls with noise (at most -0.8): {'; '.join(fell)}. Stated over real squared "
        f"error, clean and with noise of 2 standard deviations: {'; '.join(variances)}."
    )
    return f"{markdown(columns, rows)}\n{said}"


def clips_table() -> str:
    """Word error rates of the transcriber that comes with us."""
    rows = [[name, str(found["clips"]), f"{found['wer']:.3f}"] for name, found in load_results("clips").items()]
    return markdown(["emotion", "clips", "word error rate"], rows).rstrip("\n")


def audit_table() -> str:
    """Distinguishing audits at full strength: the claim, and what was found below it."""
    found = load_results("audit")
    seconds = f"seconds for {found['releases']:,} releases an arm"
    lines = [
        f"| line | head | history | constants | numbers | μ claimed | μ at least | {seconds} |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found["audits"]:
        constants = "loud" if row["loudly"] else "as shipped"
        cells = [row["line"], row["head"], row["history"], constants, f"{row['numbers']:,}"]
        cells += [f"{row['mu_claimed']:.4g}", f"{row['mu_bound']:.4g}", f"{row['seconds']:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def planted_table() -> str:
    """Every planted bug: what is wrong, what caught it, at what cost."""
    found = load_results("planted-bugs")
    lines = ["| planted bug | caught by | where it showed | seconds |", "|---|---|---|---|"]
    for row in found["bugs"]:
        where = ", ".join(row["by"][:3]) + (f" and {len(row['by']) - 3} more" if len(row["by"]) > 3 else "")
        lines.append(
            f"| {row['text']} | {row['attack'] if row['caught'] else 'NOT CAUGHT'} | {where} | {row['seconds']:.0f} |"
        )
    clean = found["clean"]
    lines.append(f"| none: the code as it is | nothing: {clean['held']} reports hold | | {clean['seconds']:.0f} |")
    return "\n".join(lines)


def seed_means(runs: list[dict[str, Any]], pattern: str, method: str, metric: str) -> list[float]:
    """One number a seed: the mean over its folds."""
    by_seed: dict[int, list[float]] = {}
    for run in runs:
        by_seed.setdefault(run["seed"], []).append(run["patterns"][pattern][method][metric])
    return [statistics.fmean(values) for values in by_seed.values()]


def gain_over_ridge(runs: list[dict[str, Any]], pattern: str, method: str) -> Interval:
    """How much less a method's error a row is than ridge's, over all runs, with people drawn again."""
    gains: dict[int, float] = {}
    rows: dict[int, float] = {}
    for run in runs:
        people = run["patterns"][pattern]["people"]
        for number, count, mine, ridge in zip(
            people["number"], people["rows"], people[method], people["ridge"], strict=True
        ):
            gains[number] = gains.get(number, 0.0) + ridge - mine
            rows[number] = rows.get(number, 0.0) + count
    return paired_interval(np.array(list(gains.values())), np.array(list(rows.values())))


def _gain(runs: list[dict[str, Any]], pattern: str, method: str) -> str:
    found = gain_over_ridge(runs, pattern, method)
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def _mean_sd(runs: list[dict[str, Any]], pattern: str, method: str, metric: str) -> str:
    means = seed_means(runs, pattern, method, metric)
    return f"{statistics.fmean(means):.3f} ± {statistics.stdev(means):.3f}"


def _shown(step: dict[str, Any]) -> tuple[str, str]:
    """Whether statistics are a refit's and weights within their bound, and whether the certificate verified."""
    equal = "bit for bit" if step["statistics_equal"] and step["weights_within_bound"] else "NO"
    return equal, "valid" if step["certificate"].startswith("valid as of") else "INVALID"


def _guarantee(guarantee: dict[str, Any]) -> str:
    if guarantee["class"] != "certified":
        return str(guarantee["class"])
    point, total = guarantee["curve"][0], guarantee["totalCurve"][0]
    return f"certified, ε {point['epsilon']:.2g} (so far {total['epsilon']:.2g}) at δ {point['delta']:g}"


DOCUMENTS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {
        "openssl": openssl_block,
        "zoo": zoo_rows,
        "deletion": deletion_table,
        **{f"accuracy {name}": partial(accuracy_table, name) for name in COLUMNS},
        **{f"withdrawals {name}": partial(withdrawal_table, name) for name in COLUMNS},
    },
    "docs/benchmarks.md": {
        "alignment": alignment_table,
        "reliability": reliability_table,
        **{
            f"{table} {name}": partial(leaderboard, name, table)
            for name in ZOO_COHORTS
            for table in ("with_all_channels", "by_protocol", "balance_and_cost")
        },
        **{f"trainings {name}": partial(zoo_trainings, name) for name in ZOO_COHORTS},
        **{f"zoo withdrawals {name}": partial(zoo_withdrawals, name) for name in ZOO_COHORTS},
    },
    "docs/clips.md": {"clips": clips_table},
    "docs/attacks.md": {"audit": audit_table, "planted": planted_table},
    "docs/ledger.md": {"ledger": ledger_table},
    "docs/missing.md": {
        **{f"fixed {name}": partial(missing.fixed_table, name) for name in COLUMNS},
        **{f"rates {name}": partial(missing.rate_table, name) for name in COLUMNS},
    },
    "docs/operations.md": {"service": service_table},
    "docs/peers.md": {
        "methods": tables.methods_table,
        **{
            f"peers {cohort} {request}": partial(tables.peers_table, cohort, request)
            for cohort in tables.COHORTS
            for request in tables.REQUESTS
        },
    },
}
"""What makes each table of each document, by the table's marker."""


def render(text: str, document: str = "README.md") -> str:
    """A document with every table between its markers made anew."""
    for key, make in DOCUMENTS[document].items():
        begin, end = f"<!-- begin {key} -->", f"<!-- end {key} -->"
        head, found, rest = text.partition(begin)
        _, closed, tail = rest.partition(end)
        if not found or not closed:
            raise SystemExit(f"{document} has no place for the table '{key}'")
        text = f"{head}{begin}\n{make()}\n{end}{tail}"
    return text


if __name__ == "__main__":
    for document in DOCUMENTS:
        path = ROOT / document
        current = path.read_text()
        made = render(current, document)
        if "--check" in sys.argv[1:]:
            if made != current:
                sys.exit(f"{document} differs from the result files: run `python -m benchmarks.readme`")
        else:
            path.write_text(made)
