"""Copies of a cohort folder in a real S3 server's buckets: read by ranges, checked, and removed for good."""

import json
import shutil
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from mbd.cli.app import app
from mbd.cohort import folder
from mbd.cohort.bucket import Bucket
from mbd.cohort.copies import copy_folder, remove_copy
from mbd.cohort.piecewise import join
from mbd.cohort.place import open_place
from mbd.errors import CohortError, StoreError


@pytest.fixture(scope="module")
def source(random_cohort, tmp_path_factory):
    path = tmp_path_factory.mktemp("cohort") / "c"
    folder.write(random_cohort(3, subjects=12), path, key=bytes(32))
    return path


@pytest.fixture(scope="module")
def other(source, tmp_path_factory):
    """A sound folder of as many rows, with other names and other numbers."""
    cohort, path = folder.read(source), tmp_path_factory.mktemp("other") / "c"
    rows = tuple(replace(row, subject=row.subject.upper()) for row in cohort.rows)
    features = {m: tuple(None if f is None else f + 1 for f in column) for m, column in cohort.features.items()}
    folder.write(replace(cohort, rows=rows, features=features), path, key=bytes(32))
    return path


@pytest.fixture
def copied(s3, source):
    """The bucket, the URL and the opened copy."""
    bucket = s3.bucket()
    url = f"s3://{bucket}/people/c"
    return bucket, url, copy_folder(source, url, **s3.options)


def overwrite(s3, bucket, name, change):
    key = f"people/c/{name}"
    data = s3.client.get_object(Bucket=bucket, Key=key)["Body"].read()
    s3.client.put_object(Bucket=bucket, Key=key, Body=change(data))


def spoilt(data):
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize("rows", [4, 1000])
def test_a_copy_gives_the_rows_of_the_folder_bit_for_bit(copied, source, rows):
    _, _, pieces = copied
    cohort = folder.read(source)
    back = join(pieces.head, pieces.read(rows))
    assert back.rows == cohort.rows
    for m in cohort.modalities:
        assert [f is None or f.tobytes() for f in back.features[m]] == [
            f is None or f.tobytes() for f in cohort.features[m]
        ]


def test_a_piece_is_read_by_ranges_and_not_by_whole_files(copied, source, s3, monkeypatch):
    _, url, _ = copied
    read, cat_file = [], Bucket._cat_file

    async def counted(self, path, start=None, end=None, **options):
        data = await cat_file(self, path, start=start, end=end, **options)
        read.append((path.rpartition("/")[2], len(data)))
        return data

    monkeypatch.setattr(Bucket, "_cat_file", counted)
    pieces = folder.open_pieces(url, **s3.options)
    read.clear()
    next(pieces.read(2))
    asked = [size for name, size in read if name == "features.safetensors"]
    assert 0 < sum(asked) < (source / "features.safetensors").stat().st_size / 4


def test_nothing_is_replaced(copied, source, s3):
    _, url, _ = copied
    with pytest.raises(StoreError, match="There is a cohort folder at"):
        copy_folder(source, url, **s3.options)


def test_a_damaged_folder_is_not_copied(s3, source, tmp_path):
    bucket = s3.bucket()
    shutil.copytree(source, tmp_path / "c")
    path = tmp_path / "c" / "features.safetensors"
    path.write_bytes(spoilt(path.read_bytes()))
    with pytest.raises(CohortError, match=r"features\.safetensors is not the file"):
        copy_folder(tmp_path / "c", f"s3://{bucket}/c", **s3.options)
    assert s3.keys(bucket) == set()


@pytest.mark.parametrize("versioning", [["Enabled"], ["Suspended", "Enabled"]])
def test_a_bucket_that_keeps_versions_gets_no_row(s3, source, versioning):
    bucket = s3.bucket(*versioning)
    with pytest.raises(StoreError, match="keeps older versions"):
        copy_folder(source, f"s3://{bucket}/c", **s3.options)
    assert s3.keys(bucket) == set()


def test_a_copy_to_a_disk_is_refused(source, tmp_path):
    with pytest.raises(StoreError, match=r"is no bucket.*cp -r"):
        copy_folder(source, str(tmp_path / "c"))


