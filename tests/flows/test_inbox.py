import json
import stat
from pathlib import Path

import pytest

from flows import inbox
from pipeline.errors import DataError, InputError
from tests.conftest import Checkout

ALL = ["*.jsonl"]


def arrive(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.jsonl").write_text(text)
    return folder


def names() -> set[str]:
    return {path.relative_to("data/inbox").as_posix() for path in inbox.files()}


def test_each_content_is_linked_once_and_privately(checkout: Checkout, tmp_path: Path) -> None:
    source = arrive(tmp_path / "in", a="one", b="one", c="two")
    (source / "notes.txt").write_text("no data")
    first = inbox.link(source, ALL, "monday")
    assert first == inbox.Arrival("monday", linked=2, already=1, ignored=1)
    assert names() == {"monday/a.jsonl", "monday/c.jsonl"}
    assert inbox.link(source, ALL, "tuesday") == inbox.Arrival("tuesday", linked=0, already=3, ignored=1)
    for folder in ("data/inbox", "data/inbox/monday"):
        assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700
    assert Path("data/inbox/monday/c.jsonl").samefile(source / "c.jsonl")


def test_a_batch_is_named_after_what_is_new(checkout: Checkout, tmp_path: Path) -> None:
    source = arrive(tmp_path / "in", a="one")
    first = inbox.link(source, ALL).batch
    assert inbox.BATCH.fullmatch(first)
    assert first.startswith("batch-")
    assert inbox.link(source, ALL).batch == first
    assert inbox.link(arrive(source, b="two"), ALL).batch != first


def test_another_content_of_the_same_name_does_not_replace_the_first(
    checkout: Checkout, tmp_path: Path
) -> None:
    inbox.link(arrive(tmp_path / "in", a="one"), ALL, "monday")
    inbox.link(arrive(tmp_path / "other", a="two"), ALL, "monday")
    assert sorted(path.read_text() for path in inbox.files()) == ["one", "two"]


def test_sample_data_leaves_when_other_data_comes(checkout: Checkout, tmp_path: Path) -> None:
    inbox.SAMPLE.mkdir(parents=True)
    (inbox.SAMPLE / "x.jsonl").write_text("sample")
    assert inbox.drop_sample() is False
    inbox.link(arrive(tmp_path / "in", a="one"), ALL, "monday")
    assert names() == {"monday/a.jsonl"}


@pytest.mark.parametrize("batch", ["", "A", "a/b", "..", "sample", "x" * 65, "a b", "-a"])
def test_a_bad_batch_name_is_refused(checkout: Checkout, tmp_path: Path, batch: str) -> None:
    with pytest.raises(InputError, match="is no batch name"):
        inbox.link(arrive(tmp_path / "in", a="one"), ALL, batch)
    assert names() == set()


def test_a_folder_without_data_says_what_to_do(checkout: Checkout, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--inbox"):
        inbox.link(tmp_path / "nowhere", ALL)
    with pytest.raises(DataError, match="--include"):
        inbox.link(arrive(tmp_path / "in"), ALL)


def test_shards_are_those_of_files_the_pipeline_reads(checkout: Checkout, tmp_path: Path) -> None:
    inbox.link(arrive(tmp_path / "in", a="one"), ALL, "monday")
    Path("data/inbox/monday/notes.txt").write_text("no data")
    assert inbox.shards(ALL) == {"7692c3ad3540bb80"}
    assert json.dumps(sorted(inbox.shards(["*"]))).count(",") == 1
