"""Blobs under their digests, in a folder and in a real S3 server's buckets."""

import hashlib
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from mbd.cohort.store import open_store
from mbd.errors import SettingsError, StoreError


@pytest.fixture(params=["folder", "s3"])
def place(request, tmp_path):
    """A store, what reads its raw bytes under a name, and what overwrites them."""
    if request.param == "folder":
        where = tmp_path / "blobs"
        return (
            open_store(str(where)),
            lambda: {p.name: p.read_bytes() for p in where.iterdir()},
            lambda name, data: (where / name).write_bytes(data),
        )
    s3 = request.getfixturevalue("s3")
    client, bucket = s3.client, s3.bucket()

    def everything():
        listed = client.list_objects_v2(Bucket=bucket, Prefix="weights/").get("Contents", [])
        read = {o["Key"]: client.get_object(Bucket=bucket, Key=o["Key"])["Body"].read() for o in listed}
        return {key.removeprefix("weights/"): data for key, data in read.items() if data}

    return (
        open_store(f"s3://{bucket}/weights", **s3.options),
        everything,
        lambda name, data: client.put_object(Bucket=bucket, Key=f"weights/{name}", Body=data),
    )


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300))
def test_what_was_put_comes_back_under_its_sha256(place, data):
    store, *_ = place
    address = store.put(data)
    assert address == hashlib.sha256(data).hexdigest()
    assert store.get(address) == data


def test_tensors_come_back_bit_for_bit(place):
    import numpy as np

    store, *_ = place
    weights = {"w": np.arange(2_000_000, dtype=np.float32).reshape(2, -1), "b": np.array([1 / 3])}  # 8 MB
    address = store.put(save(weights))
    back = load(store.get(address))
    assert {name: array.tobytes() for name, array in back.items()} == {n: a.tobytes() for n, a in weights.items()}
    assert store.put(save(back)) == address


def test_putting_twice_stores_once(place):
    store, everything, _ = place
    assert store.put(b"weights") == store.put(b"weights")
    assert list(everything().values()) == [b"weights"]


def test_many_writers_of_one_blob_agree(place):
    store, everything, _ = place
    with ThreadPoolExecutor(8) as pool:
        addresses = set(pool.map(store.put, [b"the same weights"] * 24))
    assert everything() == {addresses.pop(): b"the same weights"}
    assert addresses == set()


def test_a_put_never_overwrites_what_is_there(place):
    """The conditional put: obstore's adapter alone would overwrite."""
    store, everything, overwrite = place
    address = store.put(b"weights")
    overwrite(address, b"something else")
    store.put(b"weights")
    assert everything() == {address: b"something else"}


def test_a_changed_blob_is_refused_and_can_be_replaced(place):
    store, _, overwrite = place
    address = store.put(b"weights")
    overwrite(address, b"Weights")
    with pytest.raises(StoreError, match=r"damaged or was changed.*Remedy: remove it"):
        store.get(address)
    store.remove(address)
    store.put(b"weights")
    assert store.get(address) == b"weights"


def test_a_removed_blob_is_gone_and_removing_it_again_is_no_error(place):
    store, everything, _ = place
    address, kept = store.put(b"retired"), store.put(b"kept")
    store.remove(address)
    store.remove(address)
    assert everything() == {kept: b"kept"}
    with pytest.raises(StoreError, match="has no blob"):
        store.get(address)


@pytest.mark.parametrize("address", ["", "../keys", "A" * 64, "a" * 63, "a" * 64 + "\n"])
def test_only_a_digest_is_an_address(place, address):
    store, *_ = place
    for ask in (store.get, store.remove):
        with pytest.raises(StoreError, match="not the address of a blob"):
            ask(address)


def test_a_bucket_with_versioning_is_refused_before_any_weights_are_in_it(s3):
    bucket = s3.bucket("Enabled")
    with pytest.raises(StoreError, match=r"keeps older versions.*never enabled"):
        open_store(f"s3://{bucket}/weights", **s3.options)
    assert all(o["Size"] == 0 for o in s3.client.list_object_versions(Bucket=bucket)["Versions"])


