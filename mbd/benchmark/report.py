"""A finished benchmark as files: the leaderboard in Markdown, and pictures. It measures nothing."""

from collections.abc import Sequence
from pathlib import Path

from mbd.benchmark.figures import draw
from mbd.benchmark.leaderboard import (
    METRICS,
    Leaderboard,
    balance_and_cost,
    by_condition,
    by_protocol,
    markdown,
    with_all_channels,
)
from mbd.benchmark.plan import Plan
from mbd.benchmark.result import Endings, Result
from mbd.cohort.cohort import Cohort
from mbd.cohort.protocols import Protocol
from mbd.durable import write_durably

_LEGEND = """\
Mean ± standard deviation over seeds. Networks are ordered by their mean error over all conditions. *Error against
control* is the difference of mean errors a row over all conditions, less being better, with a 95 % interval over test
people and seeds; *over people alone* is a paired bootstrap interval over people, for these very seeds. No interval is
corrected for how many networks are compared. φ is the Shapley value of a modality: what it takes off the mean error of
a row. MEI and MLI are by our own definitions (`mbd/metrics/balance.py`)."""


def write_report(
    plan: Plan, cohort: Cohort, results: Sequence[Result], board: Leaderboard, out: Path
) -> Sequence[Path]:
    """Write ``leaderboard.md`` and the pictures; their paths."""
    text = [
        f"# {cohort.name}: {len(board.backbones)} networks, {plan.seeds} seed{'s'[: plan.seeds > 1]}",
        _LEGEND,
        str(Endings.of(results, plan.recipe.patience)),
        *(["## All channels", markdown(*with_all_channels(board))] if board.complete in board.conditions else []),
        f"## By protocol: {METRICS[board.headline]}, mean over its conditions",
        markdown(*by_protocol(board)),
        "## Balance and cost",
        markdown(*balance_and_cost(board)),
    ]
    for protocol in Protocol:
        if board.of_protocol(protocol):
            text += [f"## {protocol}: {METRICS[board.headline]}", markdown(*by_condition(board, protocol))]
    path = out / "leaderboard.md"
    write_durably(path, ("\n\n".join(part.rstrip("\n") for part in text) + "\n").encode())
    return [path, *draw(board, out)]
