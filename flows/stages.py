"""Run one DVC stage as a process group of its own: stream it, watch it, stop all of it.

    flow ── dvc repro --single-item STAGE ── sh ── python -m pipeline.STAGE ── its workers
      │     └──────────────── one process group, one session ────────────────────────────┘
      │                       (dvc is started by flows.warm_dvc)
      └──── guard: ends the group when the flow's process dies without doing so (kill -9)

dvc answers 255 whatever a stage's exit code was and does not pass signals on, hence the status
file of pipeline.stage and the group. Knows nothing of Prefect: what a stage says goes to
functions that the caller gives.
"""

import json
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows.repository import drop_broken_lock, environment, without_names
from flows.warm_dvc import WARM_DVC, Command
from pipeline import paths
from pipeline.errors import InputError, PipelineError, Stopped

GRACE = 20.0
"""Seconds from TERM to KILL; a Prefect worker kills the flow 30 s after asking it to end."""

POLL = 0.5  # s between looks at the stage's status

GROUP = paths.STATUS / "running.json"
"""The process group of the stage that runs now, for a successor of a flow that was killed."""

DVC_HINTS = re.compile(
    r"(Generating|Updating) lock file|To track the changes|\s*git add |To enable auto"
    r"|\s*dvc config|Use `dvc push`"
)
"""Lines of dvc for somebody who types its commands; a flow does all that by itself."""

_GUARD = """
read -r done && exit
kill -s TERM -- "-$0"
for second in $(seq 20); do kill -s 0 -- "-$0" 2>/dev/null || exit; sleep 1; done
kill -s KILL -- "-$0"
"""

Status = dict[str, Any]


def run(stage: str, log: Callable[[str], None], watch: Callable[[Status], None], force: bool = False) -> bool:
    """Bring one stage up to date; whether its program ran (False: nothing it depends on changed).

    ``log`` gets each line it prints, ``watch`` its status twice a second while it runs. Whatever
    ends this call, an exception or a signal included, no process of the stage outlives it.

    Raises InputError where the input is at fault, Stopped where a signal ended the stage after it
    saved its state, PipelineError otherwise.
    """
    status = paths.status(stage)
    status.parent.mkdir(parents=True, exist_ok=True)
    status.unlink(missing_ok=True)  # the outcome of an earlier run is not this one's
    arguments = ["--wait-for-lock", "repro", "--single-item", *(["--force"] if force else []), stage]
    last_error = ""

    def tell(line: str) -> None:
        nonlocal last_error
        line = without_names(line)
        if DVC_HINTS.match(line):
            return
        if line.startswith("ERROR: "):
            last_error = line.removeprefix("ERROR: ")
        log(line)

    pipe, end = os.pipe()
    with os.fdopen(pipe, "rb", buffering=0) as printed:
        try:
            process = WARM_DVC.start(arguments, environment(), end, end)
        finally:
            os.close(end)
        guard = None
        try:
            guard = subprocess.Popen(
                ["/bin/sh", "-c", _GUARD, str(process.pid)], stdin=subprocess.PIPE, start_new_session=True
            )
            GROUP.write_text(json.dumps({"group": process.pid}))
            _follow(process, printed.fileno(), tell, lambda: watch(_read(status)))
        finally:
            end_group(process.pid, process)
            GROUP.unlink(missing_ok=True)
            if guard is not None:
                guard.communicate(b"done\n")
    return _outcome(stage, process.wait(), _read(status), last_error)


def end_leftovers() -> bool:
    """End the stage that a killed flow left running in this checkout; whether there was one."""
    try:
        group = int(json.loads(GROUP.read_text())["group"])
        # Numbers are used again: only processes that work in this checkout are ours.
        left = any(_is_here(member) for member in _members(group))
    except (OSError, ValueError, KeyError):
        left = False
    if left:
        end_group(group)
    GROUP.unlink(missing_ok=True)
    drop_broken_lock()
    return left


def end_group(group: int, leader: Command | None = None) -> None:
    """End every process of a group: TERM, wait up to GRACE, KILL."""
    for how, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, 3.0)):
        if leader is not None:
            leader.poll()
        if not _members(group):
            break
        try:
            os.killpg(group, how)
        except ProcessLookupError:
            break
        deadline = time.monotonic() + patience
        while _members(group) and time.monotonic() < deadline:
            time.sleep(0.05)
    if leader is not None:
        leader.wait()


def _follow(process: Command, pipe: int, tell: Callable[[str], None], look: Callable[[], None]) -> None:
    """Pass lines on as they come until the leader has ended and all it wrote is read."""
    rest = b""
    looked = 0.0
    while True:
        ended = process.poll() is not None
        ready, _, _ = select.select([pipe], [], [], 0 if ended else POLL)
        block = os.read(pipe, 1 << 16) if ready else b""
        *lines, rest = (rest + block).split(b"\n")
        if ended and not block and rest:
            lines, rest = [rest], b""
        for line in lines:
            # A progress bar writes its states over each other: the last one counts.
            text = line.decode(errors="replace").rstrip().rpartition("\r")[2]
            if text:
                tell(text)
        if ended and not block:
            return
        if time.monotonic() - looked >= POLL:
            looked = time.monotonic()
            look()
        if ready and not block:
            process.wait()


def _outcome(stage: str, code: int, status: Status, last_error: str) -> bool:
    if code == 0:
        return bool(status)
    message = status.get("error") or ""
    match status.get("exit_code"):
        case InputError.exit_code:
            raise InputError(message)
        case Stopped.exit_code:
            raise Stopped(message)
        case None if status:
            raise PipelineError(
                f"{stage} ended without a word: killed, perhaps for memory; run the same command again"
            )
        case None:
            raise PipelineError(f"{stage} was not started: {last_error or 'see the log above'}")
        case 0:
            raise PipelineError(f"{stage} is done, but dvc could not keep its results: {last_error}")
        case _:
            raise PipelineError(message)


def _read(status: Path) -> Status:
    try:
        found: Status = json.loads(status.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def _members(group: int) -> list[int]:
    """Processes of a group that still run; zombies nobody reaps do not count."""
    import psutil

    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return []
    except PermissionError:  # macOS says so of zombies
        return []
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (psutil.Error, ProcessLookupError, PermissionError):
            continue
    return found


def _is_here(pid: int) -> bool:
    import psutil

    try:
        return Path(psutil.Process(pid).cwd()) == Path.cwd()
    except psutil.Error:
        return False
