"""Where a rollback goes."""

from pathlib import Path

import pytest

from flows.rollback import move_back
from pipeline.errors import InputError
from pipeline.registry import Registry


def publish(store: Registry, folder: Path, text: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "README.md").write_text(text)
    return store.publish(folder, {"by": "Ann", "reason": "a test"}).release


def promote(store: Registry, release: str) -> None:
    store.move("champion", release, "Ann", "better", store.channel())


def champion(store: Registry) -> str:
    channel = store.channel()
    assert channel is not None
    return channel.release


def back(store: Registry, to: str | None = None) -> str:
    return move_back(store, to, "wrong", "Ben").release


def test_a_second_rollback_goes_further_back(empty_registry: Registry, tmp_path: Path) -> None:
    first, second, third = (publish(empty_registry, tmp_path / "made", text) for text in "abc")
    for release in (first, second, third):
        promote(empty_registry, release)
    assert back(empty_registry) == second
    assert back(empty_registry) == first
    with pytest.raises(InputError, match="--to"):
        back(empty_registry)
    assert champion(empty_registry) == first
    assert back(empty_registry, third) == third  # by name it may be anything that was the champion


def test_a_release_promoted_again_is_a_way_back_again(empty_registry: Registry, tmp_path: Path) -> None:
    first, second, third = (publish(empty_registry, tmp_path / "made", text) for text in "abc")
    promote(empty_registry, first)
    promote(empty_registry, second)
    assert back(empty_registry) == first
    promote(empty_registry, second)
    promote(empty_registry, third)
    assert back(empty_registry) == second


def test_what_a_rollback_by_name_skipped_is_not_gone_back_to(
    empty_registry: Registry, tmp_path: Path
) -> None:
    first, second, third = (publish(empty_registry, tmp_path / "made", text) for text in "abc")
    for release in (first, second, third):
        promote(empty_registry, release)
    assert back(empty_registry, first) == first
    with pytest.raises(InputError, match="no champion is left before"):
        back(empty_registry)


def test_a_rollback_killed_after_its_move_counts(
    empty_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (publish(empty_registry, tmp_path / "made", text) for text in "abc")
    for release in (first, second, third):
        promote(empty_registry, release)
    append = empty_registry.append_history

    def killed(event: str, *args: object, **facts: object) -> str:
        if event == "rolled back":
            raise KeyboardInterrupt
        return append(event, *args, **facts)

    with monkeypatch.context() as patch:
        patch.setattr(empty_registry, "append_history", killed)
        with pytest.raises(KeyboardInterrupt):
            back(empty_registry)
    assert champion(empty_registry) == second
    assert back(empty_registry) == first


def test_what_never_was_the_champion_is_no_way_back(empty_registry: Registry, tmp_path: Path) -> None:
    first, never = (publish(empty_registry, tmp_path / "made", text) for text in "ab")
    promote(empty_registry, first)
    with pytest.raises(InputError, match=f"moelora promote {never}"):
        back(empty_registry, never)
    assert champion(empty_registry) == first
