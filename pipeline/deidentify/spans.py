"""Where PHI lies in a text, by kind, and how overlapping findings become one partition."""

from collections.abc import Iterable
from typing import NamedTuple

CATEGORIES = {
    "EMAIL": "CONTACT",
    "URL": "CONTACT",
    "IP": "CONTACT",
    "ADDRESS": "LOCATION",
    "ID": "ID",
    "PHONE": "CONTACT",
    "DATE": "DATE",
    "AGE": "AGE",
    "ZIP": "LOCATION",
    "FACILITY": "LOCATION",
    "NAME": "NAME",
    "LOCATION": "LOCATION",
}
"""Kind of a finding, and the wider kind that labelled text names; of two findings at one place
the kind that stands first here wins."""

_RANK = {kind: rank for rank, kind in enumerate(CATEGORIES)}


class Span(NamedTuple):
    """Characters ``start`` to ``end`` (exclusive) of a text, and their kind of CATEGORIES."""

    start: int
    end: int
    kind: str


def resolve(spans: Iterable[Span], text: str) -> list[Span]:
    """Spans in order that do not overlap: a weaker finding keeps what stronger ones leave of it.

    What is left counts only where it holds a letter or digit.
    """
    taken: list[Span] = []
    for span in sorted(set(spans), key=lambda s: (_RANK[s.kind], s.start - s.end, s.start)):
        pieces = [(span.start, span.end)]
        for other in taken:
            if other.start < span.end and span.start < other.end:
                pieces = [
                    piece
                    for start, end in pieces
                    for piece in ((start, min(end, other.start)), (max(start, other.end), end))
                    if piece[0] < piece[1]
                ]
        for start, end in pieces:
            while start < end and not text[start].isalnum() and text[start] not in "(+[":
                start += 1
            while start < end and not text[end - 1].isalnum() and text[end - 1] not in ".)]":
                end -= 1
            if any(character.isalnum() for character in text[start:end]):
                taken.append(Span(start, end, span.kind))
    return sorted(taken)
