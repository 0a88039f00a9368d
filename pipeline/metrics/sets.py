"""Strict micro-F1 over sets: what an answer names, counted row by row and pooled over rows.

    set_micro_f1       entities, concepts:  ``Type: mention; mention``, one type a line
    relation_micro_f1  triples:             ``Relation: head | tail; head | tail``, one relation a line
    event_micro_f1     events:              ``Type: field = value, value; field = value``, one event a line

An item counts only where all of it is right: the type and the mention, the relation and both
ends, the type and every field. Parts are compared normalised; a line without a colon has type
"". ``none``, alone or after a type, is no item. An item named twice counts once, and the fields
of an event and the values of a field are sets. Rows in which both sides find nothing count for
nothing: a task of such rows alone is 0/0, so 0.
"""

import unicodedata
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence

import numpy as np

from pipeline.metrics.labels import normalised
from pipeline.metrics.metric import Floats, Metric, Row, normalise, ratio

NONE = "none"
"""The answer, or the items of a type, where there is nothing to find."""


def _lines(answer: str) -> Iterator[tuple[str, str]]:
    """(normalised type, rest) of each line."""
    for line in unicodedata.normalize("NFKC", answer).splitlines():
        kind, colon, rest = line.partition(":")
        yield (normalise(kind), rest) if colon else ("", line)


def entities(answer: str) -> frozenset[tuple[str, str]]:
    """The (type, mention) pairs of an answer of lines ``Type: mention; mention``."""
    return frozenset(
        (kind, mention)
        for kind, rest in _lines(answer)
        for mention in map(normalise, rest.split(";"))
        if mention and mention != NONE
    )


def relations(answer: str) -> frozenset[tuple[str, ...]]:
    """The (relation, head, tail) triples of an answer of lines ``Relation: head | tail; ...``.

    What lacks one of its ends, or has more than two, is an item that no gold triple equals.
    """
    return frozenset(
        (kind, *(end.strip() for end in pair.split("|"))) for kind, pair in sorted(entities(answer))
    )


def events(answer: str) -> frozenset[tuple[str, frozenset[tuple[str, frozenset[str]]]]]:
    """The (type, fields) of each line ``Type: field = value, value; field = value``."""
    found = set()
    for kind, rest in _lines(answer):
        fields = set()
        for part in map(normalise, rest.split(";")):
            if part and part != NONE:
                name, _, values = part.partition("=")
                fields.add((name.strip(), frozenset(v.strip() for v in values.split(",") if v.strip())))
        if fields:
            found.add((kind, frozenset(fields)))
    return frozenset(found)


def set_micro_f1(
    parse: Callable[[Row, str], Collection[Hashable]],
    malformed: Callable[[Row, str], bool] | None = None,
) -> Metric:
    """Micro-F1 over the sets that ``parse(row, answer)`` reads from targets and answers."""

    def statistics(rows: Sequence[Row], answers: Sequence[str], _labels: Sequence[str]) -> Floats:
        counts = np.zeros((len(rows), 3))
        for i, (row, answer) in enumerate(zip(rows, answers, strict=True)):
            gold, found = set(parse(row, row.target)), set(parse(row, answer))
            counts[i] = len(gold & found), len(found - gold), len(gold - found)
        return counts

    return Metric(statistics, micro, count_columns, malformed=malformed)


def micro(totals: Floats) -> Floats:
    """F1 of the totals ``[..., tp, fp, fn]``."""
    tp, fp, fn = totals[..., 0], totals[..., 1], totals[..., 2]
    return ratio(2 * tp, 2 * tp + fp + fn)


def count_columns(statistics: Floats) -> dict[str, Floats]:
    return dict(zip(("tp", "fp", "fn"), statistics.T, strict=True))


def outside_inventory(row: Row, answer: str) -> bool:
    """Whether a line names neither ``none`` nor a type of the row's inventory."""
    types = normalised(row.choices or ())
    return row.choices is not None and any(kind not in types for kind, _ in entities(answer))


def _malformed_relation(row: Row, answer: str) -> bool:
    ends = [triple[1:] for triple in relations(answer)]
    return (
        not answer.strip() or outside_inventory(row, answer) or not all(len(e) == 2 and all(e) for e in ends)
    )


def _malformed_event(row: Row, answer: str) -> bool:
    return outside_inventory(row, answer) or any("=" not in part for _, part in entities(answer))


METRICS: dict[str, Metric] = {
    "set_micro_f1": set_micro_f1(lambda _row, answer: entities(answer)),
    "relation_micro_f1": set_micro_f1(lambda _row, answer: relations(answer), _malformed_relation),
    "event_micro_f1": set_micro_f1(lambda _row, answer: events(answer), _malformed_event),
}
