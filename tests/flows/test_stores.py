"""DVC's objects on this disk and in a real S3, where versions and locks stand in the way."""

import configparser
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.stores import BucketStore, FolderStore, Store
from pipeline.registry import Objects, connect

ONE, LISTING = "aa" + "1" * 30, "bb" + "2" * 30 + ".dir"
FILES = {
    "files/md5/aa/" + "1" * 30: b"one",
    "files/md5/bb/" + "2" * 30 + ".dir": b"[]",
    "runs/ab/abc/def": b"cmd: x",
}


@pytest.fixture
def bucket(s3: Path) -> str:
    name = f"locked-{uuid.uuid4().hex[:8]}"
    connect(s3).create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return name


def opened(s3: Path, bucket: str) -> Objects:
    """By the options of a DVC remote alone."""
    parser = configparser.ConfigParser()
    parser.read(s3)
    known = parser["default"]
    options = {
        "endpointurl": known["endpoint_url"],
        "access_key_id": known["aws_access_key_id"],
        "secret_access_key": known["aws_secret_access_key"],
    }
    return Objects.open(f"s3://{bucket}/remote", options)


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_objects_are_listed_read_and_deleted(kind: str, s3: Path, bucket: str, tmp_path: Path) -> None:
    client = connect(s3)
    for name, data in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
        client.put_object(Bucket=bucket, Key=f"remote/{name}", Body=data)
    client.put_object(Bucket=bucket, Key="another/files/md5/cc/x", Body=b"not ours")
    store: Store
    store = FolderStore("f", tmp_path) if kind == "folder" else BucketStore("b", opened(s3, bucket))
    assert list(store.objects()) == [ONE, LISTING]
    assert (store.read(ONE), store.read(LISTING), list(store.runs())) == (b"one", b"[]", [b"cmd: x"])
    assert store.lock(ONE) is None
    assert store.delete(ONE) is None
    assert list(store.objects()) == [LISTING]
    assert store.delete(ONE) is None  # a killed run is gone through again


def test_every_version_goes_and_a_lock_is_named_with_its_end(s3: Path, bucket: str) -> None:
    client, key = connect(s3), "remote/files/md5/aa/" + "1" * 30
    store = BucketStore("b", opened(s3, bucket))
    for body in (b"old", b"new"):
        client.put_object(Bucket=bucket, Key=key, Body=body)
    client.delete_object(Bucket=bucket, Key=key)  # hides both
    assert store.delete(ONE) is None
    answer = client.list_object_versions(Bucket=bucket)
    assert not answer.get("Versions") and not answer.get("DeleteMarkers")
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    lock = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until}
    client.put_object(Bucket=bucket, Key=key, Body=b"kept", **lock)
    for told in (store.lock(ONE), store.delete(ONE)):
        assert told is not None
        assert (told.key, told.mode) == (key.removeprefix("remote/"), "COMPLIANCE")
        assert datetime.fromisoformat(told.until or "") == until
    assert store.read(ONE) == b"kept"
