"""Axes of the inline SVG: from values to places in per cent of a plot's width."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

NICE = (1, 2, 2.5, 5, 10)
"""Steps between ticks, times a power of ten."""


@dataclass(frozen=True)
class Axis:
    """A linear axis from ``low`` to ``high``, marked at ``ticks``."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """The place of ``value``, clipped to the axis: per cent from its low end."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(1.0, max(0.0, share)), 3)


SHARES = Axis(0.0, 1.0, (0.0, 0.25, 0.5, 0.75, 1.0))
"""The axis of scores."""


def symmetric(values: Iterable[float]) -> Axis:
    """An axis with zero in its middle that holds all ``values``, ticks at its ends and between."""
    reach = max((abs(value) for value in values), default=0.0)
    half = _nice(reach) if reach else 0.1
    return Axis(-half, half, (-half, -half / 2, 0.0, half / 2, half))


def _nice(value: float) -> float:
    """The smallest nice number that is at least ``value``."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in NICE if step * power >= value * (1 - 1e-9))
