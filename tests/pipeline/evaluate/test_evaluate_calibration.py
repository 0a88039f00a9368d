"""The expected calibration error, against its definition and scikit-learn's bins."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from sklearn.calibration import calibration_curve

from pipeline.evaluate.calibration import BINS, by_task, expected_calibration_error


def by_definition(confidence: np.ndarray, right: np.ndarray) -> float:
    """Guo et al., equations 2, 3 and 5, bin by bin."""
    edges = np.linspace(0, 1, BINS + 1)
    error = 0.0
    for low, high in pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            error += inside.sum() / len(right) * abs(right[inside].mean() - confidence[inside].mean())
    return error


def by_scikit_learn(confidence: np.ndarray, right: np.ndarray) -> float:
    shares, means = calibration_curve(right, confidence, n_bins=BINS, strategy="uniform")
    counts = np.histogram(confidence, BINS, (0, 1))[0]
    return float((counts[counts > 0] / len(right) * np.abs(shares - means)).sum())


@pytest.mark.parametrize("rows", [1, 7, 100, 5_000])
def test_it_is_that_of_the_definition_and_of_scikit_learn(rows: int) -> None:
    for seed in range(20):
        rng = np.random.default_rng([seed, rows])
        confidence = rng.beta(4, 2, rows)
        right = rng.random(rows) < confidence**2
        found = expected_calibration_error(confidence, right)
        assert found == pytest.approx(by_definition(confidence, right), abs=1e-12)
        assert found == pytest.approx(by_scikit_learn(confidence, right), abs=1e-12)


def test_certainty_counts_and_so_does_the_edge_of_a_bin() -> None:
    assert expected_calibration_error(np.ones(4), np.array([True, True, True, False])) == 0.25
    edge = np.array([1 / BINS, 1 / BINS + 1e-9])  # two bins: errors do not cancel out
    assert expected_calibration_error(edge, np.array([True, False])) == pytest.approx(0.5, abs=1e-6)


def test_an_honest_system_is_near_zero_and_an_overconfident_one_is_not() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1, 20_000)
    assert expected_calibration_error(confidence, rng.random(20_000) < confidence) < 0.02
    assert expected_calibration_error(confidence, rng.random(20_000) < confidence - 0.2) > 0.15


def test_only_tasks_with_choices_have_one_and_labels_are_compared_as_in_scores() -> None:
    rows = pl.DataFrame(
        {
            "task": ["rqe", "rqe", "ner"],
            "target": ["Yes", "no", "gout"],
            "prediction": [" yes", "yes", "gout"],
            "confidence": [0.9, 0.9, None],
        }
    )
    assert by_task({"candidate": rows, "champion": rows.head(1)}) == {
        "rqe": {"candidate": pytest.approx(0.4), "champion": pytest.approx(0.1)}
    }
    assert by_task({"candidate": rows.tail(1)}) == {}
