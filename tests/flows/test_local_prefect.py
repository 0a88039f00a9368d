import json
import os
import socket
import urllib.request

import pytest

from flows import local_prefect
from pipeline.errors import PipelineError
from tests.conftest import Checkout


@pytest.fixture(autouse=True)
def no_server(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_API_URL", "")  # restored afterwards, whatever a test sets
    monkeypatch.setenv("PREFECT_HOME", "")


def test_a_named_server_is_used_and_none_is_started(
    prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    assert local_prefect.ensure() == prefect_api
    assert local_prefect.address() == prefect_api
    assert not local_prefect.SERVER.exists()
    assert os.environ["DO_NOT_TRACK"] == "1"


def test_a_named_server_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    with pytest.raises(PipelineError, match="unset PREFECT_API_URL"):
        local_prefect.ensure()


def test_a_server_of_another_checkout_is_not_used(prefect_api: str) -> None:
    local_prefect.HOME.mkdir(parents=True)
    local_prefect.SERVER.write_text(f'{{"process": {os.getpid()}, "url": "{prefect_api}"}}')
    assert local_prefect.address() is None
    assert local_prefect.stop() is False


def test_the_page_asks_its_own_server(prefect_api: str) -> None:
    with urllib.request.urlopen(f"{prefect_api.removesuffix('/api')}/ui-settings", timeout=10) as answer:
        assert json.load(answer)["api_url"] == prefect_api


def test_a_taken_port_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr(local_prefect, "PORT", taken.getsockname()[1])
        assert local_prefect._free_port() not in (0, taken.getsockname()[1])


def test_two_that_start_at_once_on_one_port_become_two_servers(
    prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The port was free when it was looked for, and another checkout's server has it now."""
    taken = int(prefect_api.removesuffix("/api").rpartition(":")[2])
    ports = [taken]
    free = local_prefect._free_port
    monkeypatch.setattr(local_prefect, "_free_port", lambda: ports.pop() if ports else free())
    monkeypatch.delenv("PREFECT_API_URL")
    try:
        found = local_prefect.ensure()
        assert found != prefect_api
        assert local_prefect.answers(found)
        assert ports == []
    finally:
        assert local_prefect.stop()
