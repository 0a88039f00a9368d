"""The history, against a real S3 server."""

from typing import Any

import pytest

from pipeline.errors import RegistryError
from pipeline.registry import Registry, channel
from pipeline.registry.history import reconcile
from pipeline.registry.store import Store
from tests.pipeline.registry.releases import put


def test_history_is_in_order_of_time_and_longer_than_a_page(
    empty_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    paginate = empty_registry.store.client.get_paginator("list_objects_v2").paginate

    class Pages:
        def paginate(self, **request: Any) -> Any:
            return paginate(**request, PaginationConfig={"PageSize": 3})

    monkeypatch.setattr(empty_registry.store.client, "get_paginator", lambda _name: Pages())
    for number in range(8):
        empty_registry.append_history("noted", None, "Ann", "a test", number=number)
    history = empty_registry.history()
    assert [entry["number"] for entry in history] == list(range(8))
    assert len({entry["id"] for entry in history}) == 8


# What readers conclude where an outcome is missing


def intended(entry: str, replaces: str | None, channel: str = "champion") -> dict[str, Any]:
    facts = {"release": f"release of {entry}", "by": "Ann", "reason": "a test", "at": "now"}
    return facts | {
        "id": entry,
        "event": "intended",
        "intended": "promoted",
        "channel": channel,
        "replaces": replaces,
    }


def told(entries: list[dict[str, Any]], **now: str) -> list[tuple[str, str]] | None:
    """Events and the intentions they belong to."""
    found = reconcile(entries, lambda: now)
    return None if found is None else [(each["event"], each.get("intention", each["id"])) for each in found]


def test_an_intention_in_force_came_true() -> None:
    assert told([intended("1", None)], champion="1") == [("intended", "1"), ("promoted", "1")]


def test_an_intention_replaced_by_one_in_force_came_true() -> None:
    chain = [intended("1", None), intended("2", "1"), intended("3", "2")]
    events = told(chain, champion="3")
    assert events == [(event, number) for number in "123" for event in ("intended", "promoted")]


def test_an_intention_that_another_came_before_is_lost() -> None:
    done = {"id": "4", "event": "promoted", "intention": "2"}
    entries = [intended("1", None), intended("2", None), intended("3", "2"), done]
    assert told(entries, champion="2") == [
        ("intended", "1"),
        ("lost", "1"),
        ("intended", "2"),
        ("intended", "3"),  # may still come true
        ("promoted", "2"),
    ]


def test_channels_do_not_settle_each_others_intentions() -> None:
    entries = [intended("1", None), intended("2", None, "ward-3")]
    assert told(entries, champion="1") == [("intended", "1"), ("promoted", "1"), ("intended", "2")]


def test_a_pointer_newer_than_what_was_read_asks_for_another_reading() -> None:
    assert told([intended("1", None)], champion="2") is None


def test_what_is_found_out_says_so_and_repeats_the_facts() -> None:
    (_, outcome) = reconcile([intended("1", None)], lambda: {"champion": "1"}) or []
    assert outcome == {
        "event": "promoted",
        "intention": "1",
        "id": "1-reconciled",
        "reconciled": True,
        "channel": "champion",
        "release": "release of 1",
        "by": "Ann",
        "reason": "a test",
        "at": "now",
    }


def test_a_promotion_killed_after_its_move_is_in_the_history(
    empty_registry: Registry, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = channel.append

    def killed(store: Store, event: str, **facts: Any) -> str:
        if event == "promoted":
            raise KeyboardInterrupt
        return append(store, event, **facts)

    with monkeypatch.context() as patch:
        patch.setattr(channel, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            empty_registry.move("champion", published, "Ann", "better", None, facts={"approval": {"a": 1}})
    assert [entry["event"] for entry in empty_registry.history()] == ["published", "intended", "promoted"]
    last = empty_registry.history()[-1]
    assert (last["release"], last["reconciled"], last["approval"]) == (published, True, {"a": 1})


def test_an_entry_that_is_no_json_is_named(empty_registry: Registry) -> None:
    put(empty_registry, "history/20260101T000000.000000Z-1.json", b"{")
    with pytest.raises(RegistryError, match=r"entry 20260101T000000\.000000Z-1 "):
        empty_registry.history()
