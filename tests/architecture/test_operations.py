"""What the services say of themselves is in docs/operations.md, and the words of log lines stand in the source."""

import ast
import re

from mbd.telemetry.logs import FIELDS

LEVELS = {"debug", "info", "warning", "error", "critical", "exception", "log"}


def rows(root, first_of):
    """The names in the first column of the table that begins with that row."""
    text = (root / "docs" / "operations.md").read_text("utf-8")
    table = text[text.index(f"| {first_of} |") :].split("\n\n")[0]
    return {name for row in table.splitlines() for name in re.findall(r"`([a-z_]+)`", row.split("|")[1])}


def test_every_metric_is_documented_and_no_other(root, tracked):
    in_source = set(re.findall(r'"(mbd_[a-z_]+)"', (root / "mbd" / "telemetry" / "metrics.py").read_text("utf-8")))
    assert len(in_source) > 10
    assert rows(root, "Metric") == in_source


def test_every_field_of_a_log_line_is_documented_and_no_other(root):
    assert rows(root, "Field") == set(FIELDS)


def calls(tracked):
    """Every call of a logger, with the file in which it is."""
    for name, text in tracked.items():
        if name.endswith(".py") and name.startswith(("mbd/", "api/")):
            for node in ast.walk(ast.parse(text)):
                match node:
                    case ast.Call(func=ast.Attribute(value=ast.Name(id="_log"), attr=level)) if level in LEVELS:
                        yield name, node


def test_the_words_of_log_lines_stand_in_the_source(tracked):
    """An f-string would carry what differs from line to line past the list of known fields."""
    found = [(name, call.args[1 if call.func.attr == "log" else 0]) for name, call in calls(tracked)]
    assert len(found) >= 5
    assert [name for name, words in found if not is_literal(words)] == []


def is_literal(words):
    match words:
        case ast.Constant(value=str()):
            return True
        case ast.IfExp(body=one, orelse=other):
            return is_literal(one) and is_literal(other)
    return False


def test_every_field_that_is_logged_is_known(tracked):
    known = {*FIELDS, None}  # None: fields in a dictionary, which are held against the list when they are written
    found = {(name, each.arg) for name, call in calls(tracked) for each in call.keywords}
    assert {(name, field) for name, field in found if field not in known} == set()
