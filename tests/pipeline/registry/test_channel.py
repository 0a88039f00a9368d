"""Channels, against a real S3 server."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipeline import registry
from pipeline.errors import (
    PointerMoved,
    RegistryError,
    ReleaseNotFound,
)
from pipeline.registry import Registry
from tests.pipeline.registry.releases import FACTS, folder_of, put, remove


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
