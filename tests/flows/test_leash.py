"""A run ends itself when the server holds it, or the run that waits for it, for ended."""

import subprocess
import sys
from pathlib import Path

import pytest
from prefect import flow, get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Crashed, Running

from tests.service import environment

FOLLOW = """
import sys, time
from uuid import UUID
from flows import leash
import logging, os, threading
leash.STATES_EVERY = 0.2
leash.WORKER_EVERY = 0.2
followed = {"this run": UUID(sys.argv[1])}
print("looking", flush=True)
leash._watch(os.getppid(), followed, threading.Event(), logging.getLogger())
time.sleep(60)
"""


@flow(name="a-followed-flow")
def a_flow() -> None: ...


def test_a_run_that_was_taken_for_dead_ends_itself(prefect_api: str, tmp_path: Path) -> None:
    with temporary_settings({PREFECT_API_URL: prefect_api}), get_client(sync_client=True) as client:
        run = client.create_flow_run(a_flow, state=Running())
        env = environment() | {"PREFECT_API_URL": prefect_api, "PREFECT_HOME": str(tmp_path)}
        process = subprocess.Popen(
            [sys.executable, "-c", FOLLOW, str(run.id)],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"looking\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)
        client.set_flow_run_state(run.id, Crashed(message="Nothing was heard of its process."), force=True)
        assert process.wait(15) == -15
