"""Digests of files that are known without reading them again."""

import os
import time
from pathlib import Path

import pytest

from pipeline.digests import file_digest
from pipeline.ingest.index import COARSE_SECONDS, Index


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two files; time is as if they had lain there for a while."""
    folder = tmp_path / "inbox"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_bytes(name.encode())
    later = time.time_ns() + (COARSE_SECONDS + 1) * 10**9
    monkeypatch.setattr("pipeline.ingest.index.time.time_ns", lambda: later)
    return folder


def look(inbox: Path) -> int:
    """How many files had to be read; all digests are right."""
    index = Index(inbox.parent / "index.json", inbox)
    found = index.digests(sorted(inbox.iterdir()))
    assert {path: seen.digest for path, seen in found.items()} == {
        path: file_digest(path) for path in inbox.iterdir()
    }
    return index.hashed


def test_a_file_is_read_once(inbox: Path) -> None:
    assert [look(inbox), look(inbox)] == [2, 0]


def test_a_change_of_equal_size_is_seen_though_the_time_was_set_back(inbox: Path) -> None:
    look(inbox)
    before = (inbox / "a").stat()
    (inbox / "a").write_bytes(b"c")
    os.utime(inbox / "a", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert look(inbox) == 1


def test_a_file_in_anothers_place_is_read(inbox: Path) -> None:
    look(inbox)
    (inbox / "b").replace(inbox / "a")
    assert look(inbox) == 1


def test_what_has_just_changed_is_read_again(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert [look(inbox), look(inbox)] == [2, 2]


def test_what_left_is_forgotten(inbox: Path) -> None:
    look(inbox)
    (inbox / "a").unlink()
    look(inbox)
    assert '"a"' not in (inbox.parent / "index.json").read_text()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": 1}', b'{"a": [[1], "x"]}', b"\xff"])
def test_a_damaged_index_costs_time_only(inbox: Path, content: bytes) -> None:
    (inbox.parent / "index.json").write_bytes(content)
    assert [look(inbox), look(inbox)] == [2, 0]
