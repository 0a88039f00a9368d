"""The simulation's own arithmetic: what it draws is what the figures say they are about."""

from pathlib import Path

import numpy as np
import pytest

from tests.bench.table import Row
from tests.bench.validate import drift, size


def test_patients_have_one_to_five_records_mostly_of_one_task() -> None:
    even = np.full(drift.TASKS, 1 / drift.TASKS)
    records = drift.patients(2_000, even, np.random.default_rng(0))
    sizes = records["group_id"].value_counts()["count"]
    assert (sizes.min(), sizes.max()) == (1, 5)
    assert records["sample_id"].is_unique().all()
    assert records["language"].value_counts(normalize=True).filter(language="zh")["proportion"][
        0
    ] == pytest.approx(0.15, abs=0.03)


def test_a_halved_task_is_half_as_frequent_as_others() -> None:
    shares = drift.halved(3)
    assert shares.sum() == pytest.approx(1)
    assert shares[3] == pytest.approx(shares[4] / 2)


def test_one_draw_finds_what_was_planted(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    even = np.full(drift.TASKS, 1 / drift.TASKS)
    before = drift.patients(3_000, even, rng)
    found = drift.judged(before, drift.patients(3_000, drift.halved(4), rng), tmp_path)
    assert "task-4" in next(each for each in found if each.figure.name == "tasks").moved


@pytest.mark.slow
def test_the_rows_are_made() -> None:
    found = [*drift.rows(2), *size.rows(2_000)]
    assert all(isinstance(row, Row) and row.value is not None for row in found)
