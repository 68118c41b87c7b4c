"""Follows somebody's log (C2SP tlog-tiles) and remembers what it signed: a fork or a step back raises an alarm.

It needs neither keys nor a database, and any log of that form will do. The last checkpoint in one file, and evidence
beside it, are all that it keeps. What entries say is not its business: it counts the kinds that it knows.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from glob import escape
from pathlib import Path
from typing import Any, Never

from certs import checkpoint as checkpoints
from certs.checkpoint import Checkpoint
from certs.encoding import encode_base64, parse_json
from certs.errors import CertificateError
from certs.log_reader import LogReader
from certs.merkle import verify_consistency
from certs.note import NoteKey
from certs.tiles import TILE_WIDTH
from mbd.durable import write_durably
from mbd.errors import LogAlarmError, MonitorError, UnreachableLogError
from mbd.workflow.log_source import CHECKPOINT, Source

OTHER_KIND = "other"
_KINDS = {"hashedrekord", "notice"}
_ATTEMPTS = 3

Progress = Callable[[int, int], None]
"""Called with (new entries read, new entries in all)."""


class Alarm(StrEnum):
    """What a log must never do. Its two signatures prove a fork; a step back may also be an old copy on the way."""

    FORK = "fork"
    ROLLBACK = "rollback"


_REMEDIES = {
    Alarm.FORK: "show the evidence to whoever relies on this log; to follow it all the same, move the file away",
    Alarm.ROLLBACK: "look at the log from another place, for an old copy on the way looks the same; then show the "
    "evidence to whoever relies on it, or move the file away",
}


@dataclass(frozen=True)
class Signed:
    """A checkpoint whose signature holds: what it says, and the note as it was received."""

    checkpoint: Checkpoint
    note: str


@dataclass(frozen=True)
class Seen:
    """One look at a log in which everything was in order.

    Attributes:
        checkpoint: what the log says of itself now.
        previous_size: what was remembered; 0 at the first look.
        kinds: how many of the new entries are of each kind that is known, and how many are of none of them.
    """

    checkpoint: Checkpoint
    previous_size: int
    kinds: dict[str, int]

    @property
    def new_entries(self) -> int:
        """How many entries the log has more than were remembered."""
        return self.checkpoint.size - self.previous_size


def look(source: Source, keys: Sequence[NoteKey], state: Path, *, progress: Progress | None = None) -> Seen:
    """Look at a log once: check its signature, that it extends what is remembered, and every new entry; remember it.

    The first look reads the whole log and believes the checkpoint that it meets. Crash points: what is remembered
    changes last, after everything was checked, and until then the next look does all of it again. Evidence is on disk
    before the alarm is raised, and while it lies there, every later look is an alarm too.

    Args:
        source: the log's files.
        keys: the log's; one of them must have signed.
        state: the file that holds the last checkpoint as it was signed; it need not exist.
        progress: told how far it has come, for every bundle of entries.

    Raises:
        LogAlarmError: the log has forked or gone back, now or at an earlier look.
        UnreachableLogError: it cannot be reached, or serves what its checkpoint does not commit to.
        MonitorError: the state is of another log or of other keys.
    """
    _raise_known_alarm(state)
    remembered = _remembered(keys, state)
    received = _received(source, keys)
    if remembered is not None:
        _compare(state, remembered, received)
    size, old = received.checkpoint.size, 0 if remembered is None else remembered.checkpoint.size
    kinds: Counter[str] = Counter()
    try:
        reader = LogReader(source.fetch, received.checkpoint)
        if remembered is not None:
            _require_extension(state, remembered, received, reader)
        for number, entry in enumerate(reader.entries(old, size), start=1):
            kinds[_kind(entry)] += 1
            if progress is not None and (number % TILE_WIDTH == 0 or number == size - old):
                progress(number, size - old)
    except CertificateError as error:
        raise _unsound(error) from error
    state.parent.mkdir(parents=True, exist_ok=True)
    write_durably(state, received.note.encode())
    return Seen(received.checkpoint, old, dict(sorted(kinds.items())))


def look_patiently(
    source: Source,
    keys: Sequence[NoteKey],
    state: Path,
    *,
    progress: Progress | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Seen:
    """`look`, up to three times where the log cannot be reached or serves what does not verify: it may be growing."""
    for attempt in range(1, _ATTEMPTS):
        try:
            return look(source, keys, state, progress=progress)
        except UnreachableLogError:
            sleep(2.0**attempt)
    return look(source, keys, state, progress=progress)


def _received(source: Source, keys: Sequence[NoteKey]) -> Signed:
    data = source.fetch(CHECKPOINT)
    if data is None:
        raise UnreachableLogError("The log has no checkpoint there.", remedy="check the log's address")
    try:
        note = data.decode("utf-8")
        return Signed(checkpoints.verify(note, keys)[0], note)
    except UnicodeDecodeError as error:
        raise UnreachableLogError("The log's checkpoint is not text.", remedy="check the log's address") from error
    except CertificateError as error:
        raise _unsound(error) from error


def _remembered(keys: Sequence[NoteKey], state: Path) -> Signed | None:
    try:
        note = state.read_text("utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        note = ""
    try:
        return Signed(checkpoints.verify(note, keys)[0], note)
    except CertificateError as error:
        raise MonitorError(
            f"{state} holds no checkpoint that these keys signed.",
            remedy="give the key of the log that it remembers, as well as its newer ones, or another --state",
        ) from error


def _compare(state: Path, remembered: Signed, received: Signed) -> None:
    """What two checkpoints show without any tile."""
    old, new = remembered.checkpoint, received.checkpoint
    if old.origin != new.origin:
        raise MonitorError(
            f"{state} remembers {old.origin}, but this is {new.origin}.", remedy="use one --state for each log"
        )
    if new.size < old.size:
        _raise_alarm(state, Alarm.ROLLBACK, remembered, received)
    if new.size == old.size and new.root != old.root:
        _raise_alarm(state, Alarm.FORK, remembered, received)


def _require_extension(state: Path, remembered: Signed, received: Signed, reader: LogReader) -> None:
    """The tree that was remembered is the beginning of the one that was received, as its own tiles show."""
    old, new = remembered.checkpoint, received.checkpoint
    proof, prefix = reader.consistency_proof(old.size, new.size), reader.root_at(old.size)
    try:
        verify_consistency(old.size, new.size, old.root, new.root, proof)
    except CertificateError:
        # With both, whoever holds the two notes can check that the second one commits to another beginning.
        shown = {"prefixRoot": encode_base64(prefix), "consistencyProof": [encode_base64(value) for value in proof]}
        _raise_alarm(state, Alarm.FORK, remembered, received, **shown)


def _raise_alarm(state: Path, alarm: Alarm, remembered: Signed, received: Signed, **shown: Any) -> Never:
    old, new = remembered.checkpoint, received.checkpoint
    what = "has forked" if alarm is Alarm.FORK else "has gone back"
    heads = " and ".join(f"size {head.size} with root {head.root.hex()}" for head in (old, new))
    message = f"{new.origin} {what}: it has signed {heads}."
    kept = {"alarm": alarm.value, "message": message, "remembered": remembered.note, "received": received.note} | shown
    path = state.with_name(f"{_evidence_prefix(state)}{alarm}-{old.size}-{new.size}.json")
    write_durably(path, (json.dumps(kept, indent=2, ensure_ascii=False) + "\n").encode())
    raise LogAlarmError(
        f"{message} Both checkpoints are in {path}.", remedy=_REMEDIES[alarm], alarm=alarm, evidence=path
    )


def _raise_known_alarm(state: Path) -> None:
    """Nobody can overlook an alarm by looking again."""
    for path in sorted(state.parent.glob(f"{escape(_evidence_prefix(state))}*.json")):
        alarm = Alarm(path.name.removeprefix(_evidence_prefix(state)).partition("-")[0])
        raise LogAlarmError(
            f"There was an alarm earlier ({alarm}): both checkpoints are in {path}.",
            remedy=_REMEDIES[alarm],
            alarm=alarm,
            evidence=path,
        )


def _evidence_prefix(state: Path) -> str:
    return f"{state.name}.evidence-"


def _kind(entry: bytes) -> str:
    try:
        value = parse_json(entry)
    except CertificateError:
        return OTHER_KIND
    kind = value.get("kind") if isinstance(value, dict) else None
    return kind if isinstance(kind, str) and kind in _KINDS else OTHER_KIND


def _unsound(error: CertificateError) -> UnreachableLogError:
    return UnreachableLogError(
        f"The log serves what does not verify ({error.code}): {error.message}",
        remedy="try again later, or from another copy of the log; if it stays so, ask its operator",
    )
