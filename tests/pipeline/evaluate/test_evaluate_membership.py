"""Membership: the area, its interval by group, and an adapter that gives itself away."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from pipeline.evaluate.membership import area, gain, measure
from pipeline.evaluate.system import System
from pipeline.moelora import MoeLora
from tests.pipeline.evaluate.conftest import learn, limits, systems
from tests.pipeline.evaluate.test_evaluate_extraction import texts

Tiny = tuple[MoeLora, Any]


def alone(count: int) -> list[str]:
    return [str(i) for i in range(count)]


def test_the_area_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    seen, unseen = rng.normal(0.5, 1, 60).round(1), rng.normal(0, 1, 40).round(1)  # with ties
    found, low, high = area(seen, unseen, np.ones((60, 40), bool), alone(60), alone(40), 999, rng)
    labels = np.repeat([1, 0], [60, 40])
    assert found == pytest.approx(roc_auc_score(labels, np.concatenate([seen, unseen])))
    assert low < found < high


def test_rows_of_different_tasks_are_not_compared() -> None:
    """One task gains much and the other little, and within each no row gives itself away."""
    rng = np.random.default_rng(0)
    task = np.repeat([0, 1], 50)
    seen, unseen = (100.0 * task + rng.random(100) for _ in range(2))
    same = task[:, None] == task[None, :]
    by_hand = [
        roc_auc_score(np.repeat([1, 0], 50), np.r_[seen[task == t], unseen[task == t]]) for t in (0, 1)
    ]
    found = area(seen, unseen, same, alone(100), alone(100), 99, rng)[0]
    assert found == pytest.approx(np.mean(by_hand))


def test_a_well_learnt_task_does_not_hide_its_rows_behind_the_bases_loss() -> None:
    """Seen rows are four times as easy as unseen ones, of losses near zero; the base's are all about 2."""
    rng = np.random.default_rng(0)
    base, unseen_base = rng.normal(2, 0.4, 100), rng.normal(2, 0.4, 100)
    losses, unseen_losses = 0.01 * rng.lognormal(0, 0.5, 100), 0.04 * rng.lognormal(0, 0.5, 100)
    whole = np.ones((100, 100), bool)
    gains = gain(losses, base), gain(unseen_losses, unseen_base)
    assert area(*gains, whole, alone(100), alone(100), 99, rng)[0] > 0.9
    differences = base - losses, unseen_base - unseen_losses
    assert area(*differences, whole, alone(100), alone(100), 99, rng)[0] == pytest.approx(0.5, abs=0.1)
    assert gain(np.zeros(1), np.ones(1)) == gain(np.full(1, 1e-9), np.ones(1))  # no row is infinitely sure


def test_the_interval_covers_and_groups_widen_it() -> None:
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        seen, unseen = rng.normal(0.358, 1, 60), rng.normal(0, 1, 60)  # an area of 0.6
        _, low, high = area(seen, unseen, np.ones((60, 60), bool), alone(60), alone(60), 199, rng)
        covered += low <= 0.6 <= high
    assert 0.9 <= covered / 200 <= 0.995
    rng = np.random.default_rng(0)
    seen, unseen = (np.repeat(rng.normal(shift, 1, 20), 5) for shift in (0.3, 0.0))
    whole = np.ones((100, 100), bool)
    _, low, high = area(seen, unseen, whole, alone(100), alone(100), 999, rng)
    grouped = [str(i // 5) for i in range(100)]
    _, group_low, group_high = area(seen, unseen, whole, grouped, grouped, 999, rng)
    assert group_high - group_low > 1.5 * (high - low)


def test_a_handful_of_rows_shows_nothing() -> None:
    rng = np.random.default_rng(0)
    found, low, high = area(np.ones(2), np.zeros(2), np.ones((2, 2), bool), alone(2), alone(2), 99, rng)
    assert (found, high) == (1.0, 1.0)
    assert low < 0.5


def test_rows_learnt_by_heart_are_recognised(tiny: Tiny, untrained: System) -> None:
    adapter, tokenizer = tiny
    seen, unseen = texts(16, 1), texts(16, 2)
    counted: list[int] = []
    before = measure(systems(adapter, tokenizer)[0], untrained, seen, unseen, limits(), counted.append)
    assert sum(counted) == 64
    assert before["low"] < 0.5 < before["high"]
    learn(adapter, tokenizer, seen.select("task", "input", "target").rows(), steps=240)
    after = measure(systems(adapter, tokenizer)[0], untrained, seen, unseen, limits())
    assert after["auc"] > 0.9
    assert after["low"] > 0.7
    assert after["loss_seen"] < after["loss_unseen"]


def test_without_rows_there_is_no_area(tiny: Tiny) -> None:
    rows: pl.DataFrame = texts(2, 1).clear()
    found = measure(*systems(*tiny), rows, rows, limits())
    assert found["rows"] == 0
    assert found["auc"] is found["low"] is found["loss_seen"] is None
