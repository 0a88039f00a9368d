"""Each metric against the library that defines it, on random cases (tests/bench/evaluate/references.py)."""

import pytest

from pipeline.metrics import METRICS
from tests.bench.evaluate.references import CASES, largest_difference


@pytest.mark.parametrize("figure", CASES)
def test_random_cases_score_as_the_reference_does(figure: str) -> None:
    assert largest_difference(CASES[figure][1], 60) <= 1e-9


def test_every_metric_has_a_reference() -> None:
    assert {figure.split(",")[0] for figure in CASES} == set(METRICS)
