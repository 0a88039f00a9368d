"""Pulling and verifying, and what tampering looks like, against a real S3 server."""

import hashlib
import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.response import StreamingBody

from pipeline.errors import (
    RegistryError,
    RegistryUnavailable,
    ReleaseCorrupt,
    ReleaseNotFound,
)
from pipeline.registry import Registry, pulled, verify_folder
from tests.conftest import Checkout
from tests.pipeline.registry.releases import BIG, FACTS, FILES, folder_of, put, put_manifest, remove

LARGE = bytes(range(256)) * (2 * BIG // 256)  # arrives in three parts


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


# Going on after a break


@pytest.fixture
def large(empty_registry: Registry, tmp_path: Path) -> str:
    return empty_registry.publish(folder_of(tmp_path / "made", FILES | {"moelora/big": LARGE}), FACTS).release


def counted(store: Registry, monkeypatch: pytest.MonkeyPatch, most: int | None = None) -> list[str]:
    """Ranges of the large file that are asked for; the server is gone after ``most`` of them."""
    asked: list[str] = []
    get_object = store.store.client.get_object

    def get(**request: Any) -> Any:
        if request["Key"].endswith("moelora/big"):
            if len(asked) == most:
                raise EndpointConnectionError(endpoint_url="gone")
            asked.append(request["Range"])
        return get_object(**request)

    monkeypatch.setattr(store.store.client, "get_object", get)
    return asked


def test_a_pull_goes_on_where_it_broke_off(
    empty_registry: Registry, large: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "pulled"
    with monkeypatch.context() as patch:
        first = counted(empty_registry, patch, most=1)
        with pytest.raises(RegistryUnavailable):
            empty_registry.pull(large, target)
    assert not target.exists()
    told: list[tuple[int, int]] = []
    second = counted(empty_registry, monkeypatch)
    empty_registry.pull(large, target, lambda done, total: told.append((done, total)))
    assert len(first) == 1
    assert len(second) == 2
    assert not set(first) & set(second)
    assert (target / "moelora/big").read_bytes() == LARGE
    verify_folder(target, large)
    total = sum(file["size"] for file in empty_registry.manifest(large)["files"])
    assert told[-1] == (total, total)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "pulled"]


def test_a_part_that_a_crash_left_half_written_is_fetched_again(
    empty_registry: Registry, large: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "pulled"
    with monkeypatch.context() as patch:
        counted(empty_registry, patch, most=2)
        with pytest.raises(RegistryUnavailable):
            empty_registry.pull(large, target)
    (left,) = tmp_path.glob(".pulled.*.partial/files/moelora/big")
    left.write_bytes(bytes(left.stat().st_size))
    empty_registry.pull(large, target)
    assert (target / "moelora/big").read_bytes() == LARGE


def test_two_pulls_at_once_share_one_copy(
    empty_registry: Registry, large: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = counted(empty_registry, monkeypatch)
    with ThreadPoolExecutor(2) as pool:
        pulls = [pool.submit(empty_registry.pull, large, tmp_path / "pulled") for _ in range(2)]
        assert {pull.result() for pull in pulls} == {tmp_path / "pulled"}
    assert len(asked) == 3
    verify_folder(tmp_path / "pulled", large)


def test_a_body_that_breaks_off_is_asked_for_again(
    empty_registry: Registry, published: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    get_object, broken = empty_registry.store.client.get_object, set[str]()

    def get(**request: Any) -> Any:
        answer = get_object(**request)
        if request["Key"] not in broken:
            broken.add(request["Key"])
            answer["Body"] = StreamingBody(io.BytesIO(b""), answer["ContentLength"])
        return answer

    monkeypatch.setattr(empty_registry.store.client, "get_object", get)
    assert empty_registry.verify(published) == []
    broken.clear()
    verify_folder(empty_registry.pull(published, tmp_path / "pulled"), published)


def test_only_the_manifest_that_was_promoted_is_pulled(empty_registry: Registry, tmp_path: Path) -> None:
    release = empty_registry.publish(folder_of(tmp_path / "made"), FACTS).release
    empty_registry.move("champion", release, "Ann", "better", None)
    champion = empty_registry.channel()
    assert champion is not None
    promoted = champion.manifest_sha256
    folder = empty_registry.pull(release, tmp_path / "a", manifest_sha256=promoted)
    assert empty_registry.pull(release, folder, manifest_sha256=promoted) == folder  # what lies here too
    for target in (folder, tmp_path / "b"):
        with pytest.raises(ReleaseCorrupt, match="not the one that was promoted"):
            empty_registry.pull(release, target, manifest_sha256="0" * 64)
    assert not (tmp_path / "b").exists()
