"""Whose word about a log is enough: the C2SP tlog-policy file of logs, witnesses, groups and the quorum.

It decides whether a signed checkpoint is good enough. It knows no leaves, no proofs, and not how cosignatures are got.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Never

from certs import checkpoint as checkpoints
from certs import note as notes
from certs.checkpoint import Checkpoint
from certs.encoding import MAX_BYTES, decode_decimal, shown
from certs.errors import CertificateError, Code
from certs.keys import PublicKey
from certs.note import NoteKey, SignatureType

NONE: Final = "none"
"""The predefined name of a quorum that needs nobody."""

_LOG_TYPES = (SignatureType.LOG, SignatureType.COSIGNATURE_ML_DSA_44)
_WITNESS_TYPES = (SignatureType.COSIGNATURE_ED25519, SignatureType.COSIGNATURE_ML_DSA_44)
_FORBIDDEN = re.compile(rb"[^\t\n\x20-\x7e\x80-\xff]")
_WHITE_SPACE = re.compile(r"[ \t]+")


@dataclass(frozen=True)
class PolicyLog:
    """A log whose checkpoints are accepted; the key's name is its origin."""

    key: NoteKey
    url: str | None = None


@dataclass(frozen=True)
class PolicyWitness:
    """A witness under the name that it has in this file alone; the key's name is its own.

    Attributes:
        url: its submission prefix (C2SP tlog-witness), for whoever collects cosignatures.
    """

    name: str
    key: NoteKey
    url: str | None = None


@dataclass(frozen=True)
class PolicyGroup:
    """A group has witnessed what at least ``threshold`` of its members, witnesses or earlier groups, have."""

    name: str
    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True)
class Policy:
    """A checked policy. Names are octets: those that are no UTF-8 are kept as lone surrogates (``surrogateescape``).

    Attributes:
        logs: none when the caller knows the log's key from elsewhere, and checks its signature.
        groups: each after its members.
        quorum: the name of a witness or a group, or `NONE`.
    """

    logs: tuple[PolicyLog, ...]
    witnesses: tuple[PolicyWitness, ...]
    groups: tuple[PolicyGroup, ...]
    quorum: str

    def check(self, note: str) -> tuple[Checkpoint, tuple[NoteKey, ...], tuple[NoteKey, ...]]:
        """Hold a signed checkpoint against the policy.

        Returns:
            The checkpoint, the keys of logs that signed it (none in a policy without logs), and the keys of witnesses
            that cosigned it.

        Raises:
            CertificateError: ``checkpoint-malformed``; ``checkpoint-signature-invalid``: no log of the policy signed
                it, or a line of a known key is wrong; ``witness-quorum-missing``.
        """
        checkpoint, lines = checkpoints.parse(note), notes.split(note)[1]
        of_origin = [log.key for log in self.logs if log.key.name == checkpoint.origin]
        logs = checkpoints.cosigners(checkpoint, lines, of_origin)
        if self.logs and not logs:
            raise CertificateError(
                Code.CHECKPOINT_SIGNATURE_INVALID,
                f"No log of the policy signed the checkpoint, which is of {shown(checkpoint.origin)}.",
                remedy="check that the policy is meant for this log",
            )
        witnesses = checkpoints.cosigners(checkpoint, lines, [witness.key for witness in self.witnesses])
        if not self.is_quorum(witnesses):
            raise CertificateError(
                Code.WITNESS_QUORUM_MISSING,
                f"{len(witnesses)} of {len(self.witnesses)} known witnesses cosigned the checkpoint: the quorum "
                f"{shown(self.quorum)} is not reached.",
                remedy="ask the issuer for the certificate under a checkpoint that enough witnesses have cosigned",
            )
        return checkpoint, logs, witnesses

    def is_quorum(self, keys: tuple[NoteKey, ...]) -> bool:
        """Whether these witnesses are enough."""
        if self.quorum == NONE:
            return True
        witnessed = {witness.name for witness in self.witnesses if witness.key in keys}
        for group in self.groups:  # each stands after its members
            if len(witnessed.intersection(group.members)) >= group.threshold:
                witnessed.add(group.name)
        return self.quorum in witnessed


def parse(data: bytes) -> Policy:
    """Read a policy file (C2SP tlog-policy), of at most 1 MiB.

    Raises:
        CertificateError: ``policy-malformed``, or ``key-invalid`` for a verifier key that is none.
    """
    reader = _Reader()
    for number, items in _lines(data):
        match items:
            case ["log", vkey, *url] if len(url) <= 1:
                reader.log(number, vkey, *url)
            case ["witness", name, vkey, *url] if len(url) <= 1:
                reader.witness(number, name, vkey, *url)
            case ["group", name, threshold, *members] if members:
                reader.group(number, name, threshold, members)
            case ["quorum", name]:
                reader.quorum_line(number, name)
            case _:
                _refuse(number, "it is neither a log, a witness, a group nor a quorum in their form")
    if reader.quorum is None:
        _refuse(None, "it has no quorum")
    return Policy(tuple(reader.logs), tuple(reader.witnesses), tuple(reader.groups), reader.quorum)


