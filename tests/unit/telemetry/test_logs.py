"""Log lines have known fields alone, whoever speaks, and no words of others."""

import io
import json
import logging
import subprocess
import sys

import pytest
import structlog

from mbd.errors import CohortError
from mbd.telemetry import logs

PLANTED = "anna.meier@example.org"


@pytest.fixture
def written():
    """Lines that went through the one handler; the root logger is as it was, afterwards."""
    stream, root = io.StringIO(), logging.getLogger()
    handler, before = logs.lines(stream), root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.removeHandler(handler)
    root.setLevel(before)


def test_a_line_says_when_and_what(written):
    logs.logger("mbd.tests").info("done", step="solving", seconds=0.5)
    (line,) = written()
    assert line.pop("at").endswith("+00:00")
    expected = {"level": "info", "logger": "mbd.tests", "event": "done", "step": "solving", "seconds": 0.5}
    assert line == expected


def test_a_field_that_is_not_known_and_a_value_that_is_not_plain_are_dropped_by_name(written):
    logs.logger("mbd.tests").info("done", subject=PLANTED, step={"of": PLANTED}, route=b"x", error=[1])
    (line,) = written()
    assert line["dropped"] == ["error", "route", "step", "subject"]
    assert PLANTED not in str(line)


def test_what_is_bound_to_the_context_is_in_every_line_even_of_libraries(written):
    with structlog.contextvars.bound_contextvars(request_id="r", subject=PLANTED):
        logs.logger("mbd.tests").info("done")
        logging.getLogger("sqlalchemy.engine").warning(PLANTED)
    assert [(line["request_id"], line["dropped"]) for line in written()] == [("r", ["subject"])] * 2


@pytest.mark.parametrize("words", [(PLANTED,), ("from %s", PLANTED), ({"to": PLANTED},), (ValueError(PLANTED),)])
def test_a_librarys_words_are_left_out_and_their_place_is_named(written, words):
    logging.getLogger("uvicorn.error").error(*words, extra={"email": PLANTED}, stack_info=True)
    (line,) = written()
    assert line["where"].startswith("test_logs.test_a_librarys_words")
    assert "event" not in line
    assert PLANTED not in str(line)


def test_our_own_words_come_without_their_arguments(written):
    logging.getLogger("mbd.lattice").warning("certified after %d iterations of %s", 3, PLANTED)
    assert written()[0]["event"] == "certified after %d iterations of %s"


def test_an_error_is_its_types_and_its_places(written):
    def fail():
        try:
            raise KeyError(PLANTED)
        except KeyError as error:
            raise CohortError(f"Nobody is called {PLANTED}.", remedy=f"ask {PLANTED}") from error

    with pytest.raises(CohortError) as found:
        fail()
    logs.logger("mbd.tests").error("failed", error=found.value)
    logging.getLogger("dbos").error("failed", exc_info=found.value)
    for line in written():
        assert line["error"] == ["mbd.errors.CohortError", "KeyError"]
        assert line["trace"][-1].rpartition(":")[0] == f"{__name__}.fail"
        assert PLANTED not in str(line)


def test_quiet_levels_cost_nothing(written):
    log = logs.logger("mbd.quiet")
    logging.getLogger("mbd.quiet").setLevel(logging.WARNING)
    log.info("not said")
    assert written() == []


PROGRAM = f"""
import logging, sys, threading, warnings
early = logging.getLogger("early")
early.addHandler(logging.StreamHandler())
early.propagate = False
from mbd.telemetry import logs
logs.begin(sys.stderr, "debug")
import dbos
early.error("{PLANTED}")
logging.getLogger("dbos").error("{PLANTED}")
logging.getLogger("uvicorn.access").info("{PLANTED}")
logging.getLogger("x").error("%d", "{PLANTED}")
logs.logger("mbd.tests").debug("details")
warnings.warn("{PLANTED}")
thread = threading.Thread(target=lambda: int("{PLANTED}"))
thread.start()
thread.join()
class Unfinished:
    def __del__(self):
        raise OSError("{PLANTED}")
Unfinished()
raise ValueError("{PLANTED}")
"""


def test_a_process_speaks_in_no_other_way():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert PLANTED not in done.stderr
    said = [json.loads(line) for line in done.stderr.splitlines()]
    events = [line.get("event", line["logger"]) for line in said]
    ends = ["a thread ends", "an error in a finaliser", "the process ends"]
    assert events == ["early", "dbos", "x", "details", "a library warns", *ends]
