"""Text that carries its own PHI labels while it is put together: ``Seen by ⟦NAME:Ada Moss⟧.``

Templates stay plain f-strings; the labels come off once, at the end.
"""

import random
import re
from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")

KINDS = ("NAME", "DATE", "LOCATION", "CONTACT", "ID", "AGE")
"""Kinds of planted PHI. AGE is an age of 90 or more."""

_MARK = re.compile(r"⟦([A-Z]+):([^⟦⟧]*)⟧")


def mark(kind: str, text: str) -> str:
    """``text`` labelled as PHI of ``kind``."""
    return f"⟦{kind}:{text}⟧"


def unmark(marked: str) -> tuple[str, list[dict[str, Any]]]:
    """The plain text and its spans ``{"start", "end", "kind"}`` (characters, end exclusive)."""
    pieces: list[str] = []
    spans: list[dict[str, Any]] = []
    length = end = 0
    for match in _MARK.finditer(marked):
        before, text = marked[end : match.start()], match[2]
        start = length + len(before)
        length, end = start + len(text), match.end()
        pieces += [before, text]
        spans.append({"start": start, "end": length, "kind": match[1]})
    return "".join([*pieces, marked[end:]]), spans


class Draw:
    """Reproducible choices from a named stream.

    Built on ``random.Random.random`` alone: Python keeps that sequence for a seed, and not the
    ones of choice, sample or shuffle.
    """

    def __init__(self, *stream: object) -> None:
        # No secret depends on it: the set is published together with its seed.
        self._random = random.Random("/".join(map(str, stream)))  # noqa: S311

    def below(self, end: int) -> int:
        """A whole number from 0 to ``end`` - 1."""
        return int(self._random.random() * end)

    def between(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        return low + self.below(high - low + 1)

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self._random.random() < probability

    def pick(self, items: Sequence[T]) -> T:
        """One of ``items``."""
        return items[self.below(len(items))]

    def some(self, items: Sequence[T], count: int) -> list[T]:
        """``count`` different ones of ``items``, in random order."""
        left = list(items)
        return [left.pop(self.below(len(left))) for _ in range(count)]

    def digits(self, count: int) -> str:
        """A number of ``count`` digits that does not start with 0."""
        return str(self.between(1, 9)) + "".join(str(self.below(10)) for _ in range(count - 1))
