"""Task scores, each named after its official definition.

A metric turns every row into a few sums that add up over rows, its *statistics*, and computes
the score from their totals. So a resample is a weighted total, and ten thousand of them are one
matrix product.

    statistics [rows, k]  --weights [resamples, rows] @-->  totals [resamples, k]  -->  scores

Answers are compared after ``normalise``: Unicode NFKC (full-width forms are the plain ones),
case folded, runs of white space one blank. A malformed answer is wrong and counted; 0/0 is 0.

    accuracy      rows whose answer is the label / rows
    macro_f1      plain mean of F1 over the labels seen in gold or answers
    weighted_f1   F1 of each label, weighted by its rows in gold
    exact_match   rows whose answer equals the target / rows
    set_micro_f1  strict F1 over sets of (type, mention), pooled over rows (see ``entities``)
    rouge_l       mean over rows of the Rouge-L F measure: words as rouge-score cuts them, without
                  stemming; for Chinese characters, white space left out
"""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ParamsError
from pipeline.params import Evaluate
from pipeline.records import CHOICE_TASK_TYPES

Floats = NDArray[np.float64]

NONE = "none"
"""The answer, or the mentions of a type, where there is nothing to find."""


@dataclass(frozen=True)
class Row:
    """One test row as a metric sees it; ``choices`` are labels, or an inventory of types."""

    target: str
    language: str
    choices: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Metric:
    """``statistics(rows, answers, labels) -> [rows, k]``, ``score(totals [..., k]) -> [...]``.

    ``labels`` (normalised) order the columns of the F1 of labels; they must hold all labels of
    the systems that are to be compared. Other metrics ignore them.
    """

    statistics: Callable[[Sequence[Row], Sequence[str], Sequence[str]], Floats]
    score: Callable[[Floats], Floats]
    columns: Callable[[Floats], dict[str, Floats]]
    """The statistics as columns of data/predictions: ``score``, or ``tp``, ``fp``, ``fn``."""


