"""Tables and pictures of the comparison, made from result files.

    python -m benchmarks.peers.tables        draws docs/images/peers.svg and membership-roc.svg

`benchmarks.readme` puts the tables into docs/peers.md.
"""

import statistics
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

from benchmarks.cohorts import load_results
from benchmarks.peers.methods import PEERS
from benchmarks.peers.setting import DELTA
from mbd.attacks.membership import Membership, challenge_forgetting, likelihood_ratio_membership

TARGET = Path(__file__).resolve().parents[2] / "docs" / "images" / "peers.svg"
METRIC = {"ravdess": "accuracy", "mosi": "mae"}
NAMES = {"ravdess": "accuracy", "mosi": "MAE"}
COHORTS = ("ravdess", "mosi")
REQUESTS = ("people", "everyone")


class Summary(NamedTuple):
    """One method on one cohort and request, over its worlds.

    Attributes:
        epsilon: claimed, the largest of the worlds; None where nothing is.
        membership: of the likelihood-ratio attack; None where everybody withdrew: nobody never gave a voice,
            and models of another method that never saw one differ in more than exposure.
        forgetting: of the NeurIPS 2023 challenge, against the family's reference in other worlds; None likewise.
        utility, worst: the task's metric with all channels and at the worst pattern, one number a world.
        distance: from the family's reference, in units of what a seed alone changes there.
        relearning: steps over the reference's, by world.
        rank: of the right person among made-up voices: 0 is always found, .5 is chance.
        seconds: of the deletion, by world.
    """

    name: str
    family: str
    epsilon: float | None
    membership: Membership | None
    forgetting: float | None
    utility: list[float]
    worst: list[float]
    distance: list[float]
    relearning: list[float]
    rank: list[float]
    seconds: list[float]


@cache
def summaries(cohort: str, request: str) -> tuple[Summary, ...]:
    """Every method, in the order of the list."""
    found = load_results(f"peers-{cohort}-{request}")
    worlds, metric = found["worlds"], METRIC[cohort]
    pick = min if metric == "accuracy" else max
    references = {peer["family"]: name for name, peer in found["peers"].items() if peer["reference"]}
    made = []
    for name in _order(found):
        peer = found["peers"][name]
        reference = references.get(peer["family"], references["network"])
        mine = [world["methods"][name] for world in worlds]
        theirs = [world["methods"][reference] for world in worlds]
        epsilons = [one["epsilon"] for one in mine if one["epsilon"] is not None]
        full = max(mine[0]["utility"], key=len)
        deep = [(a, b) for a, b in zip(mine, theirs, strict=True) if a.get("relearning") is not None]
        made.append(
            Summary(
                name=name,
                family=peer["family"],
                epsilon=max(epsilons) if epsilons else None,
                membership=_membership(worlds, name) if request == "people" else None,
                forgetting=_forgetting(worlds, name, reference) if request == "people" else None,
                utility=[one["utility"][full][metric] for one in mine],
                worst=[pick(pattern[metric] for pattern in one["utility"].values()) for one in mine],
                distance=[one["distance"][reference] / found["seed_noise"][reference] for one in mine],
                relearning=[(a["relearning"] + 1) / (b["relearning"] + 1) for a, b in deep],
                rank=[one["reconstruction"]["rank"] for one in mine if one.get("reconstruction")],
                seconds=[one["seconds"] for one in mine],
            )
        )
    return tuple(made)


def _order(found: dict[str, Any]) -> list[str]:
    return [peer.name for peer in PEERS if peer.name in found["peers"]]


def _membership(worlds: list[dict[str, Any]], name: str) -> Membership:
    """People who withdrew against people who never gave."""
    score_WS = np.array([world["methods"][name]["scores"] for world in worlds])
    exposed_WS = np.array([world["member"] for world in worlds])
    return likelihood_ratio_membership(score_WS, exposed_WS, delta=DELTA, seed=0)


