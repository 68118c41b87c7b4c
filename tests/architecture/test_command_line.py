"""The README shows commands that exist, and each command explains itself."""

import re
import shlex
from typing import get_args

import pytest

PROMPT = re.compile(r"^\s*(?:\$ )?(?:\.venv/bin/)?(mbd .*)$")
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)


def shown_commands(markdown):
    """The command lines of mbd in fenced blocks, with continued lines joined."""
    lines = "\n".join(FENCE.findall(markdown)).replace("\\\n", " ").splitlines()
    return [found[1] for line in lines if (found := PROMPT.match(line))]


def complaint(program, line):
    """What is wrong with a command line, or None. Words after a pipe, a redirection or && are another program's."""
    words = shlex.split(re.split(r"\s(?:\||>|&&|;)", line)[0], comments=True)[1:]
    command, takes_value, is_value = program, {"--version": False, "--help": False}, False
    for word in words:
        name, given, _ = word.partition("=")
        if is_value:
            is_value = False
        elif name.startswith("--"):
            if name not in takes_value:
                return f"{line!r}: there is no option {name}"
            is_value = takes_value[name] and not given
        elif inner := getattr(command, "commands", None):
            if word not in inner:
                return f"{line!r}: there is no command {word!r}"
            command = inner[word]
            known = {option: not getattr(p, "is_flag", False) for p in command.params for option in p.opts}
            takes_value = {"--help": False} | known
    alone = not getattr(command, "commands", None) or (command is not program and command.invoke_without_command)
    whole = alone or {"--version", "--help"} & set(words)
    return None if whole else f"{line!r} is not a whole command"


def every_command(command, path=("mbd",)):
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from every_command(inner, (*path, name))


def test_every_command_in_the_readme_exists_with_its_options(root, program):
    shown = shown_commands((root / "README.md").read_text("utf-8"))
    assert shown, "README.md shows no command of mbd"
    assert [wrong for line in shown if (wrong := complaint(program, line))] == []


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("mbd revoke --subject 'a b' --modality audio --home DIR | head  # as it was", None),
        ("mbd certificate verify B --trusted-root=FILE && echo yes --no", None),
        ("mbd data import mosi SOURCE TARGET --json > file", None),
        ("mbd --version", None),
        ("mbd retire --subject a", "no command 'retire'"),
        ("mbd revoke --person a", "no option --person"),
        ("mbd ledger check", "no command 'check'"),
        ("mbd ledger", "not a whole command"),
    ],
)
def test_a_wrong_line_of_the_readme_would_be_found(program, line, wrong):
    text = f"text\n\n```console\n$ {line}\noutput\n```\n"
    assert shown_commands(text) == [line]
    found = complaint(program, line)
    assert (wrong in found) if wrong else found is None


def test_commands_outside_of_fenced_blocks_are_prose():
    assert shown_commands("mbd is good\n\n    mbd old\n\n```\nmbd \\\n  keys show\n```") == ["mbd    keys show"]


def test_every_command_and_option_explains_itself(program):
    silent = []
    for path, command in every_command(program):
        if not (command.help or "").strip().endswith((".", ".)")):
            silent.append(" ".join(path))
        silent += [f"{' '.join(path)} {p.name}" for p in command.params if not getattr(p, "help", None)]
    assert silent == []


def test_every_recipe_can_be_asked_for_and_no_other():
    from mbd.cli.models import RecipeName
    from mbd.training import recipes
    from mbd.training.recipe import Recipe

    made = {name for name, value in vars(recipes).items() if callable(value) and value is not Recipe}
    assert set(get_args(RecipeName)) == made
