"""A regular expression for PHI, and what its match must hold beside."""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from pipeline.deidentify.spans import Span


class Shape(NamedTuple):
    """A pattern whose group ``phi`` marks PHI; the rest of it is the context that makes it so.

    Tried only on texts that hold ``needed``, or a digit where that is "0".
    """

    needed: str
    kind: str
    pattern: re.Pattern[str]
    check: Callable[[re.Match[str]], bool] | None = None

    def find(self, text: str, has_digit: bool) -> Iterator[Span]:
        if has_digit if self.needed == "0" else self.needed in text:
            for match in self.pattern.finditer(text):
                if self.check is None or self.check(match):
                    yield Span(*match.span("phi"), self.kind)
