"""A run's lock lives as long as its process, whatever program that turns into; the dead are marked."""

import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from prefect import flow, get_client
from prefect.client.schemas.objects import State
from prefect.states import Cancelling, Running

from flows import life

HOLD = """
import os, sys
from flows import life
life.begin()
assert os.environ["MOELORA_WORKER"] == str(os.getppid())
os.execv(sys.executable, [sys.executable, "-c", "print('another program', flush=True); import time; time.sleep(60)"])
"""


@flow(name="a-flow")
def a_flow() -> None: ...


def running(state: State | None = None) -> str:
    with get_client(sync_client=True) as client:
        return str(client.create_flow_run(a_flow, state=state or Running()).id)


def state(run: str) -> str:
    with get_client(sync_client=True) as client:
        found = client.read_flow_run(run).state  # type: ignore[arg-type]
    assert found is not None
    return str(found.name)


def test_only_a_run_without_a_process_is_marked(
    prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.setenv("MOELORA_HOME", str(tmp_path))
    with temporary_settings({PREFECT_API_URL: prefect_api}):
        run = running()
        monkeypatch.setenv(life.RUN, run)
        process = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"another program\n"
        assert life.bury(tmp_path) == []
        assert state(run) == "Running"
        process.kill()
        process.wait()
        assert len(life.bury(tmp_path)) == 1
        assert state(run) == "Crashed"
        assert life.bury(tmp_path) == []
        assert list((tmp_path / "runs").iterdir()) == []
        cancelled = running(Cancelling())
        (tmp_path / "runs" / cancelled).touch()
        assert len(life.bury(tmp_path)) == 1
        assert state(cancelled) == "Cancelled"
        (tmp_path / "runs" / str(uuid4())).touch()  # of a run that somebody deleted
        assert life.bury(tmp_path) == []
        assert list((tmp_path / "runs").iterdir()) == []


def test_nothing_is_held_outside_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOELORA_HOME", str(tmp_path))
    monkeypatch.setenv(life.WORKER, "1")
    monkeypatch.delenv(life.RUN, raising=False)
    life.begin()
    assert not (tmp_path / "runs").exists()
