"""Unchanged files are copied from earlier releases, never on trust."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.registry import Registry, retention
from pipeline.registry.reuse import LOOK_BACK, find_places
from tests.pipeline.registry.releases import BIG, FACTS, folder_of, put, remove

FILES = {"README.md": b"card", "tasks/a/adapter.safetensors": b"a" * BIG, "tasks/b/adapter.safetensors": b"b"}


@pytest.fixture
def sent(empty_registry: Registry, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of each body that is sent to ``releases/``, without manifests."""
    sizes: list[int] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        if "/releases/" in params["Key"] and not params["Key"].endswith("manifest.json"):
            sizes.append(len(params["Body"]))

    for operation in ("PutObject", "UploadPart"):
        empty_registry.store.client.meta.events.register(f"before-parameter-build.s3.{operation}", note)
    return sizes


def test_only_what_changed_is_sent(empty_registry: Registry, tmp_path: Path, sent: list[int]) -> None:
    made = folder_of(tmp_path / "made", FILES)
    empty_registry.publish(made, FACTS)
    assert sum(sent) == sum(map(len, FILES.values()))
    sent.clear()
    (made / "tasks/b/adapter.safetensors").write_bytes(b"changed")
    receipt = empty_registry.publish(made, FACTS)
    assert (receipt.uploaded, receipt.copied) == (1, 2)
    assert sent == [len(b"changed")]
    assert empty_registry.verify(receipt.release) == []


def test_a_file_that_moved_is_copied_too(empty_registry: Registry, tmp_path: Path, sent: list[int]) -> None:
    empty_registry.publish(folder_of(tmp_path / "made", FILES), FACTS)
    sent.clear()
    moved = {"tasks/c/adapter.safetensors": FILES["tasks/a/adapter.safetensors"]}
    receipt = empty_registry.publish(folder_of(tmp_path / "moved", moved), FACTS)
    assert sent == []
    assert empty_registry.verify(receipt.release) == []


def tamper(store: Registry, release: str) -> None:
    put(store, f"releases/{release}/tasks/a/adapter.safetensors", b"e" * BIG)


def lose(store: Registry, release: str) -> None:
    remove(store, f"releases/{release}/tasks/a/adapter.safetensors")


@pytest.mark.parametrize("spoil", [tamper, lose])
def test_what_is_not_what_its_manifest_says_is_sent(
    empty_registry: Registry, tmp_path: Path, sent: list[int], spoil: Any
) -> None:
    made = folder_of(tmp_path / "made", FILES)
    spoil(empty_registry, empty_registry.publish(made, FACTS).release)
    sent.clear()
    (made / "README.md").write_bytes(b"other")
    receipt = empty_registry.publish(made, FACTS)
    assert (receipt.uploaded, receipt.copied) == (2, 1)
    assert sum(sent) == BIG + len(b"other")
    assert empty_registry.verify(receipt.release) == []


def test_the_sum_that_s3_tells_of_a_copy_is_compared(
    empty_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS digests what it copies; the server of these tests does not tell."""
    made = folder_of(tmp_path / "made", FILES)
    empty_registry.publish(made, FACTS)
    (made / "README.md").write_bytes(b"other")
    copy_object = empty_registry.store.client.copy_object

    def told(**request: Any) -> Any:
        answer = copy_object(**request)
        answer["CopyObjectResult"]["ChecksumSHA256"] = "another"
        return answer

    monkeypatch.setattr(empty_registry.store.client, "copy_object", told)
    receipt = empty_registry.publish(made, FACTS)
    assert (receipt.uploaded, receipt.copied) == (3, 0)


def test_only_the_newest_releases_are_looked_through(empty_registry: Registry, tmp_path: Path) -> None:
    for number in range(LOOK_BACK + 2):
        made = folder_of(tmp_path / str(number), {"a": str(number).encode()})
        last = empty_registry.publish(made, FACTS).release
    others = [each.id for each in empty_registry.releases() if each.id != last]
    places = find_places(empty_registry.store, last)
    assert {release for release, _ in places.values()} == set(others[-LOOK_BACK:])


def test_a_release_is_complete_though_its_source_is_removed_meanwhile(
    empty_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = folder_of(tmp_path / "made", FILES)
    empty_registry.publish(made, FACTS)
    (made / "README.md").write_bytes(b"other")
    copy_object, done = empty_registry.store.client.copy_object, []

    def removed_first(**request: Any) -> Any:
        if not done:
            done.append(retention.prune(empty_registry.store, empty_registry.plan_prune(0), "Eve", "old"))
        return copy_object(**request)

    monkeypatch.setattr(empty_registry.store.client, "copy_object", removed_first)
    receipt = empty_registry.publish(made, FACTS)
    assert empty_registry.verify(receipt.release) == []
    assert [each.id for each in empty_registry.releases()] == [receipt.release]
