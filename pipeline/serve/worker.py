"""The one thread that computes. Whatever waits when it gets free shares its next batch.

There is no delay to fill a batch: while one is computed the next gathers, the larger the more
clients there are. Requests of different tasks share a batch; those of different releases, around a
promotion, do not. Each keeps the release it was accepted for, so that a swap fails none, and the
old release is gone with its last request.
"""

import logging
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field

from pipeline.serve.answering import Answer, Question
from pipeline.serve.limits import Limits
from pipeline.serve.loader import Served
from pipeline.serve.metrics import Metrics
from pipeline.serve.protocol import Refused

log = logging.getLogger("moelora.serve")


@dataclass(frozen=True)
class _Job:
    served: Served
    question: Question
    answers: "Future[list[Answer]]" = field(default_factory=Future)


class Worker:
    """Answers questions in the order they came, in batches."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits = limits
        self._metrics = metrics
        self._jobs: deque[_Job] = deque()
        self._waiting = 0  # prompts in _jobs
        self._changed = threading.Condition()
        self._closed = False
        self._seconds = 1.0  # that the last batch took
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
        metrics.queue.set_function(lambda: self._waiting)

    def start(self) -> None:
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def close(self) -> None:
        """Answer what waits, then end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def submit(self, served: Served, question: Question) -> "Future[list[Answer]]":
        """Answers to come, one for each prompt; cancelled, the question is left out if still waiting.

        Raises Refused with 429 and Retry-After where too many wait, 503 once closed.
        """
        job = _Job(served, question)
        with self._changed:
            if self._closed:
                raise Refused(503, "shutting_down", "the server is shutting down", Retry_After="5")
            if self._waiting + len(question.prompts) > self._limits.waiting:
                self._forget_given_up()
            # One that is larger than the queue is taken where nothing else waits.
            if self._waiting and self._waiting + len(question.prompts) > self._limits.waiting:
                raise Refused(
                    429,
                    "queue_full",
                    f"{self._waiting} prompts are waiting, {self._limits.waiting} may: try again later",
                    Retry_After=str(max(1, round(self._seconds))),
                )
            self._jobs.append(job)
            self._waiting += len(question.prompts)
            self._changed.notify()
        return job.answers

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._closed)
                if not self._jobs:
                    return
                batch = self._take()
            if batch:
                started = time.monotonic()
                self._answer(batch)
                self._seconds = time.monotonic() - started
            # Not kept until the next request: prompts, and a release that may have been withdrawn.
            del batch

    def _forget_given_up(self) -> None:
        self._jobs = deque(job for job in self._jobs if not job.answers.cancelled())
        self._waiting = sum(len(job.question.prompts) for job in self._jobs)

    def _take(self) -> list[_Job]:
        """The next batch: the first that waits and what follows it for the same release."""
        batch: list[_Job] = []
        prompts = 0
        while self._jobs:
            job = self._jobs[0]
            size = len(job.question.prompts)
            if batch and (job.served is not batch[0].served or prompts + size > self._limits.prompts):
                break
            self._jobs.popleft()
            self._waiting -= size
            # Those whose clients gave up are dropped here; of the others nobody may give up any more.
            if job.answers.set_running_or_notify_cancel():
                batch.append(job)
                prompts += size
        return batch

    def _answer(self, batch: list[_Job]) -> None:
        try:
            found = batch[0].served.answerer.answer([job.question for job in batch])
        except Exception as error:
            # Without its message, which may hold text.
            log.error("a batch of %d failed: %s", len(batch), place(error))
            if len(batch) > 1:
                # One request must not fail its neighbours.
                for job in batch:
                    self._answer([job])
                return
            batch[0].answers.set_exception(Refused(500, "internal_error", "the answer could not be computed"))
            return
        self._metrics.batch.observe(sum(len(job.question.prompts) for job in batch))
        for job, answers in zip(batch, found, strict=True):
            job.answers.set_result(answers)


def place(error: BaseException) -> str:
    """Type of an error and where it was raised; not what it says."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    where = "" if last is None else f" at {last.tb_frame.f_globals.get('__name__')}:{last.tb_lineno}"
    return f"{type(error).__name__}{where}"
