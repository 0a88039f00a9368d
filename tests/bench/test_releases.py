"""Parts of bench-releases, small: the proxy's faults are what it says, and rows measure what they say."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError

from pipeline.registry import Registry, client
from pipeline.registry.store import Store
from tests.bench.releases import __main__ as bench
from tests.bench.releases import faults, proxy, serving, tampering
from tests.bench.releases.proxy import Proxy
from tests.bench.releases.server import BUCKET, Server

KEY, OLD, NEW = "proxy/object", b"old" * 50_000, b"new" * 50_000


@pytest.fixture
def server(s3: Path) -> Server:
    return Server(s3)


@pytest.fixture
def straight(server: Server) -> Store:
    store = server.registry("proxy").store
    store.client.put_object(Bucket=BUCKET, Key=KEY, Body=OLD)
    return store


@pytest.fixture
def spoiled(
    server: Server, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    """The server by a proxy that spoils every request in one way; its client tries once."""
    monkeypatch.setattr(client, "READ_TIMEOUT", 0.3)
    monkeypatch.setattr(proxy, "STALL", 0.8)
    monkeypatch.setattr(proxy, "PAUSE", 0.01)
    with Proxy(server.port, 1.0, kinds=(request.param,)) as between:
        yield Store(client.connect(server.config_by(between.port), attempts=1), BUCKET, "proxy")
        assert between.kinds[request.param] == between.requests


def through(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("spoiled", [kind], indirect=True)


@pytest.mark.parametrize("spoiled", ["error", "reset", "stall", "truncated-request"], indirect=True)
def test_what_the_server_never_heard_of_is_not_done(straight: Store, spoiled: Store) -> None:
    with pytest.raises((BotoCoreError, ClientError)):
        spoiled.client.put_object(Bucket=BUCKET, Key=KEY, Body=NEW)
    assert straight.get(KEY) == OLD


@through("lost")
def test_a_lost_answer_is_of_something_done(straight: Store, spoiled: Store) -> None:
    with pytest.raises(BotoCoreError):
        spoiled.client.put_object(Bucket=BUCKET, Key=KEY, Body=NEW)
    assert straight.get(KEY) == NEW


@through("truncated-answer")
def test_half_an_answer_is_noticed(straight: Store, spoiled: Store) -> None:
    with pytest.raises(BotoCoreError):
        spoiled.get(KEY)


@through("slow")
def test_a_slow_request_arrives(straight: Store, spoiled: Store) -> None:
    spoiled.client.put_object(Bucket=BUCKET, Key=KEY, Body=NEW)
    assert straight.get(KEY) == NEW


@through("stall")
def test_a_stall_outlasts_the_clients_patience(straight: Store, spoiled: Store) -> None:
    with pytest.raises(ReadTimeoutError):
        spoiled.client.head_object(Bucket=BUCKET, Key=KEY)


def test_the_bytes_of_requests_are_counted(server: Server, straight: Store) -> None:
    with Proxy(server.port) as between:
        store = Store(client.connect(server.config_by(between.port)), BUCKET, "proxy")
        store.client.put_object(Bucket=BUCKET, Key=KEY, Body=NEW)
        assert len(NEW) < between.sent < len(NEW) + 2_000
        assert (between.requests, dict(between.kinds)) == (1, {})
        assert store.get(KEY) == NEW


def test_a_reader_of_the_drill_sees_what_is_wrong(empty_registry: Registry, tmp_path: Path) -> None:
    """A drill whose reader never complains would prove nothing."""
    folder = faults._make(tmp_path / "made", 1)
    release = empty_registry.publish(folder, {"by": "Ann", "reason": "a test"}).release
    store = empty_registry.store
    store.client.delete_object(Bucket=BUCKET, Key=f"{store.prefix}/releases/{release}/README.md")

    class Once:
        looks = 0

        def is_set(self) -> bool:
            self.looks += 1
            return self.looks > 1

        def wait(self, _seconds: float) -> None:
            pass

    outcome = faults.Outcome()
    faults._read(empty_registry, Once(), outcome)  # type: ignore[arg-type]
    assert outcome.bad == [f"{release}: missing file README.md"]


def test_what_the_reader_saw_decides_the_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    outcome = faults.Outcome(publishes=2, bad=["x: missing file a"])
    monkeypatch.setattr(faults, "drill", lambda *_: outcome)
    rows = bench.faults_rows(None, tmp_path, bench.QUICK)  # type: ignore[arg-type]
    assert [row.holds for row in rows] == [False, True, True]
    assert "missing file a" in rows[0].note


@pytest.mark.slow
def test_the_rows_of_serving_are_made() -> None:
    found = serving.rows(clients=8)
    assert [row.holds for row in found] == [True, True, True]
    assert found[1].value is not None and found[1].value > 0


def test_the_rows_of_tampering_are_made() -> None:
    found = tampering.rows(count=5)
    assert [(row.value, row.holds) for row in found] == [(5, True)]
