"""The simulation's own arithmetic: what it draws is what the figures say they are about."""

import numpy as np
import pytest

from tests.bench.evaluate import bootstrap, simulation
from tests.bench.table import Row


def test_holm_steps_down() -> None:
    assert simulation.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert simulation.holm([0.5, 0.9]) == [1.0, 1.0]


def test_groups_have_one_to_five_rows() -> None:
    group = simulation.groups(5_000, np.random.default_rng(0))
    sizes = np.bincount(group)[:-1]
    assert len(group) == 5_000
    assert np.bincount(sizes)[1:] / len(sizes) == pytest.approx([0.2] * 5, abs=0.03)


def test_one_system_is_worse_by_the_loss() -> None:
    found = simulation.labels(200_000, np.random.default_rng(0), loss=0.1, discordance=0.2)
    candidate, champion = found[:, 0, 0], found[:, 1, 0]
    assert champion.mean() == pytest.approx(0.7, abs=0.005)
    assert candidate.mean() == pytest.approx(0.6, abs=0.005)
    assert (candidate != champion).mean() == pytest.approx(0.2, abs=0.005)


def test_twins_are_alike_and_differ_on_a_fifth_of_rows() -> None:
    right = simulation.alike_labels(200_000, np.random.default_rng(0))[..., 0]
    assert right.mean(axis=0) == pytest.approx([0.7] * 3, abs=0.005)
    for other in (1, 2):
        assert (right[:, 0] != right[:, other]).mean() == pytest.approx(0.2, abs=0.005)
    sets = simulation.alike_sets(50_000, np.random.default_rng(0))
    assert (sets >= 0).all()
    assert (sets[:, 0, 0] + sets[:, 0, 2] == sets[:, 1, 0] + sets[:, 1, 2]).all()
    assert sets.mean(axis=0)[1:] == pytest.approx(sets.mean(axis=0)[:-1], abs=0.03)


def test_rows_of_a_group_are_correlated() -> None:
    rng = np.random.default_rng(0)
    statistics, group = simulation.correlated(simulation.alike_labels, 100_000, rng)
    right = statistics[:, 0, 0]
    neighbours = np.flatnonzero(group[1:] == group[:-1])
    found = np.corrcoef(right[neighbours], right[neighbours + 1])[0, 1]
    assert found == pytest.approx(0.3, abs=0.02)
    differ = right - statistics[:, 1, 0]
    assert np.corrcoef(differ[neighbours], differ[neighbours + 1])[0, 1] == pytest.approx(0.3, abs=0.02)


@pytest.mark.slow
def test_the_rows_and_the_curve_are_made(capsys: pytest.CaptureFixture[str]) -> None:
    found = [*simulation.rows(2), *bootstrap.rows(tasks=1)]
    assert all(isinstance(row, Row) and row.value is not None for row in found)
    simulation.curve(1)
    assert "impossible" in capsys.readouterr().out
