"""What the watcher does beside taking files: people are asked about a candidate, and told of silence."""

import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.variables import Variable

from flows import watch
from pipeline.registry import CANDIDATE, Registry
from tests.conftest import Checkout
from tests.flows.test_promote import publish


@flow(name="promote")
def promote(release: str) -> None: ...


def look(offered: set[str]) -> None:
    """As a watcher does; a logger of Prefect's wants a flow run around it."""

    @flow(name="look")
    def in_a_run() -> None:
        with get_client(sync_client=True) as client:
            watch.offer_candidate(client, offered)

    in_a_run()


def asked() -> list[Any]:
    with get_client(sync_client=True) as client:
        return [run.parameters for run in watch.recent_runs(client, "promote")]


def test_people_are_asked_once_about_a_candidate_whose_event_was_lost(
    prefect_api: str, empty_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (publish(empty_registry, tmp_path / "made", text) for text in "ab")
    monkeypatch.setattr(watch, "open_registry", lambda: empty_registry)
    with temporary_settings({PREFECT_API_URL: prefect_api}):
        with get_client(sync_client=True) as client:
            client.create_deployment(client.create_flow(promote), "promote")
        look(set())  # no candidate yet
        before = empty_registry.move(CANDIDATE, first, "Ann", "retrained", None, "candidate")
        look(set())
        assert asked() == []  # its event may be on the way
        monkeypatch.setattr(watch, "BEGINS", timedelta(0))
        look({first})
        assert asked() == []
        look(set())
        look(set())
        assert asked() == [{"release": first}]
        empty_registry.move(CANDIDATE, second, "Ann", "retrained", before, "candidate")
        empty_registry.append_history("rejected", second, "Bob", "no")
        look({first})
        assert asked() == [{"release": first}]


def test_two_weeks_without_a_file_are_told_once_until_one_comes(
    prefect_api: str, checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, home = tmp_path / "drop", tmp_path / "home"
    source.mkdir()
    monkeypatch.setenv("MOELORA_HOME", str(home))
    monkeypatch.setenv("MOELORA_REPOSITORY", str(home))
    told: list[str] = []
    monkeypatch.setattr(watch, "emit_event", lambda event, **_: told.append(event))

    @flow(name="look-again")
    def a_watcher_begins_and_looks() -> None:
        watcher = watch.Watcher()
        for _ in range(2):
            watcher._spoke = -watch.SPEAK_EVERY
            watcher.look()

    def long_ago() -> None:
        record = home / "arrivals.json"
        past = datetime.now(UTC) - watch.STALE
        record.write_text(json.dumps(json.loads(record.read_text()) | {"last": past.isoformat()}))

    with temporary_settings({PREFECT_API_URL: prefect_api}):
        Variable.set(watch.SOURCES, [str(source)], overwrite=True)
        a_watcher_begins_and_looks()
        assert told == []  # nothing came yet, and the watch has only begun
        long_ago()
        a_watcher_begins_and_looks()
        a_watcher_begins_and_looks()
        assert told == ["clinical-data.stale"]
        told.clear()
        (source / "a.jsonl").write_text("{}\n")
        (source / "a.jsonl.sha256").write_text(sha256(b"{}\n").hexdigest())
        a_watcher_begins_and_looks()
        assert told == []
        long_ago()
        a_watcher_begins_and_looks()
        assert told.count("clinical-data.stale") == 1
