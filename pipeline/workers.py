"""Who does a stage's work: this process alone, or processes beside it.

with Workers(count=2) as workers:
    workers.start()
    for result in workers.in_order(workers.submit(function, item) for item in items):
        …
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from pipeline.errors import PipelineError

P = ParamSpec("P")
R = TypeVar("R")


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Here(Executor):
    """Does what is submitted at once, in this process."""

    def submit(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> "Future[R]":
        done: Future[R] = Future()
        done.set_result(function(*args, **kwargs))
        return done


class Workers:
    """Does what is submitted at once and here, until ``start`` has called others in.

    They stay until the end of the ``with``, so that what they load is loaded once.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._executor: Executor = Here()
        self._end = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.__exit__(kind, error, trace)

    def start(self) -> None:
        """Call in others, unless there is to be one alone."""
        if isinstance(self._executor, Here) and self.count > 1:
            self._executor = self._end.enter_context(self._called())

    def _called(self) -> contextlib.AbstractContextManager[Executor]:
        return processes(self.count)

    def submit(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> "Future[R]":
        """``function`` of a module, with arguments that can be sent to another process."""
        return self._executor.submit(function, *args, **kwargs)

    def in_order(self, submitted: Iterator["Future[R]"]) -> Iterator[R]:
        """Results in the order of submission. No more is drawn from ``submitted`` than keeps all busy,
        so that what waits to be taken stays small.

        Raises PipelineError where a process was killed.
        """
        ahead = 1 if isinstance(self._executor, Here) else 2 * self.count
        waiting: deque[Future[R]] = deque()
        for future in submitted:
            waiting.append(future)
            if len(waiting) >= ahead:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())


def _result(future: "Future[R]") -> R:
    try:
        return future.result()
    except BrokenProcessPool:
        raise PipelineError("a process was killed, perhaps for want of memory: run again") from None


START = {
    "POLARS_MAX_THREADS": "1",
    # glibc gives buffers of some MiB back and asks for them again: a twentieth of the time goes to that.
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**26),
}
"""Environment that is read when a process starts or imports, before any code of ours runs."""


@contextlib.contextmanager
def processes(count: int) -> Iterator[Executor]:
    """That many processes, each with one thread, that say nothing and do not outlive this one."""
    before = {name: os.environ.get(name) for name in START}
    os.environ.update(START)
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _start_process, (os.getpid(),))
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _start_process(parent: int) -> None:
    """A process prints nothing, leaves signals to its parent, and does not outlive it."""
    quieten()
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def quieten() -> None:
    """No line of a library's may hold a patient's text; one thread a process."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    os.environ["OMP_NUM_THREADS"] = "1"
