"""What every command promises: exit codes, one JSON object for programs, plain text that fits for people."""

import re
import sys
from dataclasses import replace

import pytest
import typer

from mbd.cli.app import app

FAULT = """
import mbd.cohort.describe

def broken(cohort):
    raise ZeroDivisionError("oh")

mbd.cohort.describe.describe = broken
from mbd.cli.app import main
main()
"""
POLICY = """
import os, sys
from mbd.cli.app import main
try:
    main()
finally:
    print(os.environ["OMP_WAIT_POLICY"], "torch" in sys.modules)
"""


def commands(command, path=()):
    """Every command that can be run, as the program itself knows them."""
    inner = getattr(command, "commands", None)
    return [" ".join(path)] if inner is None else [c for name in inner for c in commands(inner[name], (*path, name))]


COMMANDS = commands(typer.main.get_command(app))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_usage_error_is_one_json_object_for_programs_and_words_for_people(mbd, command):
    for_programs = mbd(*command.split(), "--no-such-option", "--json")
    assert (for_programs.code, for_programs.json["error"]["type"]) == (2, "UsageError")
    assert for_programs.err == ""
    for_people = mbd(*command.split(), "--no-such-option")
    assert (for_people.code, for_people.out) == (2, "")
    assert f"Try 'mbd {command} --help' for help." in for_people.err


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_a_narrow_terminal_and_cuts_no_sentence(mbd, command):
    done = mbd(*command.split(), "--help")
    assert (done.code, done.err) == (0, "")
    assert max(map(len, done.out.splitlines())) <= 80
    assert not [line for line in done.out.splitlines() if re.search(r"\w\.\.\.$", line)]


def test_tables_fit_a_narrow_terminal_and_keep_names_whole(home, demo, mbd):
    cohort = home / "lines" / "demo" / "2" / "cohort"
    for command in (
        ("evaluate", "--line", "demo", "--home", home),
        ("predict", cohort, "--line", "demo", "--home", home),
        ("data", "describe", cohort),
        ("lineage", "--home", home),
        ("lineage", "--subject", demo.json["subject"], "--home", home),
        ("certificate", "verify", demo.bundle, "--trusted-root", demo.trusted_root),
        ("certificate", "replay", demo.bundle, "--home", home),
    ):
        done = mbd(*command)
        assert done.code == 0, done.err
        assert max(map(len, done.out.splitlines())) <= 80
        assert "…" not in done.out
        assert "\x1b" not in done.out
    narrow = mbd("evaluate", "--line", "demo", "--home", home, COLUMNS="60").out
    assert "available" in narrow
    assert "\ntav " in narrow


def test_a_name_in_a_file_is_neither_markup_nor_a_command_to_the_terminal(mbd, tmp_path):
    from mbd.cohort import folder
    from mbd.cohort.synthetic import Subjects, synthetic_cohort

    cohort = synthetic_cohort(subjects=Subjects(1, 1, 1, 1), clips=1)
    folder.write(replace(cohort, name="[red]\x1b[2Jgone"), tmp_path / "cohort", key=b"k" * 32)
    done = mbd("data", "describe", tmp_path / "cohort")
    assert done.out.startswith("[red]\ufffd[2Jgone (synthetic).")


def test_a_reader_that_leaves_early_is_no_fault(demo, program, run):
    done = run("sh", "-c", f"'{program}' data describe '{demo.home}/lines/demo/2/cohort' | true")
    assert "Traceback" not in done.err


def test_a_fault_of_the_program_is_one_json_object_and_a_traceback(demo, run):
    cohort = demo.home / "lines" / "demo" / "2" / "cohort"
    done = run(sys.executable, "-c", FAULT, "data", "describe", cohort, "--json")
    assert (done.code, done.json["error"]["type"], done.json["error"]["message"]) == (1, "ZeroDivisionError", "oh")
    assert "Traceback" in done.err


def test_two_busy_cores_do_not_stall_in_openmp(run):
    done = run(sys.executable, "-c", POLICY, "--version")
    assert done.out.splitlines()[-1] == "passive False"
    kept = run(sys.executable, "-c", POLICY, "--version", OMP_WAIT_POLICY="active")
    assert kept.out.splitlines()[-1] == "active False"
