"""Search bytes for withdrawn values, in every form in which a program could have kept them.

A needle is long enough that a chance hit cannot be: at least eight bytes of a value that is not round, so that in a
terabyte of random bytes some thousands of needles meet by chance less than once in a thousand sweeps. It knows no
deployment: sources and values come in.
"""

import base64
import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mbd.attacks.containers import LARGEST, could_be_container, unpacked
from mbd.attacks.report import Estimate, Report
from mbd.errors import AttackError

Source = tuple[str, Iterable[bytes]]
"""A name, and the bytes in order, in pieces of any size."""

_PREFIX = 8
_RUN = 4  # numbers that stand one after the other
_TEXT_DIGITS = 9  # a shorter number could be anybody's
_LEAST_WHOLE = 128  # runs of smaller whole numbers could be anybody's counts


@dataclass(frozen=True)
class Needle:
    """One form of one withdrawn value.

    Attributes:
        value: what it is, for people.
        form: how it would be stored.
        pattern: the bytes, at least eight.
    """

    value: str
    form: str
    pattern: bytes


@dataclass(frozen=True)
class Hit:
    """A needle that was found.

    Attributes:
        source: where.
        offset: of its first byte, within the source or what was unpacked from it.
    """

    source: str
    value: str
    form: str
    offset: int


class Searched(NamedTuple):
    """What a search found.

    Attributes:
        hits: every place of every needle.
        sizes: how many bytes each source had, and everything that was unpacked from it.
        unopened: containers that were too large, damaged, encrypted or packed in an unknown way: only their raw bytes
            were searched.
    """

    hits: list[Hit]
    sizes: dict[str, int]
    unopened: list[str]


def needles_of(values: Mapping[str, NDArray[np.generic]]) -> list[Needle]:
    """Every form of these values.

    Args:
        values: arrays of numbers by name, as the program handles them: a row's channel, its features on the grid.

    Returns:
        Of each array: runs of its numbers from the start, the middle and the end as float32, float64, int64 and int32
        (where these hold them), hexadecimal and base64 of its bytes, numbers as text, and plain digests of its bytes,
        which would confirm a guess.
    """
    found: dict[bytes, Needle] = {}
    for name, array in values.items():
        flat = np.ravel(array)
        if len(np.unique(flat)) < 3:
            continue  # the same number throughout is nobody's
        for form, pattern in _forms(flat):
            if len(pattern) >= _PREFIX and len(set(pattern)) > 3:  # zeros are everywhere
                found.setdefault(pattern, Needle(name, form, pattern))
    return list(found.values())


