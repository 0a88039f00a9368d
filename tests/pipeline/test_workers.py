"""Work done here or by processes beside, with the same results in the same order."""

import os
import signal

import polars as pl
import pytest

from pipeline.errors import PipelineError
from pipeline.workers import Workers


def square(number: int) -> tuple[int, int, int]:
    return number * number, os.getpid(), pl.thread_pool_size()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_nobody_is_called_in_before_there_is_enough_to_do() -> None:
    with Workers(2) as workers:
        assert [found[:2] for found in workers.in_order(workers.submit(square, n) for n in range(3))] == [
            (0, os.getpid()),
            (1, os.getpid()),
            (4, os.getpid()),
        ]


def test_processes_have_one_thread_each_and_keep_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POLARS_MAX_THREADS", raising=False)
    with Workers(2) as workers:
        workers.start()
        found = list(workers.in_order(workers.submit(square, n) for n in range(50)))
        with pytest.raises(PipelineError, match="killed"):
            list(workers.in_order(workers.submit(die) for _ in range(1)))
    assert [result for result, _, _ in found] == [n * n for n in range(50)]
    assert os.getpid() not in {process for _, process, _ in found}
    assert {threads for _, _, threads in found} == {1}
    assert "POLARS_MAX_THREADS" not in os.environ
