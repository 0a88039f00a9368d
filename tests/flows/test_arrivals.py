"""Files that arrive in a folder and in S3: taken once, when they are complete, or put aside with a reason."""

import gzip
import hashlib
import io
import json
import os
from pathlib import Path

import polars as pl
import pytest

from flows import arrivals
from flows.arrivals import Arrivals, Look, new_batch, open_source, what_is_wrong
from flows.inbox import check_batch, stamps
from pipeline.errors import DataError
from pipeline.registry import Registry

INCLUDE = ["*.jsonl", "*.jsonl.gz", "*.csv", "*.parquet"]
LINE = b'{"input": "Featherstone"}\n'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("MOELORA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MOELORA_REPOSITORY", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    (tmp_path / "drop").mkdir()
    return tmp_path / "drop"


def settled(drop: Path, batch: str = "march") -> Look:
    """Look twice, as a watcher does that waits for no time at all."""
    watched = Arrivals(INCLUDE, settle=0.0)
    watched.look([str(drop)], batch)
    return watched.look([str(drop)], batch)


def inbox(home: Path) -> dict[str, bytes]:
    folder = home / "inbox"
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_a_file_is_taken_once_it_has_settled(home: Path, drop: Path) -> None:
    watched = Arrivals(INCLUDE, settle=0.0)
    (drop / "ward").mkdir()
    (drop / "ward/a.jsonl").write_bytes(LINE)
    assert watched.look([str(drop)], "march") == Look(waiting=1)
    (drop / "ward/a.jsonl").write_bytes(LINE * 2)  # still being written
    assert watched.look([str(drop)], "march") == Look(waiting=1)
    assert watched.look([str(drop)], "march") == Look(taken=1)
    assert watched.look([str(drop)], "march") == Look()
    assert inbox(home) == {"march/ward/a.jsonl": LINE * 2}
    assert (home / "inbox/march/ward").stat().st_mode & 0o077 == 0
    assert list((home / "incoming").iterdir()) == []


def test_what_is_taken_does_not_change_with_its_source(home: Path, drop: Path) -> None:
    (drop / "a.jsonl").write_bytes(LINE)
    settled(drop)
    with (drop / "a.jsonl").open("ab") as file:
        file.write(LINE)
    assert inbox(home) == {"march/a.jsonl": LINE}
    assert settled(drop, "april").taken == 1  # what has changed is another content
    assert inbox(home) == {"march/a.jsonl": LINE, "april/a.jsonl": LINE * 2}


def test_each_content_comes_once_across_restarts(home: Path, drop: Path) -> None:
    (drop / "a.jsonl").write_bytes(LINE)
    assert settled(drop).taken == 1
    (drop / "the same by another name.jsonl").write_bytes(LINE)
    assert settled(drop) == Look(already=1)
    (home / "arrivals.json").unlink()  # killed before it was written
    assert settled(drop) == Look(already=2)
    assert len(inbox(home)) == 1


def test_a_digest_beside_a_file_makes_it_complete_at_once(home: Path, drop: Path) -> None:
    (drop / "a.jsonl").write_bytes(LINE)
    (drop / "a.jsonl.sha256").write_text(f"{hashlib.sha256(LINE).hexdigest()}  a.jsonl\n")
    assert Arrivals(INCLUDE, settle=60).look([str(drop)], "march") == Look(taken=1)
    (drop / "b.jsonl").write_bytes(LINE[:-5])
    (drop / "b.jsonl.sha256").write_text(f"{hashlib.sha256(LINE + b'b').hexdigest()}\n")
    watched = Arrivals(INCLUDE, settle=60)
    assert watched.look([str(drop)], "march") == Look(waiting=1)
    (drop / "b.jsonl").write_bytes(LINE + b"b")
    assert watched.look([str(drop)], "march") == Look(taken=1)
    assert settled(drop) == Look()
    (drop / "c.jsonl").write_bytes(LINE[:-6])
    (drop / "c.jsonl.sha256").write_text("0" * 64)
    assert settled(drop) == Look(quarantined=1)


def parquet() -> bytes:
    file = io.BytesIO()
    pl.DataFrame({"input": ["x"]}).write_parquet(file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jsonl", LINE, None),
        ("a.jsonl", "é\n".encode("latin-1"), None),
        ("a.csv", "input\nx\n".encode("utf-16"), None),
        ("A.CSV", "input\nx\n".encode("utf-16-le"), None),
        ("a.json", '[{"input": 1}]'.encode("utf-16-be"), None),
        ("a.xml", b"<d/>", None),
        ("a.txt", b"\0\0\0\1", "it is no text"),
        ("A.JSONL.GZ", LINE, "it does not begin as .gz files do"),
        ("a.jsonl.gz", gzip.compress(LINE), None),
        ("a.parquet", parquet(), None),
        ("a.jsonl", b"", "it is empty"),
        ("a.jsonl", b"\x89PNG\0\0", "it is no text"),
        ("a.jsonl.gz", LINE, "it does not begin as .gz files do"),
        ("a.jsonl.gz", gzip.compress(os.urandom(5000))[:-20], "it is cut short"),
        ("a.parquet", parquet()[:-1], "it is cut short"),
        ("a.parquet", LINE, "it does not begin as .parquet files do"),
    ],
)
def test_no_data_is_told_by_its_kind(tmp_path: Path, name: str, content: bytes, reason: str | None) -> None:
    (tmp_path / name).write_bytes(content)
    assert what_is_wrong(tmp_path / name, name) == reason


