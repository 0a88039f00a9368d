from pathlib import Path

import pytest

from pipeline.files import new_folder, write_atomically


def test_a_failed_block_leaves_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with new_folder(target) as folder:
        (folder / "a").write_text("old")
    with pytest.raises(ValueError, match="half"), new_folder(target) as folder:
        (folder / "a").write_text("new")
        raise ValueError("half")
    assert (target / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    for name in ("old", "new"):
        with new_folder(tmp_path / "out") as folder:
            (folder / name).touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["new"]


def test_a_written_file_is_whole(tmp_path: Path) -> None:
    write_atomically(tmp_path / "x" / "a.json", "é")
    assert (tmp_path / "x" / "a.json").read_text(encoding="utf-8") == "é"
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["a.json"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / f".out.{'0' * 32}").mkdir()
    with new_folder(tmp_path / "out"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