def _forgetting(worlds: list[dict[str, Any]], name: str, reference: str) -> float:
    """Each person's scores where they were exposed, against the reference's where they never were: other worlds.

    The reference's own score is thus the retrain-against-retrain null.
    """
    mine_WS, theirs_WS = (np.array([world["methods"][one]["scores"] for world in worlds]) for one in (name, reference))
    exposed_WS = np.array([world["member"] for world in worlds])
    people = range(exposed_WS.shape[1])
    return challenge_forgetting(
        [mine_WS[exposed_WS[:, s], s] for s in people], [theirs_WS[~exposed_WS[:, s], s] for s in people]
    )


def peers_table(cohort: str, request: str) -> str:
    """One row a method."""
    rows = summaries(cohort, request)
    again = statistics.fmean(next(row for row in rows if row.name == "retrain").seconds)
    title = NAMES[cohort]
    columns = ("method", f"{title}, all channels", f"{title}, worst pattern", "distance to retrain", "ε claimed")
    columns += (
        "ε at least",
        "TPR at 1 % FPR",
        "forgetting",
        "relearning",
        "rank of the right voice",
        "seconds",
        "times faster",
    )
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for row in rows:
        seconds = statistics.fmean(row.seconds)
        cells = [
            row.name,
            _mean_sd(row.utility),
            _mean_sd(row.worst),
            _plain(statistics.fmean(row.distance)),
            "none" if row.epsilon is None else "exact" if row.epsilon == 0 else f"{row.epsilon:.2g}",
            *_told(row.membership),
            "-" if row.forgetting is None else f"{row.forgetting:.2f}",
            f"{statistics.fmean(row.relearning):.2f}" if row.relearning else "-",
            f"{statistics.fmean(row.rank):.2f}" if row.rank else "-",
            f"{seconds:.2f}",
            f"{again / seconds:,.0f}" if seconds else "-",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _told(membership: Membership | None) -> tuple[str, str]:
    """The audited epsilon, and the true positive rate with its interval."""
    if membership is None:
        return "-", "-"
    rate = membership.true_at[0.01]
    return f"{membership.epsilon:.2f}", f"{rate.value:.2f} [{rate.low:.2f}, {rate.high:.2f}]"


def _plain(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:,.0f}"


def _mean_sd(values: list[float]) -> str:
    return f"{_plain(statistics.fmean(values))} ± {_plain(statistics.stdev(values))}"


def methods_table() -> str:
    """Where each method comes from, and what differs from its paper."""
    found = load_results("peers-ravdess-people")
    lines = ["| method | works on | source | deviations |", "|---|---|---|---|"]
    for name in _order(found):
        peer = found["peers"][name]
        lines.append(f"| {name} | {peer['family']} | {peer['source']} | {'; '.join(peer['deviations']) or 'none'} |")
    return "\n".join(lines)


def draw() -> None:
    """Left: what is claimed against what was audited. Right: accuracy against time. RAVDESS, some people's voices."""
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "mbd"  # the same results draw the same file
    rows = summaries("ravdess", "people")
    figure, (claims, times) = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
    none_at = 30.0
    left: list[tuple[str, float, float]] = []
    right: list[tuple[str, float, float]] = []
    for row in rows:
        assert row.membership is not None, "of some people's voices membership is measured"
        ours, proves = row.name.startswith("ours"), row.epsilon is not None
        colour = "#1b6ca8" if ours else "#6d8494" if proves else "#c1502e"
        claimed = none_at if row.epsilon is None else max(row.epsilon, 0.02)
        claims.plot(claimed, row.membership.epsilon, "o", color=colour, markersize=8 if ours else 6)
        seconds = max(statistics.fmean(row.seconds), 0.02)
        times.plot(seconds, statistics.fmean(row.utility), "o", color=colour, markersize=8 if ours else 6)
        left.append((row.name, claimed, row.membership.epsilon))
        right.append((row.name, seconds, statistics.fmean(row.utility)))
    _label_apart(claims, left, 0.15, left_of=none_at)
    _label_apart(times, right, 0.0115, left_of=np.inf)
    times.set_ylim(0.5, 0.9)
    times.set_xlim(0.015, 150)
    line = np.geomspace(0.02, 10, 50)
    claims.plot(line, line, "--", color="#999999", linewidth=1)
    claims.fill_between(line, line, 4, color="#c1502e", alpha=0.08, linewidth=0)
    claims.text(0.025, 2.6, "a broken claim lies here", fontsize=8, color="#c1502e")
    claims.set_xscale("log")
    claims.set_ylim(-0.1, 4)
    claims.set_xticks([0.02, 0.1, 1, 10, none_at], ["exact", "0.1", "1", "10", "nothing\nclaimed"])
    claims.minorticks_off()
    claims.set_xlabel("epsilon claimed")
    claims.set_ylabel("epsilon at least (audited)")
    claims.set_title("Promises and what the attack found", fontsize=10)
    times.set_xscale("log")
    times.set_xlabel("seconds of one deletion")
    times.set_ylabel("accuracy on unseen people, all channels")
    times.set_title("What is left, and how fast", fontsize=10)
    for axis in (claims, times):
        axis.spines[["top", "right"]].set_visible(False)
    handles = [
        plt.Line2D([], [], marker="o", linestyle="", color=colour, label=label)
        for colour, label in (("#1b6ca8", "ours"), ("#6d8494", "claims a bound"), ("#c1502e", "claims nothing"))
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(TARGET, metadata={"Date": None})


def draw_roc() -> None:
    """The membership attack's receiver operating characteristic, logarithmic axes: RAVDESS, some people's voices."""
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "mbd"
    shown = {
        "nothing deleted": ("#c1502e", "-"),
        "MBD surgery, corrected": ("#c1502e", ":"),
        "gradient ascent": ("#d9a441", "-"),
        "synaptic dampening": ("#d9a441", ":"),
        "retrain": ("#6d8494", "-"),
        "retrain, heads": ("#6d8494", ":"),
        "ours": ("#1b6ca8", "-"),
    }
    figure, axis = plt.subplots(figsize=(5.6, 4.4), layout="constrained")
    by_name = {row.name: row for row in summaries("ravdess", "people")}
    for name, (colour, style) in shown.items():
        membership = by_name[name].membership
        assert membership is not None, "of some people's voices membership is measured"
        roc, least = membership.roc, 0.5 / membership.roc.unexposed
        axis.step(
            np.maximum(roc.false_P, least),
            np.maximum(roc.true_P, least),
            where="post",
            color=colour,
            linestyle=style,
            label=name,
        )
    axis.plot([0.005, 1], [0.005, 1], "--", color="#bbbbbb", linewidth=1, label="a coin")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("false positive rate")
    axis.set_ylabel("true positive rate")
    axis.set_title("Whose voice was withdrawn? RAVDESS", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=7.5, loc="lower right")
    figure.savefig(TARGET.with_name("membership-roc.svg"), metadata={"Date": None})


def _label_apart(axis: Any, points: list[tuple[str, float, float]], step: float, *, left_of: float) -> None:
    """Names beside (x, y), stacked upwards in steps where points lie together; at x >= left_of to the left."""
    taken: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for name, x, y in sorted(points, key=lambda point: (point[2], point[1])):
        left = x >= left_of
        height = y
        while any(abs(height - h) < 0.95 * step and abs(np.log10(x / at)) < 0.75 for at, h in taken[left]):
            height += step / 4
        taken[left].append((x, height))
        axis.annotate(
            name,
            (x, y),
            xytext=(x * (0.8 if left else 1.25), height),
            fontsize=6.5,
            va="center",
            ha="right" if left else "left",
            arrowprops={"arrowstyle": "-", "color": "#bbbbbb", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2},
        )


if __name__ == "__main__":
    draw()
    draw_roc()
