"""A stage's progress as a Prefect artifact: how far it is, and how much time is left."""

import time
from typing import Any
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.exceptions import PrefectException
from prefect.logging import get_logger

WORTH_SHOWING = 3.0
"""Seconds that a stage has run before its progress gets an artifact."""

PAUSE = 60.0
"""Seconds without a further try after Prefect did not take a progress: a try may wait long, and
the stage's output is not read meanwhile."""

Status = dict[str, Any]
"""What pipeline.stage leaves of a running stage."""


class Progress:
    """A stage's progress in Prefect's page, shown once the stage has run for a while."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._artifact: UUID | None = None
        self._shown: tuple[int, str] | None = None
        self._not_before = time.monotonic() + WORTH_SHOWING
        self._failed = False
        self._began: tuple[float, int] | None = None

    def show(self, status: Status) -> None:
        """Show a status of pipeline.stage, if it differs from the last one shown.

        Where Prefect does not take it, the stage goes on all the same, and one warning says so.
        """
        if not status.get("total"):
            return
        done, total, message = status["done"], status["total"], status["message"]
        left = self._time_left(done, total)
        if time.monotonic() < self._not_before:
            return
        if (done, message) == self._shown:
            return
        self._shown = (done, message)
        percent = 100.0 * done / total
        text = f"{self._stage}: {done} of {total}. {message}{left}"
        try:
            self._send(percent, text)
        except (httpx.HTTPError, PrefectException) as error:
            self._not_before = time.monotonic() + PAUSE
            if not self._failed:
                get_logger("moelora").warning(
                    "%s goes on; its progress is not shown (%s)", self._stage, type(error).__name__
                )
            self._failed = True

    def _time_left(self, done: int, total: int) -> str:
        """In words, from the pace since the first status: what an earlier run had done took no time."""
        now = time.monotonic()
        if self._began is None or done < self._began[1]:
            self._began = (now, done)
        since, first = self._began
        if done == first or done >= total:
            return ""
        minutes = (now - since) / (done - first) * (total - done) / 60
        return f" About {minutes:.0f} min left." if minutes >= 1 else " Less than a minute left."

    def _send(self, percent: float, text: str) -> None:
        if self._artifact is None:
            made = create_progress_artifact(percent, key=f"{self._stage}-progress", description=text)
            self._artifact = made if isinstance(made, UUID) else None
        else:
            update_progress_artifact(self._artifact, percent, description=text)