@pytest.mark.parametrize("name", ["rows.parquet", "features.safetensors"])
def test_a_copy_that_was_damaged_is_not_opened(copied, s3, name):
    bucket, url, _ = copied
    overwrite(s3, bucket, name, spoilt)
    with pytest.raises(CohortError, match=f"damaged or was changed: {name} is not the file"):
        folder.open_pieces(url, **s3.options)


@pytest.mark.parametrize("name", ["rows.parquet", "features.safetensors"])
def test_an_object_that_was_replaced_after_opening_is_noticed_before_a_piece_is_handed_out(copied, s3, other, name):
    bucket, _, pieces = copied
    s3.client.put_object(Bucket=bucket, Key=f"people/c/{name}", Body=(other / name).read_bytes())
    with pytest.raises(CohortError, match=f"has changed since it was opened: {name} is another file now"):
        next(pieces.read(5))


@pytest.mark.parametrize("opened", [False, True])
def test_a_bucket_that_vanishes_is_an_error_of_ours(copied, s3, opened):
    bucket, url, pieces = copied
    reader = pieces.read(4)
    if opened:
        next(reader)
    for found in s3.client.list_objects_v2(Bucket=bucket)["Contents"]:
        s3.client.delete_object(Bucket=bucket, Key=found["Key"])
    s3.client.delete_bucket(Bucket=bucket)
    with pytest.raises(CohortError, match=r"or a part of it is missing.*check the path or the bucket"):
        list(reader)
    with pytest.raises(CohortError, match="is not a cohort folder"):
        folder.open_pieces(url, **s3.options)
    with pytest.raises(StoreError, match="cannot be used"):
        remove_copy(url, **s3.options)


def test_a_copy_that_was_cut_off_is_no_cohort_folder_and_can_be_cleared_up(s3, source):
    bucket = s3.bucket()
    url = f"s3://{bucket}/people/c"
    place = open_place(url, writable=True, **s3.options)
    place.upload("features.safetensors", source / "features.safetensors")
    with pytest.raises(CohortError, match="is not a cohort folder"):
        folder.open_pieces(url, **s3.options)
    remove_copy(url, **s3.options)
    assert s3.keys(bucket) == set()
    copy_folder(source, url, **s3.options)


def test_a_removed_copy_is_gone_and_removing_it_again_is_no_error(copied, s3):
    bucket, url, _ = copied
    remove_copy(url, **s3.options)
    remove_copy(url, **s3.options)
    assert s3.keys(bucket) == set()
    with pytest.raises(CohortError, match="is not a cohort folder"):
        folder.open_pieces(url, **s3.options)


def test_versioning_that_is_enabled_later_is_noticed_by_the_removal(copied, s3):
    bucket, url, _ = copied
    s3.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    with pytest.raises(StoreError, match="keeps older versions"):
        remove_copy(url, **s3.options)
    assert len(s3.keys(bucket)) == 3


def test_a_file_of_several_parts_arrives_whole(s3, tmp_path):
    place = open_place(f"s3://{s3.bucket()}/x", writable=True, **s3.options)
    (tmp_path / "big").write_bytes(bytes(range(256)) * (80 * 2**10))  # 20 MB, three parts
    place.upload("big", tmp_path / "big")
    assert place.read("big") == (tmp_path / "big").read_bytes()
    with place.open("big") as file:
        file.seek(12_000_001)
        assert file.read(2) == bytes([12_000_001 % 256, 12_000_002 % 256])


def test_the_command_copies_by_the_environment_and_removes(s3, source, monkeypatch, tmp_path):
    bucket = s3.bucket()
    url = f"s3://{bucket}/c"
    for name, value in {
        "ENDPOINT_URL": s3.options["endpoint"],
        "REGION": s3.options["region"],
        "ALLOW_HTTP": "true",
        "ACCESS_KEY_ID": "test",
        "SECRET_ACCESS_KEY": "test",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    runner = CliRunner()
    done = runner.invoke(app, ["data", "copy", str(source), url, "--home", str(tmp_path / "none"), "--json"])
    assert (done.exit_code, json.loads(done.output)) == (0, {"cohort": url}), done.output
    assert folder.open_pieces(url).head.name == folder.read(source).name
    again = runner.invoke(app, ["data", "copy", str(source), url, "--home", str(tmp_path / "none")])
    assert again.exit_code == 1
    assert runner.invoke(app, ["data", "remove", url]).exit_code == 0
    assert s3.keys(bucket) == set()