def _forms(flat: NDArray[np.generic]) -> Iterator[tuple[str, bytes]]:
    whole = np.issubdtype(flat.dtype, np.integer) or bool((flat == np.rint(flat.astype(np.float64))).all())
    kinds = ["<f4", "<f8", ">f4", ">f8", "<i8", "<i4"] if whole else ["<f4", "<f8", ">f4", ">f8"]
    for kind in kinds:
        stored = flat.astype(kind)
        if kind in {"<i8", "<i4"} and np.abs(flat).max() < _LEAST_WHOLE:
            continue
        for at in dict.fromkeys((0, max(0, len(flat) // 2 - _RUN // 2), max(0, len(flat) - _RUN))):
            run = stored[at : at + _RUN]
            if len(np.unique(run)) > 1 or len(flat) == 1:
                yield f"{len(run)} numbers as {kind}", run.tobytes()
    own = flat.astype(np.float32 if not whole else flat.dtype)
    body = own.tobytes()
    yield "hexadecimal", body[:12].hex().encode()
    for shift in range(3):
        cut = body[shift : shift + 3 * 6]
        yield "base64", base64.b64encode(cut)[: 4 * (len(cut) // 3)]
    if not whole:
        yield from (("text", text.encode()) for text in _texts(flat.astype(np.float64)))
    for stored in (own, flat.astype(np.float64)):
        digest = hashlib.sha256(stored.tobytes())
        yield "a plain digest", digest.digest()
        yield "a plain digest in hexadecimal", digest.hexdigest().encode()


def _texts(flat: NDArray[np.float64]) -> Iterator[str]:
    """The numbers with the most digits, as programs write them."""
    for number in sorted(flat, key=lambda number: -len(str(np.float32(number))))[:3]:
        for text in (repr(float(number)), f"{number:.9g}", str(np.float32(number))):
            digits = text.replace("-", "").replace(".", "").strip("0")
            if len(digits) >= _TEXT_DIGITS and "e" not in text:
                yield text


def find(sources: Iterable[Source], needles: Sequence[Needle]) -> Searched:
    """Every place of every needle; containers are looked into.

    Gzip, zip (so also npz) and Parquet are unpacked; everything else is searched as it lies, which covers safetensors,
    SQLite files with their free pages, logs and write-ahead logs.
    """
    index: dict[int, list[Needle]] = {}
    for needle in needles:
        index.setdefault(int.from_bytes(needle.pattern[:_PREFIX], "little"), []).append(needle)
    prefixes = np.sort(np.fromiter(index, dtype=np.uint64, count=len(index)))
    longest = max((len(needle.pattern) for needle in needles), default=_PREFIX)
    hits: list[Hit] = []
    sizes: dict[str, int] = {}
    unopened: list[str] = []
    for name, chunks in sources:
        body, size, carry = bytearray(), 0, b""
        for chunk in chunks:
            if could_be_container(body) and size <= LARGEST:  # nothing else is held in memory
                body += chunk
            window = carry + chunk
            hits += _search(name, window, size - len(carry), prefixes, index, new=len(carry) - longest + 1)
            carry = window[-(longest - 1) :]
            size += len(chunk)
        sizes[name] = size
        for inner, content in unpacked(name, bytes(body), unopened):
            hits += _search(inner, content, 0, prefixes, index, new=0)
            sizes[inner] = len(content)
    return Searched(list(dict.fromkeys(hits)), sizes, unopened)


def sweep(sources: Iterable[Source], needles: Sequence[Needle], *, before: Sequence[Hit], target: str) -> Report:
    """Search everything, after a deletion.

    Args:
        sources: what there is.
        needles: of what was withdrawn.
        before: what the same search hit before the deletion; a search that found nothing proves nothing.
        target: what is searched, for people.

    Raises:
        AttackError: nothing had been found before.
    """
    if not before or not needles:
        raise AttackError(
            "The search found none of the values before the deletion, so finding none afterwards would say nothing.",
            remedy="search for a channel that the live version holds",
        )
    started = time.process_time()
    hits, sizes, unopened = find(sources, needles)
    values = {needle.value for needle in needles}
    return Report(
        attack="leaks",
        target=target,
        question="Is a withdrawn value left anywhere, in any form?",
        verdict="broken" if hits else "held",
        estimates=(Estimate("places with a withdrawn value", float(len({hit.source for hit in hits}))),),
        claim=0.0,
        trials=len(sizes),
        seed=0,
        seconds=time.process_time() - started,
        details={
            "needles": len(needles),
            "bytes": sum(sizes.values()),
            "hits_before": len(before),
            "forms_before": sorted({hit.form for hit in before}),
            "values_not_found_before": sorted(values - {hit.value for hit in before}),
            "unopened": unopened,
            "found": [{"source": h.source, "value": h.value, "form": h.form, "offset": h.offset} for h in hits[:50]],
        },
    )


def _search(
    name: str, body: bytes, base: int, prefixes: NDArray[np.uint64], index: Mapping[int, list[Needle]], *, new: int
) -> Iterator[Hit]:
    """Needles in ``body`` that do not lie within its first ``new`` bytes, which were searched before."""
    data = np.frombuffer(body, np.uint8)
    for shift in range(min(_PREFIX, max(len(data) - _PREFIX + 1, 0))):
        windows = data[shift : shift + (len(data) - shift) // _PREFIX * _PREFIX].view("<u8")
        at = np.searchsorted(prefixes, windows)
        at[at == len(prefixes)] = 0
        for n in np.flatnonzero(prefixes[at] == windows) if len(prefixes) else ():
            offset = int(n) * _PREFIX + shift
            for needle in index[int(windows[n])]:
                if body.startswith(needle.pattern, offset) and offset + len(needle.pattern) > max(new, 0):
                    yield Hit(name, needle.value, needle.form, base + offset)
