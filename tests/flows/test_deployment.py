"""`moelora deploy` on a real server that asks for a password, as one must that listens beyond loopback."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from flows import local_prefect
from tests.flows.conftest import make_project
from tests.service import copy_code, environment, until

PASSWORD = "moelora:a long password"


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = environment() | local_prefect.QUIET
    env |= {"PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_SERVER_API_AUTH_STRING": PASSWORD}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}/api"
    until(lambda: local_prefect.answers(url), 90)
    yield url
    server.kill()
    server.wait()


def test_a_server_with_a_password_is_set_up_by_who_knows_it(
    guarded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", environment()["PATH"])
    root = tmp_path / "checkout"
    root.mkdir()
    copy_code(root)
    make_project(root, "", "local")
    env = environment() | {"PREFECT_API_URL": guarded, "PYTHONPATH": str(root), "HOME": str(tmp_path)}

    def moelora(*arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "flows.cli", *arguments]
        return subprocess.run(command, cwd=root, env=env | more, capture_output=True, text=True)

    def deploy(*arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
        return moelora("deploy", *arguments, **more)

    refused = deploy()
    assert refused.returncode == 1
    assert "refuses with 401: set PREFECT_API_AUTH_STRING" in refused.stderr
    assert "Traceback" not in refused.stderr
    known = {"PREFECT_API_AUTH_STRING": PASSWORD}
    first = deploy("--watch", str(tmp_path), "--notify", "https://chat.example.org/hook", **known)
    assert first.returncode == 0, first.stderr[-3000:]
    assert "the watcher was started" in first.stderr
    again = deploy(**known)
    assert again.returncode == 0, again.stderr[-3000:]
    assert "the watcher was started" not in again.stderr
    assert f"watching {tmp_path}" in again.stderr  # what was set stays
    kept = deploy("--watch", "/elsewhere", "--keep-sources", **known)
    assert f"watching {tmp_path}" in kept.stderr
    died = root / "scratch/service/gpu/runs"
    died.mkdir(parents=True)
    (died / str(uuid4())).touch()
    refused = moelora("work", "gpu")
    assert refused.returncode == 1
    assert "refuses with 401: set PREFECT_API_AUTH_STRING" in refused.stderr

    def ask(what: str) -> list[dict]:
        user, _, password = PASSWORD.partition(":")
        answer = httpx.post(f"{guarded}/{what}/filter", json={}, auth=(user, password), trust_env=False)
        answer.raise_for_status()
        return answer.json()

    assert {each["name"] for each in ask("deployments")} == {
        "gpu-stage",
        "promote",
        "retrain",
        "rollback",
        "watch",
    }
    assert {each["name"]: each["concurrency_limit"] for each in ask("work_pools")} == {
        "cpu": None,
        "gpu": 1,
        "promote": None,
    }
    limits = {each["name"]: each["concurrency_limit"] for each in ask("work_queues")}
    assert (limits["retrain"], limits["watch"]) == (1, 1)
    names = [each["name"] for each in ask("automations")]
    assert len(names) == len(set(names))
    assert sum("notify" in name for name in names) == 6
