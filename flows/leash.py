"""A run that ends with those it works for: its worker's process, and the run that waits for it.

A worker that is killed leaves the processes of its runs behind; nobody would cancel those, and a
second training would start beside the first. So would one whose run was taken for dead: from a machine
that was cut off for a while. A thread looks, and ends this process by SIGTERM, which stops a stage after
it has saved its state. Whoever was killed itself is seen by its worker.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import httpx
from prefect import get_client, get_run_logger
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.runtime import flow_run

from flows import life
from flows.workspace import is_deployed

WORKER_EVERY = 1.0
"""Seconds between looks whether the worker's process lives."""

STATES_EVERY = 5.0
"""Seconds between looks at the states of this run and of the one that waits."""


@contextmanager
def leash(parent: str | None = None) -> Iterator[None]:
    """End this process when the worker that started it is gone, or when this flow run or ``parent`` has
    ended for the server.

    Does nothing outside a deployment.
    """
    if not is_deployed():
        yield
        return
    done = threading.Event()
    worker = int(os.environ.get(life.WORKER) or os.getppid())
    runs = {"this run": flow_run.id, "the run that waits for this one": parent}
    followed = {name: UUID(str(run)) for name, run in runs.items() if run is not None}
    arguments = (worker, followed, done, get_run_logger())
    watcher = threading.Thread(target=_watch, args=arguments, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()


def _watch(worker: int, followed: dict[str, UUID], done: threading.Event, log: "object") -> None:
    asked = time.monotonic()
    while not done.wait(WORKER_EVERY):
        reason = None
        if os.getppid() != worker:
            reason = "the worker of this run is gone"
            _say_nothing()
        elif time.monotonic() - asked > STATES_EVERY:
            asked = time.monotonic()
            ended = (name for name, run in followed.items() if _has_ended(run))
            reason = next((f"{name} has ended" for name in ended), None)
        if reason is not None and not done.is_set():
            log.warning("Stopping: %s.", reason)  # type: ignore[attr-defined]
            os.kill(os.getpid(), signal.SIGTERM)
            return


def _say_nothing() -> None:
    """Write to nowhere: the pipe to the worker is broken, and Prefect's console ends a thread that meets
    that, before it has done what is left to do."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)


def _has_ended(run: UUID) -> bool:
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(run).state
    except ObjectNotFound:
        return True  # deleted in the page
    except (httpx.HTTPError, PrefectException):
        return False  # a server that restarts says nothing of the run
    return state is not None and state.is_final()
