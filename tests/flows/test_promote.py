"""What a promotion demands before the pointer moves; each demand on a real registry."""

from pathlib import Path
from typing import Any

import pytest

from flows.promote import move, situation
from pipeline.errors import InputError
from pipeline.registry import Registry


def publish(store: Registry, folder: Path, text: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "README.md").write_text(text)
    return store.publish(folder, {"by": "Ann", "reason": "a test"}).release


def test_a_release_compared_with_another_champion_needs_a_word_of_its_own(
    empty_registry: Registry, tmp_path: Path
) -> None:
    first, second = (publish(empty_registry, tmp_path / "made", text) for text in "ab")
    gate: dict[str, Any] = {"verdict": "pass", "undecided": [], "against": "base"}
    champion = move(empty_registry, first, gate, None, "Ann", "first", [])
    assert "was compared with base" in situation(second, gate, champion)
    with pytest.raises(InputError, match=f"compared with base.*{first}.*moelora retrain"):
        move(empty_registry, second, gate, champion, "Ann", "newer", [])
    assert empty_registry.channel() == champion
    now = move(empty_registry, second, gate, champion, "Ann", "newer", [], confirm_other_comparison=True)
    assert now.release == second


def test_a_release_compared_with_a_champion_that_is_none_any_more_needs_it_too(
    empty_registry: Registry, tmp_path: Path
) -> None:
    release = publish(empty_registry, tmp_path / "made", "a")
    gate: dict[str, Any] = {"verdict": "pass", "undecided": [], "against": "f" * 16}
    with pytest.raises(InputError, match="none yet"):
        move(empty_registry, release, gate, None, "Ann", "first", [])