def test_a_suspended_bucket_serves_because_what_is_put_now_goes_for_good(s3):
    bucket = s3.bucket("Enabled", "Suspended")
    store = open_store(f"s3://{bucket}", **s3.options)
    store.remove(store.put(b"weights"))
    assert all(o["Size"] == 0 for o in s3.client.list_object_versions(Bucket=bucket).get("Versions", []))


def test_versioning_that_is_enabled_later_is_noticed_by_the_next_put_and_the_next_remove(s3):
    bucket = s3.bucket()
    store = open_store(f"s3://{bucket}", **s3.options)
    address = store.put(b"weights")
    s3.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    with pytest.raises(StoreError, match="keeps older versions"):
        store.remove(address)
    assert store.get(address) == b"weights"
    with pytest.raises(StoreError, match="keeps older versions"):
        store.put(b"newer weights")


def test_a_bucket_that_vanishes_after_opening_is_an_error_of_ours_and_no_removal(s3):
    bucket = s3.bucket()
    store = open_store(f"s3://{bucket}/x", **s3.options)
    address = store.put(b"weights")
    for found in s3.client.list_objects_v2(Bucket=bucket)["Contents"]:
        s3.client.delete_object(Bucket=bucket, Key=found["Key"])
    s3.client.delete_bucket(Bucket=bucket)
    with pytest.raises(StoreError, match=r"has no blob.*that the store is there"):
        store.get(address)
    with pytest.raises(StoreError, match="cannot be used"):
        store.put(b"more weights")
    with pytest.raises(StoreError, match="cannot be used"):
        store.remove(address)


def test_who_only_reads_writes_nothing(s3):
    bucket = s3.bucket()
    address = open_store(f"s3://{bucket}/x", **s3.options).put(b"weights")
    s3.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert open_store(f"s3://{bucket}/x", writable=False, **s3.options).get(address) == b"weights"
    assert len(s3.client.list_object_versions(Bucket=bucket)["Versions"]) == 2  # the weights and the first probe


def test_a_bucket_that_is_not_there_is_an_error_of_ours(s3):
    with pytest.raises(StoreError, match="cannot be used"):
        open_store("s3://no-such-bucket/x", **s3.options)


def test_another_kind_of_url_is_refused():
    with pytest.raises(StoreError, match="no store for 'ftp'"):
        open_store("ftp://somewhere/weights")


def test_without_what_speaks_s3_the_remedy_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "mbd.cohort.bucket", None)
    with pytest.raises(SettingsError, match=r"missing-by-design\[store\]"):
        open_store("s3://bucket/x")


def test_a_file_where_the_folder_should_be_is_an_error_of_ours(tmp_path):
    (tmp_path / "file").write_text("here")
    with pytest.raises(StoreError, match="cannot be used"):
        open_store(str(tmp_path / "file"))


def test_the_folder_is_for_its_owner_alone(tmp_path):
    open_store(str(tmp_path / "blobs"))
    assert (tmp_path / "blobs").stat().st_mode & 0o077 == 0


WRITER = """
import sys
from mbd.cohort.store import open_store
store = open_store(sys.argv[1])
number = 0
while True:
    store.put(b"%d" % number * 200_000)
    number += 1
    print(number, flush=True)
"""


def test_a_writer_that_is_killed_leaves_whole_blobs_only(tmp_path):
    where = tmp_path / "blobs"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, where], stdout=subprocess.PIPE, env=dict(os.environ))
    for _ in range(5):
        writer.stdout.readline()
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    store = open_store(str(where))
    addresses = [path.name for path in Path(where).iterdir() if not path.name.startswith(".")]
    assert len(addresses) >= 5
    for address in addresses:
        store.get(address)
