"""Releases, channels and history, against a real S3 server."""

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipeline import registry
from pipeline.digests import listing, listing_digest
from pipeline.errors import (
    ParamsError,
    PointerMoved,
    RegistryError,
    RegistryUnavailable,
    ReleaseCorrupt,
    ReleaseNotFound,
)
from pipeline.registry import Registry, publication, pulled, verify_folder
from pipeline.registry.manifest import manifest_of
from tests.conftest import Checkout

BIG = registry.PART + 12_345  # bytes: travels in two parts
FACTS = {"by": "Ann", "reason": "a test"}
FILES = {
    "README.md": b"card\n",
    "tasks/a/adapter_config.json": b"{}",
    "moelora/adapter.safetensors": b"weights",
}


def folder_of(path: Path, files: dict[str, bytes] = FILES) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


@pytest.fixture
def published(empty_registry: Registry, tmp_path: Path) -> str:
    return empty_registry.publish(folder_of(tmp_path / "made"), FACTS).release


def put(store: Registry, key: str, data: bytes) -> None:
    """Write an object behind the registry's back."""
    store.store.client.put_object(Bucket=store.store.bucket, Key=f"{store.store.prefix}/{key}", Body=data)


def remove(store: Registry, key: str) -> None:
    store.store.client.delete_object(Bucket=store.store.bucket, Key=f"{store.store.prefix}/{key}")


def put_manifest(store: Registry, files: list[dict[str, Any]], changes: dict[str, Any] | None = None) -> str:
    """A manifest by an attacker who makes the id fit the digests."""
    release = listing_digest({file["path"]: file["sha256"] for file in files})[:16]
    manifest = {"release": release, "files": files} | (changes or {})
    put(store, f"releases/{release}/manifest.json", json.dumps(manifest).encode())
    return release


# Publishing and pulling