def test_what_is_no_data_is_kept_aside_with_its_reason(home: Path, drop: Path) -> None:
    (drop / "a.csv").write_bytes(b"")
    (drop / "note.txt").write_bytes(LINE)
    (drop / ".hidden.jsonl").write_bytes(LINE)
    watched = Arrivals(INCLUDE, settle=0.0)
    assert watched.look([str(drop)], "march") == Look(waiting=1, ignored=1)
    assert watched.look([str(drop)], "march") == Look(quarantined=1)
    assert watched.look([str(drop)], "march") == Look()
    assert arrivals.unread() == []
    (about,) = (home / "quarantine").glob("*.json")
    assert json.loads(about.read_text())["reason"] == "it is empty"
    assert about.with_suffix("").is_file()
    assert inbox(home) == {}
    assert arrivals.unread() == []


def test_objects_of_a_prefix_are_taken_as_they_are_there(
    home: Path, empty_registry: Registry, registry_url: str
) -> None:
    store = empty_registry.store
    for name in ("in/a.jsonl", "in/ward/b.jsonl", "elsewhere/c.jsonl"):
        store.client.put_object(Bucket=store.bucket, Key=store.key(name), Body=LINE + name.encode())
    source = f"{registry_url}/in"
    watched = Arrivals(INCLUDE)
    assert watched.look([source], "march") == Look(taken=2)
    assert set(inbox(home)) == {"march/a.jsonl", "march/ward/b.jsonl"}
    assert Arrivals(INCLUDE).look([source], "april") == Look()


def test_a_source_that_is_away_keeps_nobody_waiting(home: Path, drop: Path) -> None:
    (drop / "a.jsonl").write_bytes(LINE)
    watched = Arrivals(INCLUDE, settle=0.0)
    sources = [str(drop / "gone"), str(drop), "relative"]
    assert watched.look(sources, "march") == Look(waiting=1, unreachable=2)
    assert watched.look(sources, "march") == Look(taken=1, unreachable=2)
    with pytest.raises(DataError, match="full path"):
        open_source("relative")


