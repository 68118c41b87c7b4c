"""What the rules of the house are held against: the repository's text files, and the command line as a tree."""

import subprocess
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root."""
    return ROOT


@pytest.fixture(scope="session")
def tracked() -> dict[str, str]:
    """Every text file that git tracks, by its path from the root."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is no git checkout")
    texts = {}
    for name in filter(None, listed.stdout.split("\0")):
        try:
            texts[name] = (ROOT / name).read_text("utf-8")
        except (UnicodeDecodeError, FileNotFoundError):  # binary, or removed and not yet committed
            continue
    return texts


@pytest.fixture(scope="session")
def program():
    """The root of the command line."""
    from mbd.cli.app import app

    return typer.main.get_command(app)