def test_what_is_published_is_pulled(empty_registry: Registry, tmp_path: Path) -> None:
    files = FILES | {"moelora/adapter.safetensors": bytes(range(256)) * (BIG // 256)}
    made = folder_of(tmp_path / "made", files)
    receipt = empty_registry.publish(made, FACTS)
    digest, size = listing_digest(listing(made)), sum(map(len, files.values()))
    assert receipt == registry.Receipt(digest[:16], 3, size, already=False, uploaded=3)
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
    done = [file for file in manifest_of(made, listing(made))["files"] if "safetensors" not in file["path"]]
    publication.upload(empty_registry.store, made, release, done)
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


def test_files_changed_while_they_are_published_are_no_release(
    empty_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = folder_of(tmp_path / "made")
    upload = publication.upload

    def upload_and_change(*args: Any) -> None:
        upload(*args)
        (made / "README.md").write_text("changed")

    monkeypatch.setattr(publication, "upload", upload_and_change)
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


def test_pull_goes_to_the_cache_and_replaces_a_damaged_copy(
    empty_registry: Registry, published: str, checkout: Checkout
) -> None:
    folder = empty_registry.pull(published)
    assert folder == pulled(published) == Path("scratch/open/releases") / published
    (folder / "README.md").write_text("other")
    with pytest.raises(ReleaseCorrupt, match=r"changed file README\.md"):
        verify_folder(folder, published)
    (folder / "tasks/a/extra.bin").write_text("")
    with pytest.raises(ReleaseCorrupt, match=r"extra file tasks/a/extra\.bin"):
        verify_folder(folder, published)
    assert empty_registry.pull(published) == folder
    verify_folder(folder, published)


def test_a_pulled_copy_needs_no_server(
    empty_registry: Registry,
    registry_url: str,
    published: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = empty_registry.pull(published, tmp_path / "pulled")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert Registry.open(registry_url).pull(published, folder) == folder


def test_pull_never_replaces_a_folder_of_something_else(
    empty_registry: Registry, published: str, tmp_path: Path
) -> None:
    mine = folder_of(tmp_path / "mine", {"thesis.txt": b"years of work"})
    with pytest.raises(RegistryError, match="empty folder"):
        empty_registry.pull(published, mine)
    assert (mine / "thesis.txt").read_bytes() == b"years of work"


def test_a_signature_is_pulled_and_is_no_extra_file(
    empty_registry: Registry, published: str, tmp_path: Path
) -> None:
    put(empty_registry, f"releases/{published}/manifest.sig", b"signed")
    assert empty_registry.verify(published) == []
    assert (empty_registry.pull(published, tmp_path / "pulled") / "manifest.sig").read_bytes() == b"signed"


def test_what_is_not_there_is_not_found(empty_registry: Registry, published: str, tmp_path: Path) -> None:
    with pytest.raises(ReleaseNotFound):
        empty_registry.manifest("0" * 16)
    with pytest.raises(ReleaseNotFound, match="16 hex"):
        empty_registry.manifest("../../x")
    with pytest.raises(ReleaseNotFound, match=r"no file weights\.bin"):
        empty_registry.read(published, "weights.bin")
    with pytest.raises(ReleaseNotFound, match="moelora pull"):
        verify_folder(tmp_path / "absent", published)
    with pytest.raises(ReleaseNotFound, match="channel name"):
        empty_registry.channel("../x")


# Tampering


@pytest.mark.parametrize(
    ("tamper", "named"),
    [
        (lambda s, r: put(s, f"releases/{r}/README.md", b"carD\n"), "changed file README.md: its SHA-256"),
        (
            lambda s, r: put(s, f"releases/{r}/README.md", b"car"),
            "changed file README.md: 3 bytes instead of 5",
        ),
        (lambda s, r: put(s, f"releases/{r}/README.md", b"card\n!"), "changed file README.md: longer than 5"),
        (lambda s, r: remove(s, f"releases/{r}/README.md"), "missing file README.md"),
    ],
    ids=["flipped", "shorter", "longer", "removed"],
)
def test_a_tampered_file_is_named_and_refused(
    empty_registry: Registry,
    published: str,
    tmp_path: Path,
    tamper: Callable[[Registry, str], None],
    named: str,
) -> None:
    tamper(empty_registry, published)
    (problem,) = empty_registry.verify(published)
    assert problem.startswith(named)
    with pytest.raises(ReleaseCorrupt, match=r"file README\.md"):
        empty_registry.pull(published, tmp_path / "pulled")
    assert list(tmp_path.iterdir()) == [tmp_path / "made"]
    with pytest.raises(ReleaseCorrupt):
        empty_registry.read(published, "README.md")
    with pytest.raises(ReleaseCorrupt, match="not moved"):
        empty_registry.move("champion", published, **FACTS, expected=None)
    assert empty_registry.channel() is None


def test_an_extra_file_is_named(empty_registry: Registry, published: str) -> None:
    put(empty_registry, f"releases/{published}/tasks/a/run.py", b"evil")
    assert empty_registry.verify(published) == ["extra file tasks/a/run.py"]


def test_an_exchanged_manifest_is_refused(empty_registry: Registry, published: str, tmp_path: Path) -> None:
    manifest = dict(empty_registry.manifest(published))
    manifest["files"] = manifest["files"][:-1]
    put(empty_registry, f"releases/{published}/manifest.json", json.dumps(manifest).encode())
    assert "give another id" in empty_registry.verify(published)[0]
    with pytest.raises(ReleaseCorrupt, match="give another id"):
        empty_registry.pull(published, tmp_path / "pulled")


@pytest.mark.parametrize(
    "path", ["../evil", "/etc/evil", "a/../../evil", "a//b", "a\\..\\b", "", ".ssh/key", "manifest.json"]
)
def test_a_path_that_leaves_the_folder_is_refused(
    empty_registry: Registry, tmp_path: Path, path: str
) -> None:
    digest = hashlib.sha256(b"evil").hexdigest()
    release = put_manifest(empty_registry, [{"path": path, "size": 4, "sha256": digest}])
    with pytest.raises(ReleaseCorrupt, match="no safe file name"):
        empty_registry.pull(release, tmp_path / "sub/pulled")
    assert list(tmp_path.rglob("*")) == []
    assert "no safe file name" in empty_registry.verify(release)[0]


@pytest.mark.parametrize(
    "changes", [{"files": 1}, {"files": [{"path": "a"}]}, {"files": []}, {"note": "x"}, {"release": 7}]
)
def test_a_malformed_manifest_is_refused(empty_registry: Registry, changes: dict[str, Any]) -> None:
    good = [{"path": "a", "size": 4, "sha256": hashlib.sha256(b"evil").hexdigest()}]
    release = put_manifest(empty_registry, good, changes)
    with pytest.raises(ReleaseCorrupt, match=release):
        empty_registry.manifest(release)


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"null", b"{"])
def test_a_manifest_that_is_none_is_refused(empty_registry: Registry, published: str, data: bytes) -> None:
    put(empty_registry, f"releases/{published}/manifest.json", data)
    with pytest.raises(ReleaseCorrupt, match="malformed"):
        empty_registry.manifest(published)


# Channels and history


def test_a_channel_moves_and_the_history_tells_it(
    empty_registry: Registry, published: str, tmp_path: Path
) -> None:
    second = empty_registry.publish(folder_of(tmp_path / "b", {"README.md": b"b"}), FACTS).release
    assert empty_registry.channel("champion") is None
    first = empty_registry.move("champion", published, "Ann", "better", expected=None)
    assert empty_registry.channel("champion") == first
    assert (first.release, first.previous, first.by, first.reason) == (published, None, "Ann", "better")
    body = empty_registry.store.get(f"{empty_registry.store.prefix}/releases/{published}/manifest.json")
    assert body is not None
    assert first.manifest_sha256 == hashlib.sha256(body).hexdigest()
    then = empty_registry.move("champion", second, "Ben", "worse", expected=first, event="rolled back")
    assert (then.release, then.previous) == (second, published)
    assert empty_registry.channel("champion") == then
    told = [(entry["event"], entry["release"]) for entry in empty_registry.history()]
    assert told == [
        ("published", published),
        ("published", second),
        ("intended", published),
        ("promoted", published),
        ("intended", second),
        ("rolled back", second),
    ]
    assert {entry["by"] for entry in empty_registry.history()} == {"Ann", "Ben"}


def test_of_eight_racers_one_wins_and_the_others_learn_who(
    empty_registry: Registry, published: str, tmp_path: Path
) -> None:
    second = empty_registry.publish(folder_of(tmp_path / "b", {"README.md": b"b"}), FACTS).release
    for expected in (None, "now"):
        start = empty_registry.channel() if expected else None
        line = threading.Barrier(8)

        def race(number: int, start: registry.Channel | None = start, line: Any = line) -> Any:
            line.wait()
            try:
                target = (published, second)[number % 2]
                return empty_registry.move("champion", target, f"racer {number}", "race", start)
            except PointerMoved as error:
                return str(error)

        with ThreadPoolExecutor(8) as pool:
            outcomes = list(pool.map(race, range(8)))
        (winner,) = [outcome for outcome in outcomes if isinstance(outcome, registry.Channel)]
        assert empty_registry.channel() == winner
        losers = [outcome for outcome in outcomes if isinstance(outcome, str)]
        assert len(losers) == 7
        assert all(f"to {winner.release} by {winner.by}" in text for text in losers)
    events = [entry["event"] for entry in empty_registry.history()]
    assert [events.count(event) for event in ("intended", "promoted", "lost")] == [16, 2, 14]


def test_a_channel_that_was_unset_meanwhile_is_not_moved(empty_registry: Registry, published: str) -> None:
    first = empty_registry.move("champion", published, **FACTS, expected=None)
    remove(empty_registry, "channels/champion.json")
    with pytest.raises(PointerMoved, match="no longer set"):
        empty_registry.move("champion", published, **FACTS, expected=first)


def test_a_move_whose_answer_was_lost_is_known_as_won(
    empty_registry: Registry, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that hears nothing asks again, and its own first success is then in its way."""
    put_once = empty_registry.store.put

    def put_twice(key: str, data: bytes, **condition: str) -> str | None:
        put_once(key, data, **condition)
        return put_once(key, data, **condition)

    monkeypatch.setattr(empty_registry.store, "put", put_twice)
    moved = empty_registry.move("champion", published, **FACTS, expected=None)
    assert empty_registry.channel() == moved
    assert [entry["event"] for entry in empty_registry.history()][-1] == "promoted"


def test_only_a_published_release_may_be_promoted(empty_registry: Registry) -> None:
    with pytest.raises(ReleaseNotFound):
        empty_registry.move("champion", "0" * 16, **FACTS, expected=None)
    assert empty_registry.history() == []


def test_a_channel_that_holds_no_pointer_is_an_error(empty_registry: Registry) -> None:
    put(empty_registry, "channels/champion.json", b'{"release": "../../etc"}')
    with pytest.raises(RegistryError, match="no pointer"):
        empty_registry.channel()


def test_history_is_in_order_of_time_and_longer_than_a_page(
    empty_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    paginate = empty_registry.store.client.get_paginator("list_objects_v2").paginate

    class Pages:
        def paginate(self, **request: Any) -> Any:
            return paginate(**request, PaginationConfig={"PageSize": 3})

    monkeypatch.setattr(empty_registry.store.client, "get_paginator", lambda _name: Pages())
    for number in range(8):
        empty_registry.append_history("noted", None, "Ann", "a test", number=number)
    history = empty_registry.history()
    assert [entry["number"] for entry in history] == list(range(8))
    assert len({entry["id"] for entry in history}) == 8


# Configuration and failures


def test_a_wrong_key_is_told_with_the_remedy(registry_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "else")
    for act in (Registry.releases, Registry.history, Registry.channel):
        with pytest.raises(RegistryUnavailable, match=r"refuses .*moelora doctor"):
            act(Registry.open(registry_url))


def test_a_server_that_is_down_is_told_with_the_remedy(
    registry_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    store = Registry.open(registry_url)
    with pytest.raises(RegistryUnavailable, match=r"127\.0\.0\.1:1.*cannot be reached.*moelora doctor"):
        store.publish(folder_of(tmp_path / "made"), FACTS)


def test_a_missing_bucket_is_told(aws: Path, tmp_path: Path) -> None:
    store = Registry.open("s3://no-such-bucket/registry")
    for act in (store.releases, lambda: store.publish(folder_of(tmp_path / "made"), FACTS)):
        with pytest.raises(RegistryUnavailable, match="no such bucket"):
            act()


def test_a_profile_that_is_none_is_told(registry_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(RegistryUnavailable, match=r"nobody.*moelora doctor"):
        Registry.open(registry_url)


@pytest.mark.parametrize("url", ["moelora/x", "s3://moelora", "s3://moelora/", "s3://m/../x", "s3://m o/x"])
def test_another_kind_of_url_is_refused(url: str) -> None:
    with pytest.raises(ParamsError, match="s3://BUCKET/PREFIX"):
        Registry.open(url)


def test_local_is_this_checkouts_server_whatever_else_is_configured(
    s3: Path, checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "another")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("HOME", str(checkout.root))
    (checkout.root / ".aws").mkdir()
    (checkout.root / ".aws/config").write_text("[default]\nendpoint_url = http://127.0.0.1:1\n")
    with pytest.raises(RegistryUnavailable, match="moelora services start"):
        Registry.open("local")
    registry.LOCAL_CONFIG.parent.mkdir(parents=True)
    shutil.copy(s3, registry.LOCAL_CONFIG)
    assert Registry.open("local").releases() == []


def test_a_bucket_is_never_looked_for_on_the_local_server(
    aws: Path, checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.LOCAL_CONFIG.parent.mkdir(parents=True)
    shutil.copy(aws, registry.LOCAL_CONFIG)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    assert "amazonaws.com" in Registry.open("s3://moelora/registry").address


def test_the_local_servers_file_is_not_mixed_with_the_environment(
    s3: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "else")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert registry.answers(s3)
