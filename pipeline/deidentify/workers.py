"""Who searches texts: this process, processes of its own, or those of a Ray cluster."""

import contextlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from typing import Any, ParamSpec, TypeVar

from pipeline import workers
from pipeline.errors import InputError, PipelineError
from pipeline.params import Deidentify

P = ParamSpec("P")
R = TypeVar("R")


class Workers(workers.Workers):
    """``deidentify.workers`` processes. ``start`` raises InputError where Ray is missing."""

    def __init__(self, settings: Deidentify) -> None:
        super().__init__(settings.workers)
        self._settings = settings

    def _called(self) -> contextlib.AbstractContextManager[Executor]:
        return _ray(self.count) if self._settings.executor == "ray" else super()._called()


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
def _ray(count: int) -> Iterator[Executor]:
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
            {} if cluster else {"num_cpus": count, "_temp_dir": folder, "include_dashboard": False}
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
    workers.quieten()
    return function(*args, **kwargs)
