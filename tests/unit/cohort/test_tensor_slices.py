import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save, save_file

from mbd.cohort.place import open_place
from mbd.cohort.tensor_slices import open_slices, write_slices


def matrices(seed, heights, width=3):
    rng = np.random.default_rng(seed)
    return {f"m{i}": rng.normal(size=(height, width + i)).astype(np.float32) for i, height in enumerate(heights)}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    where = tmp_path_factory.mktemp("slices")
    return where, open_place(where)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), heights=st.lists(st.integers(0, 9), min_size=1, max_size=4), step=st.integers(1, 4))
def test_slices_in_any_order_make_the_bytes_that_safetensors_makes(place, seed, heights, step):
    where, _ = place
    arrays = matrices(seed, heights)
    with write_slices(where / "file", {name: array.shape for name, array in arrays.items()}) as writer:
        for start in range(0, 10, step):
            for name in reversed(arrays):
                writer.append(name, arrays[name][start : start + step])
    assert (where / "file").read_bytes() == save(arrays)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), start=st.integers(0, 9), rows=st.integers(0, 9))
def test_rows_of_what_safetensors_wrote_come_back(place, seed, start, rows):
    where, opened = place
    arrays = matrices(seed, [9, 0, 5])
    save_file(arrays, where / "file", metadata={"about": "x"})
    slices = open_slices(opened, "file")
    assert slices.shapes == {name: array.shape for name, array in arrays.items()}
    stop = min(9, start + rows)
    assert slices.rows("m0", start, stop).tobytes() == arrays["m0"][start:stop].tobytes()
    assert slices.rows("m1", 0, 0).shape == (0, 4)


def test_rows_that_are_not_there_are_refused(place):
    where, opened = place
    save_file(matrices(0, [4]), where / "file")
    slices = open_slices(opened, "file")
    for start, stop in ((0, 5), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="has 4 frames"):
            slices.rows("m0", start, stop)


@pytest.mark.parametrize("rows", [3, 5])
def test_a_file_with_missing_or_surplus_rows_is_not_finished(place, rows):
    where, _ = place
    with (
        pytest.raises(ValueError, match="not those that were announced"),
        write_slices(where / "file", {"m": (4, 2)}) as writer,
    ):
        writer.append("m", np.zeros((rows, 2), np.float32))


@pytest.mark.parametrize(
    ("dtype", "shape", "offsets"), [("F16", [2, 2], [0, 16]), ("F32", [2, 2], [0, 8]), ("F32", [4], [0, 16])]
)
def test_what_is_no_float32_matrix_is_refused(place, dtype, shape, offsets):
    where, opened = place
    header = json.dumps({"m": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).encode()
    (where / "file").write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    with pytest.raises(ValueError, match=r"float32 matrix|unpack"):
        open_slices(opened, "file")


def test_a_header_of_nonsense_length_is_refused_before_it_is_read(place):
    where, opened = place
    (where / "file").write_bytes(b"\xff" * 64)
    with pytest.raises(ValueError, match="header of"):
        open_slices(opened, "file")
