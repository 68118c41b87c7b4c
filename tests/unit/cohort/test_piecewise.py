"""What goes through a cohort piece by piece says and makes what it would of the whole."""

import os
import shutil
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbd.cohort import folder
from mbd.cohort.cohort import Partition, Split
from mbd.cohort.manifest import build_manifest
from mbd.cohort.modality import Modality
from mbd.cohort.piecewise import Changed, join
from mbd.cohort.suppression import drop_suppressed, refuse_suppressed
from mbd.cohort.validation import validate
from mbd.errors import ChannelSuppressedError, CohortError, RowError

KEY = bytes(range(32))


def voices_withdrawn(_subject, modality):
    return modality is Modality.AUDIO


class InPieces:
    """A cohort that hands out so many rows at a time."""

    def __init__(self, cohort, rows):
        self.cohort, self.rows, self.head = cohort, rows, cohort.head

    def pieces(self):
        for start in range(0, len(self.cohort), self.rows):
            yield self.cohort.select(range(start, min(start + self.rows, len(self.cohort))))

    def where(self, partition=None, split=None):
        return self.cohort.where(partition, split)


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 30))
def test_a_folder_that_was_written_in_pieces_holds_what_the_whole_would(
    random_cohort, tmp_path_factory, same, seed, rows
):
    base, cohort = tmp_path_factory.mktemp("pieces"), random_cohort(seed)
    written = folder.write(InPieces(cohort, rows), base / "pieces", key=KEY)
    assert written == folder.write(cohort, base / "whole", key=KEY) == build_manifest(cohort, KEY)
    assert same(folder.read(base / "pieces"), cohort)
    features = [(base / how / "features.safetensors").read_bytes() for how in ("pieces", "whole")]
    assert features[0] == features[1]
    assert folder.read_manifest(base / "pieces").root == written.root
    shutil.rmtree(base)


@pytest.mark.parametrize("split", [None, *Split])
@pytest.mark.parametrize("partition", [None, *Partition])
def test_the_rows_of_a_folder_that_match_are_those_of_the_cohort(small, same, tmp_path, partition, split):
    folder.write(small, tmp_path / "c", key=KEY)
    assert same(folder.open_pieces(tmp_path / "c").where(partition, split), small.where(partition, split))


def test_rows_that_are_kept_do_not_keep_their_piece(small, tmp_path):
    folder.write(small, tmp_path / "c", key=KEY)
    kept = folder.open_pieces(tmp_path / "c").where(Partition.PUBLIC)
    assert all(f.base is None for column in kept.features.values() for f in column if f is not None)


@pytest.mark.parametrize("rows", [1, 4, 7, 100])
def test_a_withdrawn_channel_is_refused_with_the_number_of_people_in_all_pieces(small, rows):
    with pytest.raises(ChannelSuppressedError, match="holds audio of 4 subjects"):
        refuse_suppressed(InPieces(small, rows), voices_withdrawn)


@pytest.mark.parametrize("rows", [1, 4, 100])
def test_withdrawn_channels_are_dropped_on_the_way(small, same, rows):
    dropped = Changed(InPieces(small, rows), partial(drop_suppressed, suppressed=voices_withdrawn))
    assert same(join(dropped.head, dropped.pieces()), drop_suppressed(small, voices_withdrawn))
    assert same(dropped.where(Partition.PUBLIC), drop_suppressed(small, voices_withdrawn).where(Partition.PUBLIC))
    refuse_suppressed(dropped, voices_withdrawn)


@pytest.mark.parametrize("rows", [1, 4, 100])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clip": "bob-1"}, "row 10 (clip 'bob-1'): the clip id stands already in row 4."),
        ({"subject": "ann"}, "row 10 (clip 'dan-1'): subject 'ann' is in revocable here and in public in row 0."),
        ({"label": 9.0}, "row 10 (clip 'dan-1'): the label 9.0 is not a number in [-3, 3]."),
    ],
)
def test_a_wrong_row_is_named_by_its_place_in_the_whole(small, rows, change, message):
    spoilt = (*small.rows[:10], replace(small.rows[10], **change), *small.rows[11:])
    with pytest.raises(RowError) as caught:
        validate(InPieces(replace(small, rows=spoilt), rows))
    assert caught.value.message == message


def test_a_sound_cohort_passes_in_pieces_and_one_without_rows_does_not(small):
    validate(InPieces(small, 4))
    with pytest.raises(CohortError, match="has no rows"):
        validate(InPieces(small.select([]), 4))


@pytest.mark.parametrize("name", ["rows.parquet", "features.safetensors"])
def test_a_piece_is_not_handed_out_when_its_rows_changed_after_opening(small, tmp_path, name):
    folder.write(small, tmp_path / "c", key=KEY)
    louder = {m: tuple(None if f is None else f + 1 for f in column) for m, column in small.features.items()}
    renamed = tuple(replace(row, subject=row.subject.upper()) for row in small.rows)
    folder.write(replace(small, features=louder, rows=renamed), tmp_path / "other", key=KEY)
    pieces = folder.open_pieces(tmp_path / "c").read(5)
    next(pieces)
    before = (tmp_path / "c" / name).stat()
    (tmp_path / "c" / name).write_bytes((tmp_path / "other" / name).read_bytes())
    os.utime(tmp_path / "c" / name, ns=(before.st_atime_ns, before.st_mtime_ns))  # as one would who hides it
    with pytest.raises(CohortError, match=f"has changed since it was opened: {name} is another file"):
        next(pieces)
    with pytest.raises(CohortError, match=f"{name} is not the file"):
        folder.open_pieces(tmp_path / "c")


def test_a_cohort_that_changes_while_it_is_copied_leaves_no_copy(small, tmp_path):
    class Shrinking(InPieces):
        asked = 0

        def pieces(self):
            self.asked += 1
            return list(super().pieces())[: 3 if self.asked > 2 else None]

    with pytest.raises(ValueError, match="not those that were announced"):
        folder.write(Shrinking(small, 4), tmp_path / "c", key=KEY)
    assert list(tmp_path.iterdir()) == []
