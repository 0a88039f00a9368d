"""Counts and times requests for completions and logs one line of each: names and numbers, no text.

The outermost layer: an error that nothing else caught is logged by its type and place, since its
message may hold text.
"""

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.serve.metrics import UNKNOWN, Metrics
from pipeline.serve.worker import place

log = logging.getLogger("moelora.serve")


class Observed:
    """``app`` watched on the one route that costs anything."""

    def __init__(self, app: ASGIApp, metrics: Metrics, route: str) -> None:
        self._app = app
        self._metrics = metrics
        self._route = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        # FastAPI's request.state, where the route leaves the task once it is known to be one.
        state = scope.setdefault("state", {})
        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            # Answered by the application's own handler of whatever nothing else caught.
            log.error("a request failed: %s", place(error))
        if scope["path"] == self._route:
            task = state.get("task", UNKNOWN)
            seconds = time.perf_counter() - started
            self._metrics.requests.labels(task, str(status)).inc()
            self._metrics.seconds.labels(task).observe(seconds)
            log.info("completion: task %s, status %d, %.3f s", task, status, seconds)
