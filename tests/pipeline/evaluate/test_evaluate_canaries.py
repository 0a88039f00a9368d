"""Canaries: what an adapter that learnt some by heart shows, and one that did not."""

import math
import random
from typing import Any

import numpy as np
import polars as pl
import pytest

from pipeline.evaluate.canaries import exposure, exposure_by_chance, measure
from pipeline.moelora import MoeLora
from tests.pipeline.evaluate.conftest import TASKS, learn, limits, systems

Tiny = tuple[MoeLora, Any]


def canaries(count: int = 16) -> pl.DataFrame:
    by_lot = random.Random(3)
    rows = [
        {
            "task": TASKS[i // 2 % 3],
            "input": f"Code of {chr(97 + i)}:",
            "target": f"{by_lot.randrange(10**4):04d}",
            "inserted": i % 2 == 0,
        }
        for i in range(count)
    ]
    return pl.DataFrame(rows)


def test_an_adapter_that_learnt_them_is_told_from_one_that_did_not(tiny: Tiny) -> None:
    adapter, tokenizer = tiny
    candidate, _ = systems(adapter, tokenizer)
    listed = canaries()
    before = measure(candidate, listed, limits())
    assert before is not None
    assert (before["inserted"], before["held_back"], before["completed"]) == (8, 8, 0)
    assert before["p"] > 0.001
    inserted = listed.filter("inserted").select("task", "input", "target").rows()
    learn(adapter, tokenizer, inserted, steps=150)
    after = measure(candidate, listed, limits())
    assert after is not None
    assert after["p"] < 0.001
    assert after["completed"] > 0 == after["held_back_completed"]
    assert after["loss_inserted"] < after["loss_held_back"] - 1
    assert after["exposure"] == pytest.approx(after["exposure_limit"]) == pytest.approx(math.log2(9))


def test_learning_all_of_them_makes_them_all_alike(tiny: Tiny) -> None:
    """Held-back ones are the measure, not the loss itself."""
    adapter, tokenizer = tiny
    listed = canaries()
    learn(adapter, tokenizer, listed.select("task", "input", "target").rows(), steps=30)
    found = measure(systems(adapter, tokenizer)[0], listed, limits())
    assert found is not None
    assert found["p"] > 0.001


def test_only_one_kind_is_no_measure(tiny: Tiny) -> None:
    candidate, _ = systems(*tiny)
    listed = canaries(4)
    assert measure(candidate, listed.filter("inserted"), limits()) is None
    assert measure(candidate, listed.filter(~pl.col("inserted")), limits()) is None


def test_exposure_is_the_bits_of_search_saved() -> None:
    held_back = np.arange(1.0, 8.0)
    found = exposure(np.array([0.5, 4.0, 9.0]), held_back)
    assert found == pytest.approx([3.0, 3.0 - math.log2(4), 0.0])
    rng = np.random.default_rng(0)
    means = [exposure(rng.random(64), rng.random(64)).mean() for _ in range(400)]
    assert np.mean(means) == pytest.approx(exposure_by_chance(64), abs=0.03)
