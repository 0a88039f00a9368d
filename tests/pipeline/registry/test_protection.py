"""Encryption and object lock of a bucket, on a real S3 server that has them."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import ReleaseNotFound
from pipeline.registry import Registry, connect
from pipeline.registry.protection import Protection
from pipeline.registry.store import Store
from tests.pipeline.registry.releases import BIG, FACTS, folder_of


@pytest.fixture
def locked(guarded_s3: Path) -> Iterator[Registry]:
    """A registry in a bucket that encrypts, and keeps every version for a day."""
    client, bucket = connect(guarded_s3), f"locked-{uuid.uuid4().hex[:8]}"
    client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    retention = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}
    client.put_object_lock_configuration(
        Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": retention}
    )
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    client.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
    return Registry(Store(client, bucket, "registry"))


def test_what_a_bucket_has_is_told(locked: Registry, empty_registry: Registry) -> None:
    assert locked.protection() == Protection("AES256", "Enabled", "COMPLIANCE 1 days")
    assert empty_registry.protection() == Protection(None, None, None)


def test_a_bucket_that_encrypts_and_locks_serves_like_any_other(locked: Registry, tmp_path: Path) -> None:
    files = {"README.md": b"a", "moelora/adapter.safetensors": b"x" * BIG}
    first = locked.publish(folder_of(tmp_path / "made", files), FACTS).release
    second = locked.publish(folder_of(tmp_path / "made", {"README.md": b"b"}), FACTS)
    assert (second.uploaded, second.copied) == (1, 1)
    for release in (first, second.release):
        assert locked.verify(release) == []
        locked.move("champion", release, "Ann", "better", locked.channel())
    assert locked.roll_back("champion", None, "Ann", "worse").release == first
    pulled = locked.pull(first, tmp_path / "pulled")
    assert (pulled / "moelora/adapter.safetensors").read_bytes() == b"x" * BIG
    for path in files:
        key = f"registry/releases/{first}/{path}"
        head = locked.store.client.head_object(Bucket=locked.store.bucket, Key=key)
        assert head["ServerSideEncryption"] == "AES256"
        assert head["ObjectLockMode"] == "COMPLIANCE"


def test_a_prune_hides_what_is_locked_and_names_it(locked: Registry, tmp_path: Path) -> None:
    release = locked.publish(folder_of(tmp_path / "made", {"README.md": b"a"}), FACTS).release
    done = locked.prune(locked.plan_prune(0), "Eve", "old")
    assert done.removed == (release,)
    assert locked.releases() == []
    with pytest.raises(ReleaseNotFound):
        locked.manifest(release)
    names = sorted(each.key.rpartition("/")[2] for each in done.locked)
    assert names == ["README.md", "manifest.json"]
    assert all(each.until is not None for each in done.locked)
