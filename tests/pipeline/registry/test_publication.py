"""Publishing, against a real S3 server."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from pipeline import registry
from pipeline.digests import listing, listing_digest
from pipeline.errors import (
    RegistryUnavailable,
    ReleaseCorrupt,
    ReleaseNotFound,
)
from pipeline.registry import Registry, publication, verify_folder
from pipeline.registry.meter import Meter
from pipeline.registry.upload import scan, upload
from tests.pipeline.registry.releases import BIG, FACTS, FILES, folder_of, put, remove


def test_what_is_published_is_pulled(empty_registry: Registry, tmp_path: Path) -> None:
    files = FILES | {"moelora/adapter.safetensors": bytes(range(256)) * (BIG // 256)}
    made = folder_of(tmp_path / "made", files)
    receipt = empty_registry.publish(made, FACTS)
    digest, size = listing_digest(listing(made)), sum(map(len, files.values()))
    assert receipt == registry.Receipt(digest[:16], 3, size, already=False, uploaded=3, copied=0)
    assert empty_registry.exists(receipt.release)
    assert empty_registry.verify(receipt.release) == []
    assert empty_registry.read(receipt.release, "README.md") == b"card\n"
    folder = empty_registry.pull(receipt.release, tmp_path / "pulled")
    assert {name: (folder / name).read_bytes() for name in files} == files
    verify_folder(folder, receipt.release)
    (listed,) = empty_registry.releases()
    assert (listed.id, listed.files, listed.bytes) == (receipt.release, 3, size)


def test_the_manifest_is_what_the_layout_says(empty_registry: Registry, published: str) -> None:
    manifest = empty_registry.manifest(published)
    assert manifest["release"] == published
    assert [file["path"] for file in manifest["files"]] == sorted(FILES)
    for file in manifest["files"]:
        data = FILES[file["path"]]
        assert file == {
            "path": file["path"],
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }


def test_publishing_again_sends_nothing_and_says_so_once(
    empty_registry: Registry, published: str, tmp_path: Path
) -> None:
    again = empty_registry.publish(tmp_path / "made", FACTS)
    assert (again.release, again.already, again.uploaded) == (published, True, 0)
    assert [entry["event"] for entry in empty_registry.history()] == ["published"]


def test_a_pulled_folder_publishes_the_same_release(
    empty_registry: Registry, published: str, tmp_path: Path
) -> None:
    folder = empty_registry.pull(published, tmp_path / "pulled")
    assert empty_registry.publish(folder, FACTS).release == published


def test_a_release_without_manifest_is_invisible_and_a_new_run_completes_it(
    empty_registry: Registry, tmp_path: Path
) -> None:
    made = folder_of(tmp_path / "made")
    release = listing_digest(listing(made))[:16]
    done = [source for source in scan(made) if "safetensors" not in source.file["path"]]
    upload(empty_registry.store, release, done, Meter(0, None))
    put(empty_registry, f"releases/{release}/moelora/adapter.safetensors", b"cut short")
    assert empty_registry.releases() == []
    assert not empty_registry.exists(release)
    with pytest.raises(ReleaseNotFound, match="moelora releases"):
        empty_registry.pull(release, tmp_path / "pulled")
    assert not (tmp_path / "pulled").exists()
    receipt = empty_registry.publish(made, FACTS)
    assert (receipt.already, receipt.uploaded) == (False, 1)
    assert empty_registry.verify(release) == []


def test_publishing_again_heals_a_lost_file(empty_registry: Registry, published: str, tmp_path: Path) -> None:
    remove(empty_registry, f"releases/{published}/README.md")
    assert empty_registry.verify(published) == ["missing file README.md"]
    assert empty_registry.publish(tmp_path / "made", FACTS).uploaded == 1
    assert empty_registry.verify(published) == []


def test_two_publishers_of_the_same_release_both_succeed(empty_registry: Registry, tmp_path: Path) -> None:
    made = folder_of(tmp_path / "made")
    with ThreadPoolExecutor(4) as pool:
        receipts = list(pool.map(lambda _: empty_registry.publish(made, FACTS), range(4)))
    assert len({receipt.release for receipt in receipts}) == 1
    assert [receipt.already for receipt in receipts].count(False) == 1
    assert empty_registry.verify(receipts[0].release) == []


@pytest.mark.parametrize("size", [7, BIG])
def test_files_changed_while_they_are_published_are_no_release(
    empty_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    made = folder_of(tmp_path / "made", FILES | {"moelora/adapter.safetensors": b"a" * size})
    send = publication.upload

    def change_and_send(*args: Any) -> None:
        (made / "moelora/adapter.safetensors").write_bytes(b"b" * size)
        send(*args)

    monkeypatch.setattr(publication, "upload", change_and_send)
    with pytest.raises(ReleaseCorrupt, match="changed while"):
        empty_registry.publish(made, FACTS)
    assert empty_registry.releases() == []


@pytest.mark.parametrize("name", [".hidden", "a/.git", "with space", "a\nb", "-rf"])
def test_unsafe_names_are_not_published(empty_registry: Registry, tmp_path: Path, name: str) -> None:
    with pytest.raises(ReleaseCorrupt, match="no safe file name"):
        empty_registry.publish(folder_of(tmp_path / "made", {name: b"x"}), FACTS)


def test_an_empty_folder_is_no_release(empty_registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(ReleaseCorrupt, match="no file"):
        empty_registry.publish(tmp_path, FACTS)


def test_a_large_file_whose_upload_fails_leaves_nothing_behind(
    empty_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = folder_of(tmp_path / "made", {"moelora/big": b"x" * BIG})
    store = empty_registry.store

    def gone(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="gone")

    with monkeypatch.context() as patch:
        patch.setattr(store.client, "upload_part", gone)
        with pytest.raises(RegistryUnavailable):
            empty_registry.publish(made, FACTS)
    assert empty_registry.releases() == []
    left = store.client.list_multipart_uploads(Bucket=store.bucket, Prefix=store.prefix)
    assert "Uploads" not in left
    assert empty_registry.publish(made, FACTS).uploaded == 1


def test_an_upload_whose_last_answer_was_lost_is_known_as_done(
    empty_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = empty_registry.store.client.complete_multipart_upload

    def twice(**request: Any) -> Any:
        complete(**request)
        return complete(**request)

    monkeypatch.setattr(empty_registry.store.client, "complete_multipart_upload", twice)
    receipt = empty_registry.publish(folder_of(tmp_path / "made", {"moelora/big": b"x" * BIG}), FACTS)
    assert empty_registry.verify(receipt.release) == []


def test_a_publication_tells_how_far_it_is(empty_registry: Registry, tmp_path: Path) -> None:
    files = FILES | {"moelora/big": b"x" * BIG}
    told: list[tuple[int, int]] = []
    made = folder_of(tmp_path / "made", files)
    for _ in range(2):
        empty_registry.publish(made, FACTS, lambda done, total: told.append((done, total)))
        size = sum(map(len, files.values()))
        assert told[-1] == (size, size)
        assert [done for done, _ in told] == sorted(done for done, _ in told)
        told.clear()


@pytest.mark.parametrize("size", [0, 1, BIG - 12_345, 2 * (BIG - 12_345), 2 * BIG])
def test_files_of_any_size_arrive(empty_registry: Registry, tmp_path: Path, size: int) -> None:
    """Among them whole numbers of parts, whose last part is as large as the others."""
    receipt = empty_registry.publish(folder_of(tmp_path / "made", {"a": b"x" * size, "b": b""}), FACTS)
    assert empty_registry.verify(receipt.release) == []
    assert (empty_registry.pull(receipt.release, tmp_path / "to") / "a").stat().st_size == size
