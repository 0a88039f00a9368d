import stat

import pytest

from pipeline.cache import Cache
from tests.conftest import Checkout


def test_an_entry_is_whole_or_absent(checkout: Checkout) -> None:
    cache = Cache("split")
    key = cache.key(shard="0" * 16, code="x")
    with pytest.raises(RuntimeError), cache.put(key) as folder:
        (folder / "half").write_text("half")
        raise RuntimeError
    assert cache.get(key) is None
    with cache.put(key) as folder:
        (folder / "part").write_text("whole")
    assert (cache.get(key) / "part").read_text() == "whole"  # type: ignore[operator]
    assert [path.name for path in cache.folder.iterdir()] == [key]


def test_a_key_depends_on_every_input(checkout: Checkout) -> None:
    assert Cache.key(a=1, b=2) == Cache.key(b=2, a=1)
    assert Cache.key(a=1, b=2) != Cache.key(a=1, b=3)


def test_the_first_to_finish_an_entry_wins(checkout: Checkout) -> None:
    cache = Cache("split")
    with cache.put("k") as slower:
        (slower / "part").write_text("same")
        with cache.put("k") as faster:
            (faster / "part").write_text("same")
        kept = (cache.folder / "k").stat().st_ino
    assert (cache.folder / "k").stat().st_ino == kept
    assert [path.name for path in cache.folder.iterdir()] == ["k"]


@pytest.mark.parametrize("stage", ["ingest", "train"])
def test_entries_are_closed_to_others(checkout: Checkout, stage: str) -> None:
    cache = Cache(stage)
    cache.beside("index.json").write_text("raw")
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700
    with cache.put("k") as folder:
        (folder / "text").write_text("raw")
    for folder in (cache.folder / "k", cache.folder, cache.folder.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
