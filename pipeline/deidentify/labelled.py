"""How much of the PHI in labelled text is found, and how much of what is found is PHI.

A labelled file is JSON lines, plain or compressed (.gz, .zst): ``doc_id``, ``text``, ``spans``
[{``start``, ``end``, ``category``}] (characters, end exclusive), ``exhaustive`` (true where it is
missing): whether all PHI is labelled, so that precision can be told, and ``language`` (en where it is
missing). Each document counts as a group of its own: a name found once is found everywhere in it, as
in the stage.

A span is found where each of its letters and digits is. Precision is the share of letters and digits
in what was found that are labelled as PHI; those of other labels (AGE, OTHER) count neither way.
"""

import gzip
import io
import json
import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

import zstandard

from pipeline.deidentify.replace import Surrogates
from pipeline.deidentify.spans import Span, resolve
from pipeline.errors import InputError

PHI = ("NAME", "DATE", "LOCATION", "CONTACT", "ID")
"""Categories that count as PHI; a file may hold others, which are listed beside them."""

ALL = "PHI"
"""All of PHI together."""


class Labelled(NamedTuple):
    """A document; ``spans`` are (start, end, category)."""

    doc_id: str
    text: str
    spans: list[tuple[int, int, str]]
    exhaustive: bool = True
    language: str = "en"

    @property
    def source(self) -> str:
        """What stands before the first / or # of the id: one table for each."""
        return self.doc_id.split("#")[0].split("/")[0]


class Recall(NamedTuple):
    """Of one source and category; ``low`` and ``high``: 95 % interval (see wilson)."""

    source: str
    category: str
    found: int
    labelled: int
    recall: float
    low: float
    high: float
    precision: float | None
    """By characters, of all PHI of a source; None elsewhere, and where labels are not exhaustive."""


def read(path: Path) -> list[Labelled]:
    """The documents of a labelled file. Raises InputError that names line and field, never a text."""
    documents = [
        _document(line, f"{path}, line {number}")
        for number, line in enumerate(lines(path), start=1)
        if line.strip()
    ]
    if not documents:
        raise InputError(f"{path} holds no labelled documents")
    return documents


def search(documents: Sequence[Labelled], min_score: float) -> Iterator[list[Span]]:
    """What is found in each document, as the stage finds it."""
    from pipeline.deidentify.detect import detector
    from pipeline.deidentify.models import BATCH

    for start in range(0, len(documents), BATCH):
        batch = documents[start : start + BATCH]
        found = detector(min_score).detect([document.text for document in batch])
        for document, spans in zip(batch, found, strict=True):
            yield in_group(document.text, spans, document.doc_id)


def in_group(text: str, spans: Sequence[Span], group: str) -> list[Span]:
    """What was found in ``text``, and where that stands in it again."""
    values = [(span.kind, text[span.start : span.end]) for span in spans]
    # Any key: only where values stand is asked, not what stands for them.
    return resolve([*spans, *Surrogates(bytes(32), group, values, "shift").matches(text)], text)


def recalls(documents: Sequence[Labelled], found: Sequence[Sequence[Span]]) -> list[Recall]:
    """By source and category, PHI first. ``found``: the spans of each document."""
    hits: dict[tuple[str, str], list[bool]] = {}
    inside: dict[str, int] = {}
    marked: dict[str, int] = {}
    for document, spans in zip(documents, found, strict=True):
        covered = _characters(document.text, ((span.start, span.end) for span in spans))
        phi: set[int] = set()
        other: set[int] = set()
        for start, end, category in document.spans:
            characters = _characters(document.text, [(start, end)])
            (phi if category in PHI else other).update(characters)
            for name in (category, ALL) if category in PHI else (category,):
                hits.setdefault((document.source, name), []).append(characters <= covered)
        if document.exhaustive:
            marked[document.source] = marked.get(document.source, 0) + len(covered - (other - phi))
            inside[document.source] = inside.get(document.source, 0) + len(covered & phi)
    order = (ALL, *PHI)
    return [
        _recall(source, category, hits[source, category], inside.get(source), marked.get(source))
        for source, category in sorted(
            hits, key=lambda key: (key[0], order.index(key[1]) if key[1] in order else len(order), key[1])
        )
    ]


def as_predictions(documents: Sequence[Labelled], found: Sequence[Sequence[Span]]) -> Iterator[str]:
    """A JSON line for each document: ``doc_id, spans: [{start, end, kind}]``, no text."""
    for document, spans in zip(documents, found, strict=True):
        yield json.dumps({"doc_id": document.doc_id, "spans": [span._asdict() for span in spans]})


def lines(path: Path) -> Iterator[str]:
    """Lines of a text file, plain or compressed (.gz, .zst). Raises InputError."""
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rt", encoding="utf-8") as file:
                yield from file
        elif path.suffix == ".zst":
            with path.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as stream:
                yield from io.TextIOWrapper(stream, encoding="utf-8")
        else:
            with path.open(encoding="utf-8") as file:
                yield from file
    except (OSError, EOFError, UnicodeDecodeError, zlib.error, zstandard.ZstdError):
        raise InputError(f"{path} cannot be read as UTF-8 text, plain, .gz or .zst") from None


def parsed(line: str, where: str) -> dict[str, Any]:
    """The JSON object of a line. Raises InputError that says ``where``."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        row = None
    if not isinstance(row, dict):
        raise InputError(f"{where}: no JSON object")
    return row


def _document(line: str, where: str) -> Labelled:
    row = parsed(line, where)
    try:
        spans = [(int(s["start"]), int(s["end"]), str(s["category"])) for s in row["spans"]]
        exhaustive, language = bool(row.get("exhaustive", True)), str(row.get("language") or "en")
        document = Labelled(str(row["doc_id"]), str(row["text"]), spans, exhaustive, language)
    except (TypeError, KeyError, ValueError):
        raise InputError(f"{where}: needs doc_id, text and spans [{{start, end, category}}]") from None
    if any(not 0 <= start < end <= len(document.text) for start, end, _ in spans):
        raise InputError(f"{where}: a span lies outside its text, or is empty")
    return document


def _characters(text: str, spans: Iterable[tuple[int, int]]) -> set[int]:
    """Places of the letters and digits in ``spans``."""
    return {place for start, end in spans for place in range(start, end) if text[place].isalnum()}


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95 % score interval of a proportion (Wilson 1927), without the second that scipy takes to import."""
    z = NormalDist().inv_cdf(0.975)
    share = successes / trials
    centre = share + z * z / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    scale = 1 + z * z / trials
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def _recall(
    source: str, category: str, hits: Sequence[bool], inside: int | None, marked: int | None
) -> Recall:
    low, high = wilson(sum(hits), len(hits))
    told = category == ALL and inside is not None and marked
    return Recall(
        source,
        category,
        sum(hits),
        len(hits),
        sum(hits) / len(hits),
        low,
        high,
        inside / marked if told else None,  # type: ignore[operator]
    )
