"""Where a rollback goes."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import InputError, RegistryError, ReleaseCorrupt
from pipeline.registry import Registry, channel
from pipeline.registry.store import Store


def publish(store: Registry, folder: Path, text: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "README.md").write_text(text)
    return store.publish(folder, {"by": "Ann", "reason": "a test"}).release


def promote(store: Registry, release: str) -> None:
    store.move("champion", release, "Ann", "better", store.channel())


def champion(store: Registry) -> str:
    now = store.channel()
    assert now is not None
    return now.release


def back(store: Registry, to: str | None = None) -> str:
    return store.roll_back("champion", to, "Ben", "wrong").release


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


def test_a_withdrawn_release_is_passed_over(empty_registry: Registry, tmp_path: Path) -> None:
    releases = [publish(empty_registry, tmp_path / "made", text) for text in "abcd"]
    for release in releases:
        promote(empty_registry, release)
    empty_registry.erase(releases[2], "Ann", "a request")
    assert back(empty_registry) == releases[1]
    empty_registry.erase(releases[0], "Ann", "a request")
    with pytest.raises(InputError, match="no champion is left"):
        back(empty_registry)


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
    append = channel.append

    def killed(store: Store, event: str, **facts: Any) -> str:
        if event == "rolled back":
            raise KeyboardInterrupt
        return append(store, event, **facts)

    with monkeypatch.context() as patch:
        patch.setattr(channel, "append", killed)
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


def test_a_rollback_reads_no_file_of_the_release_and_refuses_one_that_lacks_some(
    empty_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (publish(empty_registry, tmp_path / "made", text) for text in "ab")
    promote(empty_registry, first)
    promote(empty_registry, second)
    store = empty_registry.store
    key = f"{store.prefix}/releases/{first}/README.md"
    store.client.delete_object(Bucket=store.bucket, Key=key)
    with pytest.raises(ReleaseCorrupt, match=r"missing file README\.md"):
        back(empty_registry)
    assert champion(empty_registry) == second
    publish(empty_registry, tmp_path / "made", "a")
    asked: list[str] = []
    get_object = store.client.get_object

    def noted(**request: Any) -> Any:
        asked.append(request["Key"])
        return get_object(**request)

    monkeypatch.setattr(store.client, "get_object", noted)
    assert back(empty_registry) == first
    assert not [key for key in asked if key.endswith("README.md")]


def test_a_rollback_of_another_channel_leaves_the_champion(empty_registry: Registry, tmp_path: Path) -> None:
    first, second = (publish(empty_registry, tmp_path / "made", text) for text in "ab")
    promote(empty_registry, second)
    for release in (first, second):
        empty_registry.move("ward-3", release, "Ann", "a trial", empty_registry.channel("ward-3"))
    assert empty_registry.roll_back("ward-3", None, "Ben", "wrong").release == first
    assert champion(empty_registry) == second
    assert [each.name for each in empty_registry.channels()] == ["champion", "ward-3"]


def test_a_rollback_needs_a_reason_and_something_to_go_back_from(empty_registry: Registry) -> None:
    with pytest.raises(InputError, match="--reason"):
        empty_registry.roll_back("champion", None, "Ben", " ")
    with pytest.raises(InputError, match="no champion to roll back from"):
        empty_registry.roll_back("champion", None, "Ben", "wrong")


def test_the_release_before_is_a_way_back_where_its_own_move_is_not_told(
    empty_registry: Registry, tmp_path: Path
) -> None:
    """Moves made before intentions said what they replace."""
    first, second = (publish(empty_registry, tmp_path / "made", text) for text in "ab")
    promote(empty_registry, first)
    promote(empty_registry, second)
    store = empty_registry.store
    now = empty_registry.channel()
    assert now is not None
    key = f"{store.prefix}/history/{now.intention}.json"
    body = json.loads(store.get(key) or b"")
    del body["replaces"]
    old = f"{now.intention.rpartition('-')[0]}-0123abcd"  # their ids held no digest either
    store.put(f"{store.prefix}/history/{old}.json", json.dumps(body).encode())
    pointer = f"{store.prefix}/channels/champion.json"
    store.put(pointer, (store.get(pointer) or b"").replace(now.intention.encode(), old.encode()))
    assert back(empty_registry) == first


def test_an_overwritten_history_leads_nowhere(empty_registry: Registry, tmp_path: Path) -> None:
    first, second, evil = (publish(empty_registry, tmp_path / "made", text) for text in "abc")
    promote(empty_registry, first)
    promote(empty_registry, second)
    store = empty_registry.store
    now = empty_registry.channel()
    assert now is not None
    key = f"{store.prefix}/history/{now.intention}.json"
    body = json.loads(store.get(key) or b"") | {"previous": evil, "replaces": None}
    store.put(key, json.dumps(body).encode())
    with pytest.raises(RegistryError, match="overwritten"):
        back(empty_registry)
    assert champion(empty_registry) == second
