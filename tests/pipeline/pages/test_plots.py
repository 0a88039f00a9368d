"""Axes: every value has its place, ticks are round numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.pages import plots

DIFFERENCES = st.lists(st.floats(-1, 1).filter(lambda value: value == 0 or abs(value) > 1e-6), max_size=8)


@given(DIFFERENCES)
def test_a_symmetric_axis_holds_all_values_and_zero_is_its_middle(values: list[float]) -> None:
    axis = plots.symmetric(values)
    assert axis.at(0) == 50
    assert all(axis.low <= value * (1 - 1e-8) <= axis.high for value in values)
    assert axis.high <= 2.6 * max([abs(value) for value in values if value] or [1])


def test_what_lies_outside_is_drawn_at_the_edge() -> None:
    assert [plots.SHARES.at(value) for value in (-0.2, 0.25, 1.4)] == [0, 25, 100]


@pytest.mark.parametrize(("reach", "half"), [(0.07, 0.1), (0.1, 0.1), (0.13, 0.2), (0.22, 0.25), (0.9, 1.0)])
def test_ticks_are_round(reach: float, half: float) -> None:
    axis = plots.symmetric([-reach, reach / 3])
    assert axis.ticks == pytest.approx((-half, -half / 2, 0, half / 2, half))
