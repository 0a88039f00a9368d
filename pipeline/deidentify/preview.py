"""What de-identification would do to a text, for a person who wants to look: `moelora deidentify FILE`."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.deidentify.detect import detector
from pipeline.deidentify.labelled import lines, parsed
from pipeline.deidentify.replace import Surrogates

_FIELDS = ("text", "input", "target")
"""Texts of a line of JSON; answer_choices beside them."""


class Piece(NamedTuple):
    """A stretch of a text: ``kind`` is None, and both texts are the same, where nothing is replaced."""

    before: str
    after: str
    kind: str | None


def texts(file: Path, limit: int) -> list[list[str]]:
    """The texts of the first ``limit`` lines of JSON lines (.jsonl, .gz, .zst), of another file the whole.

    Raises InputError where the file cannot be read so.
    """
    if ".jsonl" not in file.suffixes:
        return [["".join(lines(file))]]
    filled = ((number, line) for number, line in enumerate(lines(file), start=1) if line.strip())
    return [_fields(parsed(line, f"{file}, line {number}")) for number, line in islice(filled, limit)]


def pieces(fields: Sequence[str], key: bytes, min_score: float, dates: str) -> Iterator[list[Piece]]:
    """Of each text; they stay one person's: a name found in one is replaced in all."""
    found = detector(min_score).detect(fields)
    values = {
        (span.kind, text[span.start : span.end])
        for text, spans in zip(fields, found, strict=True)
        for span in spans
    }
    group = Surrogates(key, "preview", values, dates)
    for text, replaced in zip(fields, group.replace(fields, found), strict=True):
        done, cut = 0, []
        for old, new in zip(replaced.originals, replaced.spans, strict=True):
            cut.append(Piece(text[done : old.start], text[done : old.start], None))
            cut.append(Piece(text[old.start : old.end], replaced.text[new.start : new.end], new.kind))
            done = old.end
        cut.append(Piece(text[done:], text[done:], None))
        yield [piece for piece in cut if piece.before]


def _fields(row: dict[str, Any]) -> list[str]:
    choices = row.get("answer_choices") or []
    return [str(text) for text in (*(row.get(name) for name in _FIELDS), *choices) if text]
