"""Calibration: how far the probability that a model gives its choice is from how often it is right.

A clinician who reads "90 %" should be right to expect nine in ten. The expected calibration error
sorts answers into BINS of equal width by their confidence and takes the mean distance between
confidence and share of right answers in a bin, weighted by the answers in it (Guo et al., On
Calibration of Modern Neural Networks, ICML 2017). It is never negative, so that chance alone gives
some: of n answers spread over all bins up to 0.4 * sqrt(BINS / n), 0.15 of a hundred.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline.evaluate.scores import Predictions
from pipeline.metrics import Floats, normalise

BINS = 15


def by_task(predictions: Predictions) -> dict[str, dict[str, float]]:
    """``{task: {system: error}}`` of the tasks whose answers are chosen.

    ``predictions``: rows of the test split with ``prediction`` and ``confidence``.
    """
    report: dict[str, dict[str, float]] = {}
    for system, rows in predictions.items():
        chosen = rows.filter(pl.col("confidence").is_not_null())
        for (task,), frame in chosen.partition_by("task", as_dict=True).items():
            pairs = zip(frame["prediction"], frame["target"], strict=True)
            right = np.array([normalise(answer) == normalise(target) for answer, target in pairs])
            error = expected_calibration_error(frame["confidence"].to_numpy(), right)
            report.setdefault(str(task), {})[system] = error
    return dict(sorted(report.items()))


def expected_calibration_error(confidence: Floats, right: NDArray[np.bool_]) -> float:
    """From 0 to 1. Bin m of M holds confidences above (m - 1) / M up to m / M, ``[rows]``."""
    inner = np.linspace(0, 1, BINS + 1)[1:-1]
    bins = np.digitize(confidence, inner, right=True)
    # |rows in bin / n * (mean confidence - share right)| is |sum of differences in bin| / n.
    differences = np.bincount(bins, confidence - right, minlength=BINS)
    return float(np.abs(differences).sum() / len(confidence))
