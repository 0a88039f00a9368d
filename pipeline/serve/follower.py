"""Keeps what is served at the release that a channel points at, without a restart."""

import logging
import threading
from typing import Protocol

from pipeline.errors import PipelineError
from pipeline.registry import Registry
from pipeline.serve.loader import Loader, Served
from pipeline.serve.metrics import Metrics
from pipeline.serve.worker import place
from pipeline.verify import check_folder

log = logging.getLogger("moelora.serve")


class Current(Protocol):
    """Where the release that new requests get is kept."""

    served: Served | None
    reason: str
    """Why there is none."""


class Follower:
    """Looks at a channel every so many seconds. A release is pulled, verified and loaded while the one
    before it answers on; where any of that fails, that one stays, and the next look tries again."""

    def __init__(
        self, registry: Registry, channel: str, loader: Loader, metrics: Metrics, seconds: float
    ) -> None:
        self._registry = registry
        self._channel = channel
        self._loader = loader
        self._metrics = metrics
        self._seconds = seconds
        self._stop = threading.Event()
        self._told = ""

    def start(self, current: Current) -> None:
        """Follow in a thread of its own; it is gone with the process."""
        threading.Thread(target=self._run, args=(current,), name="follower", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()

    def _run(self, current: Current) -> None:
        while not self._stop.is_set():
            self.look(current)
            self._stop.wait(self._seconds)

    def look(self, current: Current) -> None:
        """Bring ``current`` to where the channel points now, if that can be done."""
        try:
            self._withdraw(current)
            pointer = self._registry.channel(self._channel)
            if pointer is None:
                self._tell(current, f"channel {self._channel} points at no release: moelora promote sets it")
                return
            if current.served is None or current.served.release != pointer.release:
                folder = self._registry.pull(pointer.release, manifest_sha256=pointer.manifest_sha256)
                check_folder(folder, pointer.release)
                current.served = self._loader.load(folder, pointer.release)
                self._metrics.served(pointer.release)
                log.info("%s is release %s now", self._channel, pointer.release)
            self._told = ""
        except PipelineError as error:
            self._metrics.failures.inc()
            self._tell(current, str(error))
        except Exception as error:
            self._metrics.failures.inc()
            self._tell(current, place(error))

    def _withdraw(self, current: Current) -> None:
        """Serve nothing rather than a release that holds what had to be erased."""
        served = current.served
        if served is not None and self._registry.is_erased(served.release):
            current.served = None
            self._metrics.withdrawn()
            log.warning("release %s was withdrawn and is served no more", served.release)

    def _tell(self, current: Current, problem: str) -> None:
        """Once for each problem, however often it is met."""
        current.reason = problem
        if problem != self._told:
            self._told = problem
            log.warning("%s", problem)
