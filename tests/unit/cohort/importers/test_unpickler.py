"""Hostile pickles are refused and execute nothing; honest ones of any protocol and NumPy are read."""

import pickle
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mbd.cohort.importers.unpickler import read_pickle
from mbd.errors import UnsafePickleError

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)

PLAIN = st.one_of(
    hnp.arrays(
        st.sampled_from(["<f4", ">f8", "<f2", "<i8", ">i4", "u1", "?", "<c8", "<U5", "S3"]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    ),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.floats(allow_nan=False),
    st.integers(),
    st.none(),
    st.sets(st.integers(), max_size=3),
)
CONTENT = st.dictionaries(st.text(max_size=5), st.one_of(PLAIN, st.lists(PLAIN, max_size=3)), max_size=4)


class Call:
    """Pickles as a call of a function, which an ordinary reader would execute."""

    def __init__(self, function, *arguments, state=None):
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.call


def program(module, name, *operations):
    """A protocol 0 program that begins by asking for one global."""
    return b"c" + f"{module}\n{name}\n".encode() + b"".join(operations) + b"."


def refuse(tmp_path, data, match):
    (tmp_path / "file.pkl").write_bytes(data)
    with pytest.raises(UnsafePickleError, match=match) as caught:
        read_pickle(tmp_path / "file.pkl")
    assert caught.value.remedy


def equal(one, other):
    if isinstance(one, np.ndarray):
        native = one.dtype.newbyteorder("=")
        same_kind = native == other.dtype.newbyteorder("=") and one.shape == other.shape
        return same_kind and one.astype(native).tobytes() == other.astype(native).tobytes()
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return type(one) is type(other) and one == other


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("pickles") / "file.pkl"


@given(content=CONTENT, protocol=st.sampled_from(PROTOCOLS))
def test_arrays_and_containers_come_back_from_every_protocol(file, content, protocol):
    file.write_bytes(pickle.dumps(content, protocol=protocol))
    read = read_pickle(file)
    assert list(read) == list(content)
    assert all(equal(content[key], read[key]) for key in content)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_scalars_object_arrays_and_other_layouts_are_read(tmp_path, protocol):
    content = {
        "scalar": np.float32(1.5),
        "flag": np.bool_(True),
        "objects": np.array(["long text", None, [1]], dtype=object),
        "columns first": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "every second": np.arange(10)[::2],
        "fixed": frozenset({1}),
    }
    (tmp_path / "file.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    read = read_pickle(tmp_path / "file.pkl")
    assert read["scalar"] == np.float32(1.5)
    assert read["flag"]
    assert read["objects"].tolist() == ["long text", None, [1]]
    assert read["columns first"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert read["every second"].tolist() == [0, 2, 4, 6, 8]
    assert read["fixed"] == {1}


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_the_module_names_of_the_other_numpy_are_read(tmp_path, protocol):
    data = pickle.dumps(np.arange(3.0), protocol=protocol)
    here, there = b"numpy._core.multiarray", b"numpy.core.multiarray"
    if protocol == 4:
        here, there = (bytes([len(name)]) + name for name in (here, there))
        # The frame's length would no longer be right: leave the frame out.
        data = data[:2] + data[11:]
    assert here in data
    (tmp_path / "file.pkl").write_bytes(data.replace(here, there))
    assert read_pickle(tmp_path / "file.pkl").tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_system_command_is_refused_by_name_and_not_executed(tmp_path, protocol):
    import os

    witness = tmp_path / "executed"
    data = pickle.dumps({"train": Call(os.system, f"touch {witness}")}, protocol=protocol)
    refuse(tmp_path, data, rf"asks for '{os.name}\.system'.*Nothing of it was executed")
    assert not witness.exists()
    pickle.loads(data)  # noqa: S301 - shows that the same bytes do execute in an ordinary reader
    assert witness.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("builtins", "bytearray"),
        ("importlib", "import_module"),
        ("numpy", "load"),
        ("numpy", "f2py.compile"),
        ("numpy.testing._private.utils", "runstring"),
        ("numpy._core.multiarray", "fromfile"),
        ("functools", "partial"),
        ("collections", "OrderedDict"),
        ("torch._utils", "_rebuild_tensor_v2"),
        ("mbd.cohort.importers.unpickler", "read_pickle"),
    ],
)
def test_any_other_name_is_refused_without_importing_its_module(tmp_path, module, name):
    before = set(sys.modules)
    refuse(tmp_path, program(module, name), f"asks for '{module}.{name}'".replace(".", r"\."))
    assert set(sys.modules) == before


FORGERIES = {
    "a class called directly": program("numpy", "ndarray", b"(I1000000000000\ntR"),
    "a class instantiated": program("numpy", "ndarray", b")\x81"),
    "a structured dtype": program("numpy", "dtype", b"((lp0\ntR"),
    "a void dtype": program("numpy", "dtype", b"(U\x03V99tR"),
    "a dtype of no width": program("numpy", "dtype", b"(U\x02U0tR"),
    "a dtype with fields": program("numpy", "dtype", b"(U\x02f8tR(I3\nU\x01<N(tNI8\nI1\nI63\ntb"),
    "an array of a subclass": program("numpy._core.multiarray", "_reconstruct", b"(I1\n(I0\ntU\x01btR"),
    "a name that is altered": program("numpy", "dtype", b"}U\x01xI1\nsb"),
    "a name with slots altered": program("numpy", "dtype", b"(N}U\x07_answerI1\nstb"),
    "a codec": program("_codecs", "encode", b"(V00\nU\x03hextR"),
    "a persistent object": b"Pwho\n.",
    "the end missing": pickle.dumps(np.arange(100))[:-20],
    "no pickle at all": b"\x00\x01",
    "nothing": b"",
}


@pytest.mark.parametrize("data", FORGERIES.values(), ids=FORGERIES.keys())
def test_forged_parts_are_refused(tmp_path, data):
    refuse(tmp_path, data, "file.pkl")


def array(shape, dtype, data):
    """A program that builds one array from parts that need not fit each other."""
    return Call(np.empty(0).__reduce__()[0], np.ndarray, (0,), b"b", state=(1, shape, np.dtype(dtype), False, data))


@pytest.mark.parametrize(
    "forged",
    [
        array((10**12,), "f8", b"\0" * 8),
        array((2,), "f8", b"\0" * 8),
        array((-1,), "f8", b"\0" * 8),
        array((1,), "O", b"\0" * 8),
        array((2,), "O", [1]),
        array((-1, -1), "O", [1]),
        array((1,), "f8", [1.0]),
    ],
    ids=[
        "huge",
        "short",
        "negative",
        "objects from bytes",
        "too few objects",
        "objects in a negative shape",
        "a list for numbers",
    ],
)
def test_arrays_whose_parts_do_not_fit_are_refused(tmp_path, forged):
    refuse(tmp_path, pickle.dumps(forged), "not a sound pickle")


def test_an_array_over_another_array_is_refused(tmp_path):
    frombuffer = pickle.loads(program("numpy._core.numeric", "_frombuffer"))  # noqa: S301 - our own program
    inner = np.zeros(4)[::2]
    data = pickle.dumps(Call(frombuffer, inner, np.dtype("f8"), (2,), "C"), protocol=4)
    refuse(tmp_path, data, "over the memory of")


def test_a_claim_of_memory_beyond_the_file_is_refused(tmp_path):
    memo = b"N" + b"r" + (2**31).to_bytes(4, "little") + b"."
    refuse(tmp_path, memo, "far more memory than it can fill")
    counted = b"\x80\x05\x96" + (2**50).to_bytes(8, "little") + b"."
    refuse(tmp_path, counted, "not a sound pickle")


def test_a_file_that_is_not_there_is_a_plain_error(tmp_path):
    with pytest.raises(UnsafePickleError, match="cannot be read"):
        read_pickle(tmp_path / "missing.pkl")
