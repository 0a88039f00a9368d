"""How every stage runs: parameters in, report out, an exit code, and its outcome on disk.

A stage module ends with::

    if __name__ == "__main__":
        main("split", run)

where ``run(params, progress)`` returns the stage's report, a JSON-able dict without clock,
host or path. ``main`` writes it to ``reports/<stage>.json`` and ends with 0, or with the exit
code of pipeline.errors. ``scratch/status/<stage>.json`` holds the outcome, because dvc answers
255 whatever a stage's code was.
"""

import argparse
import inspect
import logging
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from pipeline import RAW_STAGES, paths
from pipeline.digests import canonical_json
from pipeline.errors import PipelineError, Stopped
from pipeline.files import write_atomically
from pipeline.params import Params

Report = dict[str, Any]

TELEMETRY_OFF = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "GX_ANALYTICS_ENABLED": "False",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class Progress:
    """A stage's line in the terminal and its state for whoever watches from outside.

    ``scratch/status/<stage>.json`` holds ``stage, state (running | done | failed | stopped),
    done, total, message, work, error, exit_code``; ``work`` counts what this run really did
    (shards parsed, documents detected), which a report may not hold since it depends on the
    cache.
    """

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.stop_requested = False
        self.state: dict[str, Any] = {
            "stage": stage,
            "state": "running",
            "done": 0,
            "total": None,
            "message": "",
            "work": {},
            "error": None,
            "exit_code": None,
        }
        self._printed = 0.0
        self._write()

    def update(self, done: int, total: int, message: str = "") -> None:
        """Say how far the stage is; printed at most every two seconds, and at the end.

        ``message`` never holds text of a record.
        """
        self.state.update(done=done, total=total, message=message)
        now = time.monotonic()
        if done >= total or now - self._printed > 2:
            self._printed = now
            if is_main():
                print(f"{self.stage}: {done}/{total} {message}".rstrip(), flush=True)
            self._write()

    def count(self, **work: int) -> None:
        """Record what this run really did, beside what it found done."""
        self.state["work"].update(work)

    def check_stop(self) -> None:
        """Raise Stopped where a signal has asked for it: call at places safe to leave."""
        if self.stop_requested:
            raise Stopped(f"{self.stage} was stopped: run the same command again to go on")

    def finish(self, state: str, exit_code: int, error: str | None = None) -> None:
        """Leave the outcome."""
        self.state.update(state=state, exit_code=exit_code, error=error)
        self._write()

    def _write(self) -> None:
        if is_main():
            write_atomically(paths.status(self.stage), canonical_json(self.state))


def is_main() -> bool:
    """Whether this process speaks and writes for its stage: torchrun starts one several times."""
    return os.environ.get("RANK", "0") == "0"


def main(stage: str, run: Callable[[Params, Progress], Report], saves_on_stop: bool = False) -> NoReturn:
    """Run a stage as a program and end the process with its exit code.

    SIGTERM and SIGINT end it at once with Stopped; a stage that ``saves_on_stop`` is only told,
    by ``progress.check_stop()``, and ends where its state is safe.
    """
    argparse.ArgumentParser(
        prog=f"python -m pipeline.{stage}",
        description=inspect.getdoc(inspect.getmodule(run)),
        epilog="Parameters come from params.yaml.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    for name, value in TELEMETRY_OFF.items():
        os.environ.setdefault(name, value)
    os.umask(0o077)  # records, raw or de-identified, are for their owner alone
    if stage in RAW_STAGES:
        _silence_libraries()
    progress = Progress(stage)

    def request_stop(_signal: int, _frame: FrameType | None) -> None:
        progress.stop_requested = True
        if not saves_on_stop:
            progress.check_stop()

    signal.signal(signal.SIGTERM, request_stop)
    signal.signal(signal.SIGINT, request_stop)
    try:
        report = run(Params.load(), progress)
        if is_main():
            write_atomically(paths.report(stage), canonical_json(report))
    except Stopped as error:
        _end(progress, "stopped", error.exit_code, str(error))
    except PipelineError as error:
        _end(progress, "failed", error.exit_code, str(error))
    except OSError as error:
        # A system error's own text may hold a raw file's name.
        _end(progress, "failed", 1, f"{stage}: {os.strerror(error.errno or 0)}" + place(error))
    except Exception as error:
        # A library's message may quote a record, and de-identified text must not be logged either.
        _end(progress, "failed", 1, f"{stage} failed with {type(error).__name__}" + place(error))
    progress.finish("done", 0)
    sys.exit(0)


def place(error: BaseException) -> str:
    """Where an error was raised: file and line of each frame of ours, no values."""
    frames = traceback.extract_tb(error.__traceback__)
    return " at " + " > ".join(f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}" for frame in frames)


def _end(progress: Progress, state: str, exit_code: int, error: str) -> NoReturn:
    progress.finish(state, exit_code, error)
    print(f"{progress.stage}: {error}", file=sys.stderr, flush=True)
    sys.exit(exit_code)


def _silence_libraries() -> None:
    """Keep libraries from logging or warning in a process that holds raw text."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    # A frame's values must not reach the terminal by an uncaught exception either.
    sys.excepthook = lambda kind, error, _trace: print(f"{kind.__name__}{place(error)}", file=sys.stderr)
