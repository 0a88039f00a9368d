"""The queue in front of the model."""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace

import pytest

from pipeline.serve.answering import Answer, Answerer, Question
from pipeline.serve.loader import Loader, Served
from pipeline.serve.metrics import Metrics
from pipeline.serve.protocol import Refused
from pipeline.serve.worker import Worker
from tests.pipeline.serve.conftest import LIMITS
from tests.pipeline.serve.test_answering import alone, asked


class Held(Answerer):
    """A real answerer that waits for the test before every batch, and writes down what is in it."""

    def __init__(self, real: Answerer) -> None:
        self.real = real
        self.may = threading.Semaphore(0)
        self.began = threading.Semaphore(0)
        self.batches: list[list[str]] = []

    def answer(self, questions: Sequence[Question]) -> list[list[Answer]]:
        self.began.release()
        assert self.may.acquire(timeout=30)
        self.batches.append([question.task for question in questions])
        if any(question.max_tokens == 1 for question in questions):
            raise ValueError("chest pain")
        return self.real.answer(questions)


@pytest.fixture
def held(served: Served) -> Served:
    return replace(served, answerer=Held(served.answerer))


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker(LIMITS, Metrics())
    made.start()
    yield made
    made.close()
    assert not made.alive


def go(served: Served, batches: int) -> None:
    assert isinstance(served.answerer, Held)
    for _ in range(batches):
        served.answerer.may.release()


def begun(served: Served) -> None:
    """The first batch is under way: what is submitted now waits."""
    assert isinstance(served.answerer, Held)
    assert served.answerer.began.acquire(timeout=30)


def test_what_waits_shares_the_next_batch_across_tasks(worker: Worker, held: Served, loader: Loader) -> None:
    first = worker.submit(held, asked(loader, "rqe", "a"))
    begun(held)
    questions = [asked(loader, task, "gout") for task in ("ner", "rqe", "ner")]
    others = [worker.submit(held, question) for question in questions]
    go(held, 2)
    found = [future.result(30) for future in others]
    assert first.result(30)
    assert held.answerer.batches == [["rqe"], ["ner", "rqe", "ner"]]
    real = replace(held, answerer=held.answerer.real)
    assert found == [alone(real, question) for question in questions]


def test_more_than_may_wait_is_refused_with_a_time_to_come_back(
    worker: Worker, held: Served, loader: Loader
) -> None:
    worker.submit(held, asked(loader, "rqe", "a"))
    begun(held)
    futures = [worker.submit(held, asked(loader, "rqe", "a", "b")) for _ in range(4)]
    with pytest.raises(Refused) as refused:
        worker.submit(held, asked(loader, "rqe", "a"))
    assert refused.value.status == 429
    assert int(refused.value.headers["Retry-After"]) >= 1
    go(held, 9)
    assert all(len(future.result(30)) == 2 for future in futures)
    assert worker.submit(held, asked(loader, "rqe", "a")).result(30)


def test_those_who_gave_up_make_room_and_a_large_question_is_taken_by_an_empty_queue(
    worker: Worker, held: Served, loader: Loader
) -> None:
    worker.submit(held, asked(loader, "rqe", "a"))
    begun(held)
    futures = [worker.submit(held, asked(loader, "rqe", "a", "b")) for _ in range(4)]
    assert futures[0].cancel()
    assert worker.submit(held, asked(loader, "rqe", "a"))
    for each in futures[1:]:
        assert each.cancel()
    go(held, 9)
    large = asked(loader, "rqe", *"abcdefghij")
    while True:
        try:
            assert len(worker.submit(held, large).result(30)) == 10
            break
        except Refused:
            time.sleep(0.01)


def test_a_question_whose_client_gave_up_is_not_computed(
    worker: Worker, held: Served, loader: Loader
) -> None:
    worker.submit(held, asked(loader, "rqe", "a"))
    begun(held)
    given_up = worker.submit(held, asked(loader, "ner", "a"))
    kept = worker.submit(held, asked(loader, "rqe", "b"))
    assert given_up.cancel()
    go(held, 2)
    assert kept.result(30)
    assert held.answerer.batches == [["rqe"], ["rqe"]]


def test_a_swap_fails_nothing_and_mixes_no_releases(worker: Worker, held: Served, loader: Loader) -> None:
    new = replace(held, release="f" * 16, answerer=Held(held.answerer.real))
    worker.submit(held, asked(loader, "rqe", "a"))
    begun(held)
    futures: list[Future[list[Answer]]] = [
        worker.submit(release, asked(loader, "ner", "a")) for release in (held, held, new, new)
    ]
    go(held, 2)
    go(new, 1)
    assert all(future.result(30) for future in futures)
    assert held.answerer.batches == [["rqe"], ["ner", "ner"]]
    assert new.answerer.batches == [["ner", "ner"]]


def test_one_that_fails_does_not_fail_its_neighbours(
    worker: Worker, held: Served, loader: Loader, caplog: pytest.LogCaptureFixture
) -> None:
    worker.submit(held, asked(loader, "rqe", "a"))
    begun(held)
    good = worker.submit(held, asked(loader, "ner", "a"))
    bad = worker.submit(held, asked(loader, "ner", "a", max_tokens=1))
    go(held, 4)
    assert good.result(30)
    with pytest.raises(Refused, match="could not be computed"):
        bad.result(30)
    assert "ValueError at tests.pipeline.serve.test_worker" in caplog.text
    assert "chest pain" not in caplog.text


def test_what_waits_is_answered_before_the_end(held: Served, loader: Loader) -> None:
    worker = Worker(LIMITS, Metrics())
    worker.start()
    futures = [worker.submit(held, asked(loader, "rqe", "a")) for _ in range(3)]
    go(held, 3)
    worker.close()
    assert all(future.done() for future in futures)
    with pytest.raises(Refused, match="shutting down"):
        worker.submit(held, asked(loader, "rqe", "a"))