def test_a_batch_is_unread_until_a_retraining_has_seen_all_its_files(home: Path, drop: Path) -> None:
    (drop / "a.jsonl").write_bytes(LINE)
    settled(drop)
    assert arrivals.unread() == ["march"]
    arrivals.mark_read(stamps(home / "inbox"))
    assert arrivals.unread() == []
    (drop / "b.jsonl").write_bytes(LINE * 2)  # came into the batch after that look
    settled(drop)
    assert arrivals.unread() == ["march"]
    arrivals.mark_read(stamps(home / "inbox"))
    (home / "inbox/Featherstone 1970").mkdir()
    (home / "inbox/Featherstone 1970/x.jsonl").write_bytes(LINE * 3)
    assert arrivals.unread() == ["by-hand"]  # a folder's own name may be private


def test_what_a_person_changes_in_the_inbox_is_unread(home: Path, drop: Path) -> None:
    (drop / "a.jsonl").write_bytes(LINE)
    (drop / "b.jsonl").write_bytes(LINE * 2)
    settled(drop)
    arrivals.mark_read(stamps(home / "inbox"))
    (home / "inbox/march/b.jsonl").unlink()
    assert arrivals.unread() == []
    (home / "inbox/march/a.jsonl").write_bytes(LINE * 3)
    assert arrivals.unread() == ["march"]
    arrivals.mark_read(stamps(home / "inbox"))
    (home / "inbox/Featherstone.jsonl").write_bytes(LINE * 4)
    assert arrivals.unread() == ["by-hand"]
    arrivals.mark_read(stamps(home / "inbox"))
    assert arrivals.unread() == []


def test_what_was_taken_out_does_not_come_back(home: Path, drop: Path) -> None:
    (drop / "a.jsonl").write_bytes(LINE)
    settled(drop)
    (home / "inbox/march/a.jsonl").unlink()
    (drop / "a.jsonl").write_bytes(LINE)  # the nightly export writes it anew
    os.utime(drop / "a.jsonl", (1, 1))
    assert settled(drop) == Look(already=1)
    assert inbox(home) == {}


def test_one_file_that_cannot_be_read_keeps_no_other_waiting(
    home: Path, drop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        (drop / name).write_bytes(LINE + name.encode())
    fetch = arrivals.Folder.fetch

    def refuse(self: arrivals.Folder, offer: arrivals.Offer, target: Path) -> None:
        if offer.path.name == "a.jsonl":
            raise PermissionError(13, "Permission denied", offer.key)
        fetch(self, offer, target)

    monkeypatch.setattr(arrivals.Folder, "fetch", refuse)
    assert settled(drop) == Look(taken=1, unreadable=1)


def test_links_are_not_followed(home: Path, drop: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.jsonl").write_bytes(LINE)
    (drop / "a.jsonl").symlink_to(tmp_path / "secret.jsonl")
    assert settled(drop) == Look()


def test_keys_lead_nowhere_but_below_the_batch(
    home: Path, empty_registry: Registry, registry_url: str
) -> None:
    store = empty_registry.store
    for name in ("in//etc/x.jsonl", "in//inbox//y.jsonl"):
        store.client.put_object(Bucket=store.bucket, Key=store.key(name), Body=LINE + name.encode())
    assert Arrivals(INCLUDE).look([f"{registry_url}/in"], "march") == Look(taken=2)
    assert set(inbox(home)) == {"march/etc/x.jsonl", "march/inbox/y.jsonl"}


def test_the_services_own_files_are_no_source(home: Path, drop: Path) -> None:
    for folder in ("/", str(home.parent)):
        with pytest.raises(DataError, match="own files"):
            open_source(folder)


def test_batches_have_names_that_may_be_branches() -> None:
    check_batch(new_batch())
    assert new_batch() != new_batch()


def test_the_first_data_drives_out_the_sample(home: Path, drop: Path) -> None:
    (home / "inbox/sample").mkdir(parents=True)
    (home / "inbox/sample/s.jsonl").write_bytes(b"{}\n")
    assert arrivals.unread() == []
    (drop / "a.jsonl").write_bytes(LINE)
    settled(drop)
    assert set(inbox(home)) == {"march/a.jsonl"}