def normalise(text: str) -> str:
    """The form in which answers, labels and mentions are compared."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def label_space(rows: Sequence[Row], *systems: Sequence[str]) -> tuple[str, ...]:
    """Sorted normalised labels of gold and of the well-formed answers of ``systems``."""
    labels = {normalise(row.target) for row in rows}
    for answers in systems:
        for row, answer in zip(rows, answers, strict=True):
            if not _is_malformed_label(row, answer):
                labels.add(normalise(answer))
    return tuple(sorted(labels))


def malformed(task_type: str, row: Row, answer: str) -> bool:
    """Whether an answer is not of the form its task asks for.

    Choice tasks: not one of the choices. Tasks with a type inventory: a line that is neither
    ``none`` nor ``Type: mentions`` with a type of it. All: empty.
    """
    if not normalise(answer):
        return True
    if row.choices is None:
        return False
    if task_type in CHOICE_TASK_TYPES:
        return _is_malformed_label(row, answer)
    types = {normalise(choice) for choice in row.choices}
    return any(kind not in types for kind, _ in entities(answer))


def entities(answer: str) -> frozenset[tuple[str, str]]:
    """The (type, mention) pairs of an answer of lines ``Type: mention; mention``.

    Both normalised; a line without a colon has type "". ``none``, alone or after a type, is no
    mention. A mention named twice counts once.
    """
    found = set()
    for line in unicodedata.normalize("NFKC", answer).splitlines():
        kind, colon, mentions = line.partition(":")
        if not colon:
            kind, mentions = "", line
        for mention in map(normalise, mentions.split(";")):
            if mention and mention != NONE:
                found.add((normalise(kind), mention))
    return frozenset(found)


def longest_common_subsequence(left: Sequence[str], right: Sequence[str]) -> int:
    """Length of the longest common subsequence of two token lists.

    Bit-parallel (Hyyrö 2004): one row of the dynamic programme is one integer, whose zero bits
    mark where the length grows; a 1,000 x 1,000 table takes 1,000 integer operations.
    """
    places: dict[str, int] = {}
    for i, token in enumerate(left):
        places[token] = places.get(token, 0) | 1 << i
    full = (1 << len(left)) - 1
    row = full
    for token in right:
        matches = row & places.get(token, 0)
        row = ((row + matches) | (row - matches)) & full
    return len(left) - row.bit_count()


def _tokens(text: str, language: str) -> Sequence[str]:
    if language.lower().split("-")[0] == "zh":
        return "".join(text.split())
    from rouge_score.tokenize import tokenize

    words: list[str] = tokenize(text, None)
    return words


def _rouge_l(row: Row, answer: str) -> float:
    target, found = _tokens(row.target, row.language), _tokens(answer, row.language)
    common = longest_common_subsequence(target, found)
    return 2 * common / (len(target) + len(found)) if common else 0.0


def _equal(row: Row, answer: str) -> float:
    return float(normalise(row.target) == normalise(answer))


def _is_malformed_label(row: Row, answer: str) -> bool:
    label = normalise(answer)
    return not label or (row.choices is not None and label not in map(normalise, row.choices))


def _mean_of(row_score: Callable[[Row, str], float]) -> Metric:
    def statistics(rows: Sequence[Row], answers: Sequence[str], _labels: Sequence[str]) -> Floats:
        scores = [row_score(row, answer) for row, answer in zip(rows, answers, strict=True)]
        return np.stack([np.array(scores, np.float64), np.ones(len(scores))], axis=1)

    return Metric(statistics, lambda totals: ratio(totals[..., 0], totals[..., 1]), _score_column)


def _score_column(statistics: Floats) -> dict[str, Floats]:
    return {"score": statistics[:, 0]}


def _entity_statistics(rows: Sequence[Row], answers: Sequence[str], _labels: Sequence[str]) -> Floats:
    counts = np.zeros((len(rows), 3))
    for i, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        gold, found = entities(row.target), entities(answer)
        counts[i] = len(gold & found), len(found - gold), len(gold - found)
    return counts


def _entity_columns(statistics: Floats) -> dict[str, Floats]:
    return dict(zip(("tp", "fp", "fn"), statistics.T, strict=True))


def _micro_f1(totals: Floats) -> Floats:
    tp, fp, fn = totals[..., 0], totals[..., 1], totals[..., 2]
    return ratio(2 * tp, 2 * tp + fp + fn)


def _label_statistics(rows: Sequence[Row], answers: Sequence[str], labels: Sequence[str]) -> Floats:
    """One-hot columns [gold | answered | both], a block of len(labels) each.

    A malformed answer is no label: it costs its gold label recall and adds no label of its own.
    """
    index = {label: i for i, label in enumerate(labels)}
    gold = np.zeros((len(rows), len(labels)))
    answered = np.zeros_like(gold)
    for i, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        gold[i, index[normalise(row.target)]] = 1
        if not _is_malformed_label(row, answer):
            answered[i, index[normalise(answer)]] = 1
    return np.concatenate([gold, answered, gold * answered], axis=1)


def _correct_column(statistics: Floats) -> dict[str, Floats]:
    return {"score": np.split(statistics, 3, axis=1)[2].sum(axis=1)}


def _label_f1(totals: Floats) -> tuple[Floats, Floats, Floats]:
    gold, answered, both = np.split(totals, 3, axis=-1)
    return ratio(2 * both, gold + answered), gold, answered


def _macro_f1(totals: Floats) -> Floats:
    f1, gold, answered = _label_f1(totals)
    seen = (gold + answered) > 0
    return ratio((f1 * seen).sum(-1), seen.sum(-1).astype(np.float64))


def _weighted_f1(totals: Floats) -> Floats:
    f1, gold, _ = _label_f1(totals)
    return ratio((f1 * gold).sum(-1), gold.sum(-1))


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Quotient in which 0/0 is 0."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator != 0)


METRICS: dict[str, Metric] = {
    "accuracy": _mean_of(_equal),
    "macro_f1": Metric(_label_statistics, _macro_f1, _correct_column),
    "weighted_f1": Metric(_label_statistics, _weighted_f1, _correct_column),
    "exact_match": _mean_of(_equal),
    "set_micro_f1": Metric(_entity_statistics, _micro_f1, _entity_columns),
    "rouge_l": _mean_of(_rouge_l),
}

DEFAULT_METRICS = {
    "classification": "accuracy",
    "nli": "accuracy",
    "qa_choice": "accuracy",
    "ner": "set_micro_f1",
    "relation": "set_micro_f1",
    "event": "set_micro_f1",
    "normalization": "set_micro_f1",
    "extraction": "set_micro_f1",
    "summarization": "rouge_l",
    "report_generation": "rouge_l",
    "qa_generation": "rouge_l",
    "response_generation": "rouge_l",
}
"""Metric of each task type, unless ``evaluate.tasks.<task>.metric`` names another."""


def metric_for(task: str, task_type: str, params: Evaluate) -> str:
    """Name of the metric a task is scored by; ParamsError where params.yaml names no metric."""
    chosen = params.tasks.get(task)
    name = chosen.metric if chosen else DEFAULT_METRICS[task_type]
    if name not in METRICS:
        raise ParamsError(
            f"params.yaml: evaluate.tasks.{task}.metric: {name!r} is no metric; known: {', '.join(METRICS)}"
        )
    return name


def score(name: str, rows: Sequence[Row], answers: Sequence[str]) -> float:
    """The score of one system over all rows, each once."""
    metric = METRICS[name]
    totals = metric.statistics(rows, answers, label_space(rows, answers)).sum(axis=0)
    return float(metric.score(totals))
