"""Who searches texts: this process, processes of its own, or those of a Ray cluster."""

import contextlib
import logging
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from pipeline.errors import InputError, PipelineError
from pipeline.params import Deidentify

P = ParamSpec("P")
R = TypeVar("R")


class Workers:
    """Does what is submitted at once and here, until ``start`` has called others in.

    They stay until the end of the ``with``, so that models are loaded once.
    """

    def __init__(self, settings: Deidentify) -> None:
        self._settings = settings
        self._executor: Executor | None = None
        self._end = contextlib.ExitStack()

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.__exit__(kind, error, trace)

    def start(self) -> None:
        """Call in others, unless ``deidentify.workers`` is 1. Raises InputError where Ray is missing."""
        if self._executor is None and self._settings.workers > 1:
            start = _ray if self._settings.executor == "ray" else _processes
            self._executor = self._end.enter_context(start(self._settings.workers))

    def submit(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> "Future[R]":
        """``function`` of a module, with arguments that can be sent to another process."""
        if self._executor is not None:
            return self._executor.submit(function, *args, **kwargs)
        done: Future[R] = Future()
        done.set_result(function(*args, **kwargs))
        return done


def result(future: "Future[R]") -> R:
    """What was submitted returns. Raises PipelineError where whoever did it was killed."""
    try:
        return future.result()
    except BrokenProcessPool:
        raise PipelineError(
            "deidentify: a detecting process was killed, perhaps for want of memory: "
            "run again, with a smaller deidentify.workers"
        ) from None
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "ray":
            raise
        raise PipelineError(
            f"deidentify: Ray ended the detection with {type(error).__name__}: run again"
        ) from None


@contextlib.contextmanager
def _processes(workers: int) -> Iterator[Executor]:
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_process, (os.getpid(),))
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _ray(workers: int) -> Iterator[Executor]:
    """On the cluster of RAY_ADDRESS, or on this machine: the same function, so the same findings.

    What Ray may write, a spilled object holds a chunk's texts, lies in a folder of ours alone
    that goes with the run; a cluster's own folders are its owner's to protect.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ModuleNotFoundError:
        raise InputError("deidentify.executor is ray, which is not installed: pip install ray") from None
    cluster = os.environ.get("RAY_ADDRESS")
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        local: dict[str, Any] = (
            {} if cluster else {"num_cpus": workers, "_temp_dir": folder, "include_dashboard": False}
        )
        ray.init(address=cluster or "local", logging_level=logging.ERROR, log_to_driver=False, **local)
        try:
            yield _RayExecutor(ray)
        finally:
            ray.shutdown()


class _RayExecutor(Executor):
    def __init__(self, ray: Any) -> None:
        self._remote = ray.remote(num_cpus=1)(_quietly)

    def submit(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> "Future[R]":
        future: Future[R] = self._remote.remote(function, *args, **kwargs).future()
        return future


def _quietly(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    _quieten()
    return function(*args, **kwargs)


def _start_process(parent: int) -> None:
    """A detecting process prints nothing, leaves signals to its parent, and does not outlive it."""
    _quieten()
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _quieten() -> None:
    """No line of a library's may hold a patient's text; one thread a process."""
    import warnings

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    os.environ["OMP_NUM_THREADS"] = "1"
