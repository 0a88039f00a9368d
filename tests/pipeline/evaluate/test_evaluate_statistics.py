"""Intervals that hold what they promise, for groups and not for rows."""

import resource
import sys
import time

import numpy as np
import pytest

from pipeline.evaluate import statistics
from pipeline.metrics import METRICS, Floats

ACCURACY = METRICS["accuracy"]


def counts(correct: Floats) -> Floats:
    """Statistics of accuracy, ``[rows, 2]``, from right (1) and wrong (0) answers."""
    return np.stack([correct, np.ones_like(correct)], axis=1)


def labelled(rng: np.random.Generator, rows: int, labels: int) -> Floats:
    """Statistics of the F1 of labels, ``[rows, 3 * labels]``: three answers in four are right."""
    gold = rng.integers(0, labels, rows)
    answered = np.where(rng.random(rows) < 0.75, gold, rng.integers(0, labels, rows))
    one_hot = np.eye(labels)
    return np.concatenate([one_hot[gold], one_hot[answered], one_hot[gold] * one_hot[answered]], axis=1)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for seed in range(200):
        correct = (rng.random(150) < 0.7).astype(float)
        groups = statistics.by_group(counts(correct), [str(i) for i in range(150)])
        found = statistics.bootstrap(ACCURACY, {"a": groups}, 500, np.random.default_rng(seed))["a"]
        covered += found.low <= 0.7 <= found.high
    assert covered >= 180


def test_an_interval_of_answers_that_are_all_alike_has_a_width() -> None:
    groups = counts(np.ones(10))
    found = statistics.bootstrap(ACCURACY, {"a": groups, "b": groups}, 100, np.random.default_rng(0))
    assert (found["a"].score, found["a"].high) == (1, 1)
    assert found["a"].low == pytest.approx(1 - 0.3085, abs=1e-3)  # Clopper and Pearson, 10 of 10


def test_the_weights_of_a_resample_add_up_to_the_groups() -> None:
    weights = statistics.resampled_weights(7, 50, np.random.default_rng(0))
    assert weights.shape == (7, 50)
    assert (weights.sum(axis=0) == 7).all()
    assert len({tuple(column) for column in weights.T}) > 40


def test_statistics_are_summed_by_group() -> None:
    rows = np.array([[1.0, 1], [0, 1], [1, 1]])
    assert statistics.by_group(rows, ["b", "a", "b"]).tolist() == [[0, 1], [2, 2]]


def test_random_numbers_depend_on_the_names_alone() -> None:
    def draw(*name: str) -> float:
        return float(statistics.generator(17, *name).random())

    assert draw("bootstrap", "rqe") == draw("bootstrap", "rqe")
    assert len({draw("bootstrap", "rqe"), draw("bootstrap", "ner"), draw("randomisation", "rqe")}) == 3


@pytest.mark.parametrize("name", ["accuracy", "macro_f1"])
def test_chunks_do_not_change_the_resamples(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    totals = counts(np.arange(7) % 2.0) if name == "accuracy" else labelled(rng, 30, 5)

    def draws() -> Floats:
        found = statistics.bootstrap(METRICS[name], {"a": totals}, 203, np.random.default_rng(0))
        return found["a"].draws

    whole = draws()
    monkeypatch.setattr(statistics, "WEIGHTS", 100)
    assert whole.shape == (203,)
    assert draws() == pytest.approx(whole, abs=1e-12)


def test_resamples_are_weighted_scores() -> None:
    """By hand: the metric of rows repeated as often as their group was drawn."""
    rng = np.random.default_rng(6)
    totals = labelled(rng, 20, 4)
    found = statistics.bootstrap(METRICS["macro_f1"], {"a": totals}, 5, np.random.default_rng(1))["a"]
    weights = statistics.resampled_weights(20, 5, np.random.default_rng(1))
    for draw, drawn in zip(found.draws, weights.T, strict=True):
        rows = np.repeat(totals, drawn.astype(int), axis=0)
        assert draw == pytest.approx(float(METRICS["macro_f1"].score(rows.sum(axis=0))))


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is counted in another unit")
def test_labels_times_resamples_are_never_held() -> None:
    """2,000 labels x 2,000 resamples x 3 statistics would be 96 MB; a few chunks of 8 MiB are held."""
    totals = labelled(np.random.default_rng(0), 200, 2000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    statistics.bootstrap(METRICS["macro_f1"], {"a": totals}, 2000, np.random.default_rng(0))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 80 * 1024
    assert time.perf_counter() - start < 20


def test_lower_losses_of_inserted_canaries_are_seen() -> None:
    rng = np.random.default_rng(0)
    held_back = rng.normal(5, 1, 64)
    assert statistics.rank_test(held_back - 3, held_back) < 0.001
    assert statistics.rank_test(rng.normal(5, 1, 64), held_back) > 0.001
