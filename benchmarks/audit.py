"""The distinguishing audit at full strength: 100,000 releases of each arm, on canaries and on lines of real people.

    python -m benchmarks.audit

Writes ``benchmarks/results/audit.json``, from which `benchmarks.readme` makes a table of docs/attacks.md. Two processes
share the audits; seconds are processor time.
"""

import json
import platform
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib import metadata
from typing import Any, NamedTuple

from rich.progress import Progress

from benchmarks.cohorts import RESULTS, cohorts
from mbd.attacks.canary import canary, known_noise, make_line, small
from mbd.attacks.distinguishing import History, audit_release, deletion_arms, loud
from mbd.cohort.cohort import Cohort, Pair, Partition, Split
from mbd.cohort.modality import Modality, parse_pattern
from mbd.deletion.outcome import Revocation
from mbd.lattice.model import LatticeModel
from mbd.lattice.release import ReleasePolicy
from mbd.privacy.gaussian import epsilon_of
from mbd.training import recipes
from mbd.training.recipe import Recipe

RELEASES = 100_000
NOISE = known_noise(0)


class Audit(NamedTuple):
    """One audit: of a line's head, from a history, at the line's own constants or at loud ones."""

    line: str
    head: str
    history: History
    loudly: bool


AUDITS = [
    *[Audit("canary", "a", history, True) for history in ("real", "flattest", "dense", "one-sided")],
    Audit("canary", "tav", "flattest", True),
    Audit("canary", "a", "flattest", False),
    *[Audit("mosi", head, "flattest", True) for head in ("a", "ta")],
    Audit("mosi", "ta", "real", False),
    *[Audit("ravdess", head, "flattest", True) for head in ("a", "av")],
    Audit("ravdess", "av", "real", False),
]


def run(audit: Audit) -> dict[str, Any]:
    """One audit; its line is made anew, which takes seconds."""
    model, cohort, pairs = _line(audit.line)
    policy = loud(model.policy) if audit.loudly else model.policy
    arms = deletion_arms(model, cohort, Revocation(pairs, "audit"), history=audit.history, policy=policy, seed=0)
    head = parse_pattern(audit.head)
    report = audit_release(arms, (head,), noise=NOISE, releases=RELEASES, target=" ".join(map(str, audit)))
    claim = report.claim or 0.0
    found = report.to_json()
    return {
        **audit._asdict(),
        "mu_claimed": claim,
        "mu_bound": report.estimates[0].value,
        "distance": report.estimates[1].value,
        "confidence": report.estimates[0].confidence,
        "epsilon_claimed": epsilon_of(claim, policy.delta),
        "delta": policy.delta,
        "verdict": report.verdict,
        "numbers": found["details"]["coordinates"],
        "seconds": round(report.seconds, 1),
    }


def _line(name: str) -> tuple[LatticeModel, Cohort, frozenset[Pair]]:
    if name == "canary":
        people = canary(0)
        made = make_line(
            people.cohort, small(Recipe()), policy=ReleasePolicy(), noise=NOISE, purpose="before", flat=True
        )
        return made, people.cohort, people.pairs
    _, _, cohort = next(cohorts(name))
    recipe: Recipe = getattr(recipes, name)()
    who = next(
        row.subject
        for i, row in enumerate(cohort.rows)
        if (row.partition, row.split) == (Partition.REVOCABLE, Split.TRAIN) and Modality.AUDIO in cohort.present(i)
    )
    made = make_line(cohort, recipe, policy=ReleasePolicy(), noise=NOISE, purpose="before")
    return made, cohort, frozenset({(who, Modality.AUDIO)})


def main() -> None:
    """Run all audits."""
    found = []
    with Progress() as progress, ProcessPoolExecutor(2) as pool:
        bar = progress.add_task("audits", total=len(AUDITS))
        for done in as_completed([pool.submit(run, audit) for audit in AUDITS]):
            found.append(done.result())
            progress.advance(bar)
    order = {tuple(audit): n for n, audit in enumerate(AUDITS)}
    found.sort(key=lambda row: order[row["line"], row["head"], row["history"], row["loudly"]])
    environment = {"python": platform.python_version(), "torch": metadata.version("torch").partition("+")[0]}
    result = {"releases": RELEASES, "environment": environment, "audits": found}
    (RESULTS / "audit.json").write_text(json.dumps(result, indent=1) + "\n")
    for row in found:
        print(row["line"], row["head"], row["history"], f"claim {row['mu_claimed']:.4g}, bound {row['mu_bound']:.4g}")


if __name__ == "__main__":
    main()
