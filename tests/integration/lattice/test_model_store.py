"""A model version's public files under their digests, in a folder and in a real S3 server's bucket."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from mbd.cohort import folder
from mbd.cohort.store import open_store
from mbd.errors import StoreError, TrainingError
from mbd.lattice.model import load_featurizer, load_model, save_model
from mbd.lattice.model_store import PUBLIC, fetch_model, open_featurizer, push_model, remove_model
from mbd.lattice.provenance import ENTANGLED


@pytest.fixture(params=["folder", "s3"])
def store(request, tmp_path):
    """The store, its path or URL, the options that reach it, and what lies in it: bytes by name."""
    if request.param == "folder":
        where = tmp_path / "blobs"
        return open_store(where), str(where), {}, lambda: {p.name: p.read_bytes() for p in where.iterdir()}
    s3 = request.getfixturevalue("s3")
    bucket = s3.bucket()

    def everything():
        read = {key: s3.client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in s3.keys(bucket)}
        return {key.removeprefix("models/"): data for key, data in read.items()}

    url = f"s3://{bucket}/models"
    return open_store(url, **s3.options), url, s3.options, everything


@pytest.fixture
def second(stored, tmp_path):
    """Another version of the same line: the same constants, other heads."""
    heads = {p: replace(head, weights_DK=head.weights_DK + 1) for p, head in stored.made.heads.items()}
    return save_model(replace(stored.made, heads=heads), tmp_path / "second", cohort_root="d" * 64)


def test_a_version_lies_under_the_digest_that_certificates_name(stored, store, second):
    opened, _, _, everything = store
    assert push_model(second.folder, opened) == second.digest
    assert push_model(second.folder, opened) == second.digest
    assert set(everything()) == {second.digest, *(second.digests[name] for name in PUBLIC)}


def test_the_statistics_and_their_salt_never_leave(stored, store):
    opened, _, _, everything = store
    push_model(stored.model, opened)
    secret = (stored.model / "statistics.safetensors").read_bytes()
    assert stored.made.salt in secret
    assert all(stored.made.salt not in data and data != secret for data in everything().values())


def test_a_fetched_version_has_the_files_bit_for_bit(stored, store, tmp_path):
    opened, *_ = store
    fetch_model(push_model(stored.model, opened), opened, tmp_path / "here")
    assert {path.name for path in (tmp_path / "here").iterdir()} == {"model.json", *PUBLIC}
    for path in (tmp_path / "here").iterdir():
        assert path.read_bytes() == (stored.model / path.name).read_bytes()


def test_a_featurizer_from_a_store_makes_the_bits_of_the_model_it_is_of(stored, store):
    opened, url, options, _ = store
    featurizer = open_featurizer(f"{url}/{push_model(stored.model, opened)}", **options)
    cohort = folder.read(stored.cohort)
    rows = range(len(cohort))
    assert np.array_equal(featurizer.features(cohort, rows), stored.made.featurizer.features(cohort, rows))
    assert load_featurizer(stored.model).layout == featurizer.layout == stored.made.layout


def test_a_retired_version_goes_and_leaves_what_a_live_one_shares(stored, store, second):
    opened, _, _, everything = store
    retired, live = push_model(stored.model, opened), push_model(second.folder, opened)
    remove_model(retired, opened, live=[live])
    assert set(everything()) == {second.digest, *(second.digests[name] for name in PUBLIC)}
    with pytest.raises(StoreError, match="has no blob"):
        remove_model(retired, opened, live=[live])
    remove_model(live, opened)
    assert set(everything()) == set()


def test_nothing_is_removed_when_a_live_version_is_not_there(stored, store):
    opened, _, _, everything = store
    retired = push_model(stored.model, opened)
    before = everything()
    with pytest.raises(StoreError, match="has no blob"):
        remove_model(retired, opened, live=["a" * 64])
    assert everything() == before


def test_a_damaged_blob_is_refused_and_leaves_no_folder(stored, tmp_path):
    where = tmp_path / "blobs"
    opened = open_store(where)
    address = push_model(stored.model, opened)
    before = set(tmp_path.iterdir())
    for blob in where.iterdir():
        content = blob.read_bytes()
        blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(StoreError, match=r"damaged or was changed.*put the original again"):
            fetch_model(address, opened, tmp_path / "here")
        blob.write_bytes(content)
    assert set(tmp_path.iterdir()) == before
    fetch_model(address, opened, tmp_path / "here")


@pytest.mark.parametrize("part", ["model.json", *PUBLIC])
def test_a_damaged_model_is_not_pushed(stored, tmp_path, part):
    shutil.copytree(stored.model, tmp_path / "model")
    path = tmp_path / "model" / part
    path.write_bytes(b"{}" + path.read_bytes()[2:])
    with pytest.raises((TrainingError, StoreError), match=r"not the one its model\.json|is not a model"):
        push_model(tmp_path / "model", open_store(tmp_path / "blobs"))
    path.unlink()
    with pytest.raises(TrainingError, match="cannot be read"):
        push_model(tmp_path / "model", open_store(tmp_path / "blobs"))
    assert list((tmp_path / "blobs").iterdir()) == []


def test_a_version_that_revocable_rows_shaped_is_not_pushed(stored, tmp_path):
    """Everybody's rows shaped its backbone, which has to go with the version; it has no salt of the statistics."""
    entangled = replace(stored.made, provenance=ENTANGLED)
    save_model(entangled, tmp_path / "model", cohort_root="c" * 64)
    assert stored.made.salt not in (tmp_path / "model" / "constants.safetensors").read_bytes()
    with pytest.raises(TrainingError, match="revocable rows shaped"):
        push_model(tmp_path / "model", open_store(tmp_path / "blobs"))
    assert list((tmp_path / "blobs").iterdir()) == []


def test_what_is_no_model_is_refused(store, tmp_path):
    opened, url, options, _ = store
    address = opened.put(b"[]")
    for ask in (
        lambda: fetch_model(address, opened, tmp_path / "x"),
        lambda: remove_model(address, opened),
        lambda: open_featurizer(f"{url}/{address}", **options),
    ):
        with pytest.raises(StoreError, match="is not a model of this program"):
            ask()
    with pytest.raises(TrainingError, match="cannot be read"):
        open_featurizer(tmp_path / "nowhere")


def test_a_fetched_version_without_statistics_is_no_model_to_delete_from(stored, tmp_path):
    opened = open_store(tmp_path / "blobs")
    fetch_model(push_model(stored.model, opened), opened, tmp_path / "here")
    with pytest.raises(TrainingError, match=r"statistics\.safetensors"):
        load_model(tmp_path / "here")