def build_policy(policy: Policy) -> bytes:
    """The file of a policy; reading it gives the same policy.

    Raises:
        CertificateError: ``policy-malformed``: it cannot be written so that it is read as it is.
    """
    rows: list[tuple[str | None, ...]] = [("log", log.key.vkey, log.url) for log in policy.logs]
    rows += [("witness", witness.name, witness.key.vkey, witness.url) for witness in policy.witnesses]
    rows += [("group", group.name, str(group.threshold), *group.members) for group in policy.groups]
    rows.append(("quorum", policy.quorum))
    text = "".join(" ".join(item for item in row if item is not None) + "\n" for row in rows)
    data = text.encode("utf-8", "surrogateescape")
    if parse(data) != policy:
        _refuse(None, "a name or a URL in it is empty or has white space")
    return data


class _Reader:
    """What the lines so far have defined."""

    def __init__(self) -> None:
        self.logs: list[PolicyLog] = []
        self.witnesses: list[PolicyWitness] = []
        self.groups: list[PolicyGroup] = []
        self.quorum: str | None = None
        self._keys: set[tuple[str, PublicKey]] = set()
        self._names = {NONE}
        self._members: set[str] = set()

    def log(self, number: int, vkey: str, url: str | None = None) -> None:
        self.logs.append(PolicyLog(self._key(number, "log", vkey, _LOG_TYPES), url))

    def witness(self, number: int, name: str, vkey: str, url: str | None = None) -> None:
        self.witnesses.append(PolicyWitness(name, self._key(number, "witness", vkey, _WITNESS_TYPES), url))
        self._define(number, name)

    def group(self, number: int, name: str, threshold: str, members: list[str]) -> None:
        for member in members:
            if member not in self._names or member == NONE:
                _refuse(number, f"no line above defines {shown(member)}")
            if member in self._members:
                _refuse(number, f"{shown(member)} is listed as a member twice")
            self._members.add(member)
        self.groups.append(PolicyGroup(name, _threshold(number, threshold, len(members)), tuple(members)))
        self._define(number, name)

    def quorum_line(self, number: int, name: str) -> None:
        if self.quorum is not None:
            _refuse(number, "there is a second quorum")
        if name not in self._names:
            _refuse(number, f"no line above defines {shown(name)}")
        self.quorum = name

    def _key(self, number: int, whose: str, vkey: str, types: tuple[SignatureType, ...]) -> NoteKey:
        try:
            vkey.encode()
        except UnicodeEncodeError:
            _refuse(number, "the verifier key is not UTF-8")
        key = NoteKey.from_vkey(vkey)
        if key.type not in types:
            _refuse(number, f"a key of type 0x{key.type:02x} is not that of a {whose}")
        if (whose, key.key) in self._keys:
            _refuse(number, f"the public key of this {whose} stands in it twice")
        self._keys.add((whose, key.key))
        return key

    def _define(self, number: int, name: str) -> None:
        if name in self._names:
            _refuse(number, f"the name {shown(name)} is taken")
        self._names.add(name)


def _lines(data: bytes) -> Iterator[tuple[int, list[str]]]:
    """The items of each line that says something, with its number from 1."""
    if len(data) > MAX_BYTES:
        _refuse(None, f"it has more than {MAX_BYTES} bytes")
    if found := _FORBIDDEN.search(data):
        _refuse(data.count(b"\n", 0, found.start()) + 1, f"it holds the control character {found[0].hex()}")
    text = data.decode("utf-8", "surrogateescape")
    if text and not text.endswith("\n"):
        _refuse(None, "its last line is not complete")
    for number, line in enumerate(text.split("\n"), 1):
        said = line.strip(" \t")
        if said and not said.startswith("#"):
            yield number, _WHITE_SPACE.split(said)


def _threshold(number: int, text: str, size: int) -> int:
    if text in ("any", "all"):
        return 1 if text == "any" else size
    try:
        threshold = decode_decimal(text)
    except ValueError:
        _refuse(number, f"{shown(text)} is neither any, all nor a number")
    if not 1 <= threshold <= size:
        _refuse(number, f"a group of {size} cannot need {threshold}")
    return threshold


def _refuse(number: int | None, message: str) -> Never:
    where = "The policy file is not usable" if number is None else f"Line {number} of the policy file is not usable"
    raise CertificateError(
        Code.POLICY_MALFORMED, f"{where}: {message}.", remedy="write the policy as C2SP tlog-policy describes it"
    )
