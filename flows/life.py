"""Which runs have a process: each holds a lock in its worker's home as long as it lives.

    <home>/runs/<flow run>      locked from the pull step to the end of the run's process

A server learns of a death from the worker that started a process, or not at all where that died too:
whoever next looks at the home, a worker that starts or the watcher, marks the run as crashed, so that no
queue waits for it.
"""

import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Crashed

from flows import home

RUN = "PREFECT__FLOW_RUN_ID"
"""Where a worker names the run to the process that it starts."""

WORKER = "MOELORA_WORKER"
"""Where that process keeps its worker's number, though the worker may die while the clone is made."""


def begin() -> None:
    """Hold the lock of this process's run until the process ends, whatever program it turns into."""
    os.environ[WORKER] = str(os.getppid())
    run = os.environ.get(RUN)
    if run is None:
        return
    folder = home.folder() / "runs"
    folder.mkdir(exist_ok=True, mode=0o700)
    # Locked before it has its name, so that nobody ever sees it unlocked while the process lives.
    unnamed = folder / f".{secrets.token_hex(8)}"
    descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.set_inheritable(descriptor, True)
    unnamed.replace(folder / str(UUID(run)))


def bury(folder: Path) -> list[str]:
    """Mark the runs of a worker's home as crashed that have no process, or as cancelled those of which
    somebody wanted just that; their names."""
    marked = []
    for path, descriptor in _dead(folder):
        try:
            with get_client(sync_client=True) as client:
                run = client.read_flow_run(UUID(path.name))
                # One that waits to be tried again has no process yet.
                if run.state is None or not (run.state.is_final() or run.state.is_scheduled()):
                    asked = run.state is not None and run.state.is_cancelling()
                    end = Cancelled if asked else Crashed
                    state: State[Any] = end(message="Its process is gone.")
                    client.set_flow_run_state(run.id, state, force=True)
                    marked.append(run.name)
            path.unlink(missing_ok=True)
        except ObjectNotFound:
            path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)  # and with it the lock, which would make the run look alive
    return marked


def _dead(folder: Path) -> Iterator[tuple[Path, int]]:
    for path in sorted((folder / "runs").glob("[0-9a-f]*")):
        descriptor = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        yield path, descriptor
