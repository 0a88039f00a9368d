"""A run that ends with those it works for: its worker's process, and the run that waits for it.

A worker that is killed leaves the processes of its runs behind; nobody would cancel those, and a
second training would start beside the first. A thread looks, and ends this process by SIGTERM, which
stops a stage after it has saved its state. Whoever was killed itself is seen by its worker.
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

from flows import life
from flows.workspace import is_deployed

WORKER_EVERY = 1.0
"""Seconds between looks whether the worker's process lives."""

PARENT_EVERY = 5.0
"""Seconds between looks at the run that waits."""


@contextmanager
def leash(parent: str | None = None) -> Iterator[None]:
    """End this process when the worker that started it is gone, or the flow run ``parent`` has ended.

    Does nothing outside a deployment.
    """
    if not is_deployed():
        yield
        return
    done = threading.Event()
    worker = int(os.environ.get(life.WORKER) or os.getppid())
    arguments = (worker, None if parent is None else UUID(parent), done, get_run_logger())
    watcher = threading.Thread(target=_watch, args=arguments, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()


def _watch(worker: int, parent: UUID | None, done: threading.Event, log: "object") -> None:
    asked = time.monotonic()
    while not done.wait(WORKER_EVERY):
        reason = None
        if os.getppid() != worker:
            reason = "the worker of this run is gone"
            _say_nothing()
        elif parent is not None and time.monotonic() - asked > PARENT_EVERY:
            asked = time.monotonic()
            if _has_ended(parent):
                reason = "the run that waits for this one has ended"
        if reason is not None:
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
