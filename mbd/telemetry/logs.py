"""Log lines: one JSON object each, with fields of known names alone. It knows no request and no person.

What a library or an exception says is never written, because it may quote a name, an address, a path or a parameter.
Written is where it was said (module, function, line: its own source has the words) and of which type an error is.
"""

import logging
import sys
import threading
import warnings
from collections.abc import Iterator, MutableMapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import structlog
from structlog.stdlib import BoundLogger, ProcessorFormatter

FIELDS = {
    "at": "When, in UTC.",
    "level": "`debug`, `info`, `warning`, `error` or `critical`.",
    "logger": "Which part of the program, or which library.",
    "event": "What happened, in words that stand in the source. Absent where a library spoke: see `where`.",
    "where": "In a library, the module, function and line whose words were left out.",
    "request_id": "Of the HTTP request, as in its answer's header `x-request-id`.",
    "method": "Of HTTP.",
    "route": "The route's template, as in `/openapi.json`: never the path itself.",
    "status": "Of the answer.",
    "seconds": "How long it took.",
    "error": "The types of an exception and of its causes, the last raised first. Never their messages.",
    "trace": "Where it was raised, the innermost call last.",
    "revocation": "The id of a request to revoke.",
    "step": "Of the work on a request.",
    "tries": "How often something was tried.",
    "origin": "Of a log that asked a witness.",
    "old": "The size that it wanted extended.",
    "size": "The size of its new checkpoint.",
    "root": "The root of its new checkpoint.",
    "answer": "What the witness answered where it did not cosign.",
    "request": "What the log sent, where it may prove a fork: a checkpoint and a proof.",
    "dropped": "Names of fields that were not written, because they are not in this list or hold no plain value.",
}
"""Every field that a line can have, and what it means."""

_OURS = "mbd"
_DEEPEST = 30
_LONGEST_CHAIN = 5


def logger(name: str) -> BoundLogger:
    """A logger of ours. Its events are literals; whatever differs from line to line is a field of `FIELDS`.

    Args:
        name: beginning with ``mbd.``.
    """
    wrapped: BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[structlog.stdlib.filter_by_level, ProcessorFormatter.wrap_for_formatter],
        wrapper_class=BoundLogger,
        cache_logger_on_first_use=True,
    )
    return wrapped


def lines(stream: TextIO) -> logging.Handler:
    """A handler that writes every record of `logging` as a line of JSON."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        ProcessorFormatter(
            processors=[_known_alone, structlog.processors.JSONRenderer()],
            use_get_message=False,  # the arguments are not looked at
        )
    )
    return handler


def begin(stream: TextIO, level: str) -> None:
    """Make this the only way in which the process speaks, whatever libraries have set up or set up later.

    Args:
        stream: standard error, as a rule.
        level: of our own lines, from which on they are written. Of libraries it is never less than ``warning``.
    """
    logging.raiseExceptions = False  # its complaint about a bad call would print the arguments
    root = logging.getLogger()
    root.handlers[:] = [lines(stream)]
    ours = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(max(ours, logging.WARNING))
    logging.getLogger("dbos").addHandler(logging.NullHandler())  # it adds one of its own where it finds none
    for known in [each for each in logging.root.manager.loggerDict.values() if isinstance(each, logging.Logger)]:
        known.handlers[:] = [each for each in known.handlers if isinstance(each, logging.NullHandler)]
        known.propagate = True
    logging.getLogger(_OURS).setLevel(ours)
    _catch_the_rest()


def _catch_the_rest() -> None:
    """What Python itself would print with a message: warnings, and exceptions that nobody has caught."""
    log = logger("mbd.process")

    def warned(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, *_more: object, **_rest: object
    ) -> None:
        log.warning("a library warns", error=[category.__name__], where=f"{Path(filename).stem}:{lineno}")

    def raised(_type: type[BaseException], error: BaseException, _traceback: TracebackType | None) -> None:
        if not isinstance(error, KeyboardInterrupt):
            log.critical("the process ends", error=error)

    def raised_in_thread(raised: threading.ExceptHookArgs) -> None:
        if raised.exc_type is not SystemExit:
            log.critical("a thread ends", error=raised.exc_value)

    warnings.showwarning = warned
    sys.excepthook = raised
    threading.excepthook = raised_in_thread
    sys.unraisablehook = lambda args: log.error("an error in a finaliser", error=args.exc_value)


def _known_alone(_logger: object, _method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    """The line of a record: the fields that are known, with plain values."""
    record: logging.LogRecord = event.pop("_record")
    ours = event.pop("_from_structlog") or record.name.partition(".")[0] == _OURS
    words = event.pop("event")
    said: dict[str, Any] = {"event": words} if ours else {"where": _place(record)}
    said = {**said, **structlog.contextvars.get_contextvars(), **event}
    error = said.pop("exc_info", None)
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(said.get("error"), BaseException):
        error = said.pop("error")
    if isinstance(error, BaseException):
        said |= {"error": list(_types(error)), "trace": _trace(error)}
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    line = {"at": at, "level": record.levelname.lower(), "logger": record.name}
    line |= {name: value for name, value in said.items() if name in FIELDS and _is_plain(value)}
    dropped = sorted(said.keys() - line.keys())
    return line | ({"dropped": dropped} if dropped else {})


def _place(record: logging.LogRecord) -> str:
    return f"{record.module}.{record.funcName}:{record.lineno}"


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(each, str) for each in value)
    return value is None or isinstance(value, str | int | float)


def _types(error: BaseException) -> Iterator[str]:
    """Of an error and of what it was raised from, with their modules where they are not Python's."""
    found: BaseException | None = error
    for _ in range(_LONGEST_CHAIN):
        if found is None:
            return
        kind = type(found)
        yield kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)


def _trace(error: BaseException) -> list[str]:
    frames, at = [], error.__traceback__
    while at is not None:
        code = at.tb_frame.f_code
        frames.append(f"{at.tb_frame.f_globals.get('__name__', '?')}.{code.co_name}:{at.tb_lineno}")
        at = at.tb_next
    return frames[-_DEEPEST:]
