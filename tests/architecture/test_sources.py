"""Sizes, names and words that the house does not want, in every file that git tracks."""

import re
import tomllib

LONGEST = 400
ALLOWED_LONGER: dict[str, str] = {}  # path -> reason
UNTELLING = {"utils", "util", "common", "helpers", "helper", "core", "manager", "managers", "misc"}

# Put together here, so that this file does not hold what it looks for.
MACHINE_PATH = re.compile(r"(?<![\w.*}\-])/(?:" + "|".join(("root", "work", "home", "Users")) + r")(?:/|\b)")
REGISTRY = re.compile(
    "|".join((r"pypi\.(?:org|python)", "python" + "hosted", r"npm" + r"js\.", r"download\.py" + "torch"))
)
MARKERS = re.compile(r"\b(?:TO" + "DO|FIX" + "ME|X" + "XX)\\b")


def sources(tracked):
    return {name: text for name, text in tracked.items() if name.endswith(".py")}


def test_no_module_is_longer_than_a_person_reads(tracked):
    long = {
        name: len(text.splitlines())
        for name, text in sources(tracked).items()
        if name.startswith(("mbd/", "certs/", "migrations/", "api/")) and len(text.splitlines()) > LONGEST
    }
    assert set(long) == set(ALLOWED_LONGER), long


def test_every_name_tells_what_is_in_it(tracked):
    parts = {part.removesuffix(".py"): name for name in sources(tracked) for part in name.split("/")}
    assert {part: name for part, name in parts.items() if part in UNTELLING} == {}


def test_every_module_opens_with_what_it_does(tracked):
    silent = [
        name
        for name, text in sources(tracked).items()
        if name.startswith(("mbd/", "certs/", "migrations/", "api/", "benchmarks/"))
        and not re.match(r'(?:#.*\n)*r?"""\S', text)
    ]
    assert silent == []


def test_no_file_knows_the_machine_it_was_written_on(tracked):
    found = [
        f"{name}:{number}: {line.strip()[:80]}"
        for name, text in tracked.items()
        for number, line in enumerate(text.splitlines(), 1)
        if MACHINE_PATH.search(line) or REGISTRY.search(line)
    ]
    assert found == []


def test_nothing_is_left_for_later(tracked):
    assert [name for name, text in tracked.items() if MARKERS.search(text)] == []


def test_a_machine_path_or_a_registry_would_be_found():
    for line in ('open("/' + 'root/x")', "cd /" + "work", "see /" + "home/someone/x", "x=/" + "Users/a"):
        assert MACHINE_PATH.search(line)
    for line in ("mbd/workflow/x.py", "a /workflow", "~/x", "docs/home/x", "/rootHash"):
        assert not MACHINE_PATH.search(line)
    assert REGISTRY.search("https://py" + "pi.org/simple")


def test_every_version_is_locked(tracked):
    """What plain pip installs from constraints.txt is one version of each."""
    locked = [line for line in tracked["constraints.txt"].splitlines() if line and not line.startswith("#")]
    assert locked
    assert [line for line in locked if not re.fullmatch(r"[A-Za-z0-9._\-]+==[^\s=]+(?:\s*;.*)?", line)] == []
    names = {re.split("==", line)[0].lower().replace("_", "-") for line in locked}
    project = tomllib.loads(tracked["pyproject.toml"])["project"]
    direct = {
        re.split(r"[\[<>=~! ;]", dependency)[0].lower()
        for group in (project["dependencies"], *project["optional-dependencies"].values())
        for dependency in group
    } - {project["name"]}
    assert direct <= names
