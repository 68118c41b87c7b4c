"""The audit's own test: every planted bug must be caught by the attack that its patch names.

    python -m benchmarks.planted_bugs

plants each patch of ``tests/planted/`` in a copy of the code, runs ``mbd attack canaries`` there in a process of its
own, and writes ``benchmarks/results/planted-bugs.json``, from which `benchmarks.readme` makes a table of
docs/attacks.md.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import track

from benchmarks.nursery import Nursery

ROOT = Path(__file__).resolve().parents[1]
PATCHES = ROOT / "tests" / "planted"
RESULT = Path(__file__).with_name("results") / "planted-bugs.json"
PACKAGES = ("mbd", "certs", "migrations")
RELEASES = 2000
"""Of each arm: enough to see noise that is half as large."""


@dataclass(frozen=True)
class Bug:
    """A patch that breaks a claim.

    Attributes:
        name: of its file.
        text: what is wrong, in a sentence.
        attack: the one that must catch it.
        patch: its file.
    """

    name: str
    text: str
    attack: str
    patch: Path


@dataclass(frozen=True)
class Found:
    """What an attack said about code with a bug, or without.

    Attributes:
        broken: the reports that say a claim is broken.
        held: how many say that it holds.
        error: what stopped the attack, if something did: code that cannot run makes no release.
        seconds: of processor time; the libraries were loaded before.
    """

    broken: list[dict[str, Any]]
    held: int
    error: str | None
    seconds: float


def bugs() -> list[Bug]:
    """All planted bugs, by name."""
    found = []
    for patch in sorted(PATCHES.glob("*.patch")):
        first, second, *_ = patch.read_text("utf-8").splitlines()
        found.append(Bug(patch.stem, first.removeprefix("Bug: "), second.removeprefix("Caught by: "), patch))
    return found


def attack(nursery: Nursery, names: list[str], patch: Path | None = None) -> Found:
    """Run these attacks on a copy of the code, with a bug planted in it or without."""
    with tempfile.TemporaryDirectory(prefix="mbd-planted-") as place:
        folder = Path(place)
        for package in PACKAGES:
            shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        if patch is not None:
            git = shutil.which("git") or "git"
            subprocess.run([git, "apply", str(patch)], cwd=folder, check=True, env=_outside_of_git(place))
        only = [word for name in names for word in ("--only", name)]
        done = nursery.run(folder, ["attack", "canaries", *only, "--releases", str(RELEASES), "--json"])
    result = json.loads(done.stdout) if done.stdout.startswith("{") else {"error": done.stderr[-2000:] or "no output"}
    reports = result.get("reports", [])
    lost = [report for report in reports if report["verdict"] == "broken"]
    held = sum(report["verdict"] == "held" for report in reports)
    error = json.dumps(result["error"]) if "error" in result else None
    return Found(lost, held, error, done.seconds)


def main() -> None:
    """Plant every bug, and none."""
    with Nursery() as nursery:
        _measure(nursery)


def _measure(nursery: Nursery) -> None:
    rows = []
    for bug in track(bugs(), "planted bugs"):
        found = attack(nursery, [bug.attack], bug.patch)
        rows.append(
            {
                "bug": bug.name,
                "text": bug.text,
                "attack": bug.attack,
                "caught": bool(found.broken),
                "by": [report["target"] for report in found.broken],
                "held": found.held,
                "error": found.error,
                "seconds": round(found.seconds, 1),
            }
        )
    clean = attack(nursery, sorted({bug.attack for bug in bugs()}))
    whole = {"held": clean.held, "broken": len(clean.broken), "error": clean.error, "seconds": round(clean.seconds, 1)}
    RESULT.write_text(json.dumps({"releases": RELEASES, "bugs": rows, "clean": whole}, indent=1) + "\n")
    missed = [row["bug"] for row in rows if not row["caught"]]
    if missed or clean.broken or clean.error:
        sys.exit(f"missed: {', '.join(missed) or 'none'}; clean code: {whole}")


def _outside_of_git(folder: str) -> dict[str, str]:
    """A patch is applied to plain files, whatever repository lies above the folder."""
    return {**os.environ, "GIT_CEILING_DIRECTORIES": str(Path(folder).parent)}


if __name__ == "__main__":
    main()
