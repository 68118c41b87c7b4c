"""Reads pickles of NumPy arrays, scalars and builtin containers, and refuses everything else without executing it.

A pickle is a program. This reader hands it nobody's functions: each name that it may ask for is answered here by code
that builds a plain array from checked parts, so that NumPy's own unpickling never sees a forged dtype. Names of NumPy 1
(``numpy.core``) and 2 (``numpy._core``) and protocols 0 to 5 are read. It knows nothing of cohorts.
"""

import math
import pickle
import pickletools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from mbd.errors import UnsafePickleError

_PLAIN_DTYPE = re.compile(r"[<|]?(b1|i[1248]|u[1248]|f[248]|c8|c16|O8?|[SU][1-9]\d{0,5})")
_BROKEN = (
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)


def read_pickle(path: Path) -> Any:
    """What a pickle file holds.

    Raises:
        UnsafePickleError: it asks for anything but arrays and builtin containers (the name is given), is damaged, or
            claims memory that its size does not warrant.
    """
    try:
        with path.open("rb") as file:
            _refuse_inflated_memo(path, file)
            file.seek(0)
            return _Unpickler(path, file).load()
    except OSError as error:
        raise UnsafePickleError(f"{path} cannot be read: {error.strerror}.", remedy="check the path") from error
    except _BROKEN as error:
        raise UnsafePickleError(
            f"{path.name} is not a sound pickle of arrays ({type(error).__name__}: {error}).",
            remedy="download it again, and check its published digest",
        ) from error


def _refuse_inflated_memo(path: Path, file: Any) -> None:
    """A memo index far beyond the number of operations makes Python allocate the gap: a bomb of ten bytes."""
    for count, (operation, argument, _) in enumerate(pickletools.genops(file)):
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > count + 256:
            raise UnsafePickleError(
                f"{path.name} claims far more memory than it can fill.", remedy="do not use this file"
            )


class _Unpickler(pickle.Unpickler):
    def __init__(self, path: Path, file: Any) -> None:
        super().__init__(file)
        self._path = path
        self._names: Mapping[tuple[str, str], Any] = {
            ("numpy", "dtype"): _Name(self._dtype),
            ("numpy", "ndarray"): _NDARRAY,
            ("_codecs", "encode"): _Name(self._encode),
            **_spelt("builtins", "__builtin__", "bytes", _Name(self._no_bytes)),
            **_spelt("builtins", "__builtin__", "set", set),
            **_spelt("builtins", "__builtin__", "frozenset", frozenset),
            **_spelt("numpy.core.multiarray", "numpy._core.multiarray", "_reconstruct", _Name(self._reconstruct)),
            **_spelt("numpy.core.multiarray", "numpy._core.multiarray", "scalar", _Name(self._scalar)),
            **_spelt("numpy.core.numeric", "numpy._core.numeric", "_frombuffer", _Name(self._frombuffer)),
        }

    def find_class(self, module: str, name: str) -> Any:
        """The one door: a listed name, or a refusal that says what was asked for."""
        if (module, name) not in self._names:
            self._refuse(f"asks for '{module}.{name}'")
        return self._names[module, name]

    def persistent_load(self, pid: Any) -> Any:
        """No pickle of arrays has persistent ids."""
        self._refuse(f"asks for the persistent object {pid!r}")

    def _refuse(self, what: str) -> NoReturn:
        raise UnsafePickleError(
            f"{self._path.name} {what}, which is neither a plain array nor a builtin container. "
            "Nothing of it was executed.",
            remedy="do not open this file with anything else; ask its author for plain NumPy arrays",
        )

    def _dtype(self, spec: object, _align: object = False, _copy: object = True) -> "_Dtype":
        if not isinstance(spec, str) or not _PLAIN_DTYPE.fullmatch(spec):
            self._refuse(f"has an array of dtype {spec!r}")
        return _Dtype(spec)

    def _reconstruct(self, subtype: object, _shape: object, _typecode: object) -> "_Array":
        if subtype is not _NDARRAY:
            self._refuse(f"has an array of type {subtype!r}")
        return np.zeros(0, dtype=np.int8).view(_Array)

    def _scalar(self, dtype: object, data: object) -> Any:
        (value,) = self._frombuffer(data, dtype, (1,), "C")
        return value

    def _frombuffer(self, buffer: object, dtype: object, shape: Any, order: Any) -> np.ndarray:
        if not isinstance(buffer, bytes | bytearray):  # another array's memory could be freed under this one
            self._refuse(f"has an array over the memory of {type(buffer)!r}")
        return np.frombuffer(buffer, _plain(dtype)).reshape(shape, order=order)

    def _encode(self, text: str, encoding: str) -> bytes:
        """Protocols 0 to 2 write bytes as Latin-1 text."""
        if encoding != "latin1":
            self._refuse(f"asks for the codec {encoding!r}")
        return text.encode("latin1")

    def _no_bytes(self) -> bytes:
        """Protocols 0 to 2 write empty bytes as a call without arguments."""
        return b""


_NDARRAY = "numpy.ndarray"
"""Stands for the class, which pickles name and must not call."""


class _Name:
    """What a permitted name is answered with: it can be called, and neither read nor altered."""

    __slots__ = ("_answer",)

    def __init__(self, answer: Callable[..., Any]) -> None:
        self._answer = answer

    def __call__(self, *arguments: object) -> Any:
        return self._answer(*arguments)

    def __setstate__(self, _state: object) -> None:
        raise pickle.UnpicklingError("a name takes no state")


class _Dtype:
    """A dtype as pickles build it: a name first, its byte order as state afterwards."""

    __slots__ = ("name", "order")

    def __init__(self, name: str) -> None:
        self.name = name
        self.order = "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, order, *structure = state
        if order not in ("<", ">", "|") or structure[:3] != [None, None, None]:
            raise ValueError("only plain dtypes are read, no structures")
        self.order = order


class _Array(np.ndarray):
    """An array as pickles build it: empty first, its content as state afterwards."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        version, shape, dtype, is_fortran, data = state
        plain = _plain(dtype)
        # NumPy does not compare a list of objects with the shape, and reads beyond a short one.
        if plain.hasobject and not (isinstance(data, list) and len(data) == math.prod(shape)):
            raise ValueError("an array of objects that does not fit its shape")
        super().__setstate__((version, shape, plain, is_fortran, data))


def _plain(dtype: object) -> np.dtype[Any]:
    if not isinstance(dtype, _Dtype):
        raise TypeError(f"an array's dtype is a dtype, not {dtype!r}")
    plain = np.dtype(dtype.name)
    return plain.newbyteorder(">") if dtype.order == ">" else plain


def _spelt(one: str, other: str, name: str, answer: Any) -> dict[tuple[str, str], Any]:
    """One answer for the two spellings of a module."""
    return {(one, name): answer, (other, name): answer}
