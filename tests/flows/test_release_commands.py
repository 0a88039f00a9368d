"""What the commands about releases say, on a real registry; nothing is trained."""

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from flows.cli import app
from pipeline.registry import Registry
from tests.conftest import Checkout


@pytest.fixture
def registry(checkout: Checkout, registry_url: str, monkeypatch: pytest.MonkeyPatch) -> Registry:
    checkout.params(publish__registry=registry_url)
    monkeypatch.setenv("MOELORA_ACTOR", "tester")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    return Registry.open(registry_url)


@pytest.fixture
def three(registry: Registry, tmp_path: Path) -> list[str]:
    for text in "abc":
        made = tmp_path / text
        made.mkdir()
        (made / "README.md").write_text(text)
        (made / "gate.json").write_text('{"verdict": "pass"}')
        registry.publish(made, {"by": "Ann", "reason": "a test"})
    return [each.id for each in registry.releases()]


def moelora(*arguments: str) -> Result:
    done = CliRunner().invoke(app, arguments)
    assert done.exception is None, done.exception
    return done


def test_a_rollback_of_a_channel_of_the_teams(registry: Registry, three: list[str]) -> None:
    for release in three:
        registry.move("ward-3", release, "Ann", "a trial", registry.channel("ward-3"))
    done = moelora("rollback", "--channel", "ward-3", "--reason", "wrong")
    assert f"the ward-3 is {three[1]}" in done.output
    now = registry.channel("ward-3")
    assert now is not None
    assert (now.release, now.by, now.reason) == (three[1], "tester", "wrong")
    assert registry.channel() is None


def test_releases_name_the_channels_that_point_at_them(registry: Registry, three: list[str]) -> None:
    for name, release in {"champion": three[0], "ward-3": three[0], "candidate": three[2]}.items():
        registry.move(name, release, "Ann", "a trial", None)
    listed = json.loads(moelora("releases", "--json").stdout)
    assert [each["channels"] for each in listed] == [["champion", "ward-3"], [], ["candidate"]]
    assert [each["champion"] for each in listed] == [True, False, False]


def test_history_tells_a_move_in_one_line(registry: Registry, three: list[str]) -> None:
    registry.move("champion", three[0], "Ann", "better", None)
    lines = [line for line in moelora("history").stdout.splitlines() if "better" in line]
    (line,) = lines
    assert line.split()[1:] == ["promoted", "champion", three[0], "Ann", "better"]


def test_a_prune_shows_first_and_removes_when_told(registry: Registry, three: list[str]) -> None:
    registry.move("champion", three[0], "Ann", "better", None)
    shown = moelora("prune", "--keep", "1")
    assert "nothing is removed yet" in shown.output
    assert "moelora prune --keep 1 --apply" in shown.output
    assert [each.id for each in registry.releases()] == three
    moelora("prune", "--keep", "1", "--apply", "--reason", "our policy")
    assert [each.id for each in registry.releases()] == [three[0], three[2]]
    last = registry.history()[-1]
    assert (last["event"], last["release"], last["by"], last["reason"]) == (
        "pruned",
        three[1],
        "tester",
        "our policy",
    )
    plan = json.loads(moelora("prune", "--keep", "1", "--json").stdout)
    assert plan["plan"]["removed"] == []
    assert plan["done"] is None
