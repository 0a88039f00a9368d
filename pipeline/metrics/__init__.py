"""Task scores, each named after its official definition.

A metric turns every row into a few sums that add up over rows, its *statistics*, and computes
the score from their totals. So a resample is a weighted total, and ten thousand of them are one
matrix product.

    statistics [rows, k]  --weights [resamples, rows] @-->  totals [resamples, k]  -->  scores

    accuracy, exact_match, macro_f1, micro_f1, weighted_f1   labels.py
    set_micro_f1, relation_micro_f1, event_micro_f1          sets.py
    rouge_1, rouge_2, rouge_l                                rouge.py
    bleu                                                     bleu.py
    promptcblue_*: the official scores of PromptCBLUE        promptcblue.py
    moelora_*: those of the MOELoRA repository               moelora.py

Scores lie between 0 and 1. Unless a file says otherwise, answers are compared after
``normalise``: Unicode NFKC (full-width forms are the plain ones), case folded, runs of white
space one blank. A malformed answer is wrong and counted; 0/0 is 0.
"""

from collections.abc import Sequence
from importlib.util import find_spec

from pipeline.errors import ParamsError
from pipeline.metrics import bleu, labels, moelora, promptcblue, rouge, sets
from pipeline.metrics.metric import Floats, Metric, Row, normalise, ratio
from pipeline.metrics.rouge import longest_common_subsequence
from pipeline.metrics.sets import entities
from pipeline.params import Evaluate
from pipeline.records import CHOICE_TASK_TYPES

__all__ = [
    "DEFAULT_METRICS",
    "METRICS",
    "Floats",
    "Metric",
    "Row",
    "entities",
    "label_space",
    "longest_common_subsequence",
    "malformed",
    "metric_for",
    "normalise",
    "ratio",
    "score",
]

METRICS: dict[str, Metric] = {
    **labels.METRICS,
    **sets.METRICS,
    **rouge.METRICS,
    **bleu.METRICS,
    **promptcblue.METRICS,
    **moelora.METRICS,
}

DEFAULT_METRICS = {
    "classification": "accuracy",
    "nli": "accuracy",
    "qa_choice": "accuracy",
    "ner": "set_micro_f1",
    "relation": "relation_micro_f1",
    "event": "event_micro_f1",
    "normalization": "set_micro_f1",
    "extraction": "set_micro_f1",
    "summarization": "rouge_l",
    "report_generation": "rouge_l",
    "qa_generation": "rouge_l",
    "response_generation": "rouge_l",
}
"""Metric of each task type, unless the task is one of PromptCBLUE's (``promptcblue.TASKS``) or
``evaluate.tasks.<task>.metric`` names another."""


def metric_for(task: str, task_type: str, params: Evaluate) -> str:
    """Name of the metric a task is scored by.

    Raises ParamsError where params.yaml names no metric, or one whose package is not installed.
    """
    chosen = params.tasks.get(task)
    name = chosen.metric if chosen else promptcblue.TASKS.get(task, DEFAULT_METRICS[task_type])
    if name not in METRICS:
        raise ParamsError(
            f"params.yaml: evaluate.tasks.{task}.metric: {name!r} is no metric; known: {', '.join(METRICS)}"
        )
    package = METRICS[name].package
    if package and find_spec(package) is None:
        raise ParamsError(
            f"params.yaml: evaluate.tasks.{task}.metric: {name} needs the package {package}: "
            f"pip install 'moelora-pipeline[{package}]'"
        )
    return name


def label_space(rows: Sequence[Row], *systems: Sequence[str], metric: str = "macro_f1") -> tuple[str, ...]:
    """The labels that ``metric`` counts over the answers of ``systems``; none for most metrics."""
    return METRICS[metric].labels(rows, systems)


def malformed(task_type: str, row: Row, answer: str, metric: str | None = None) -> bool:
    """Whether an answer is not of the form its task asks for: that of ``metric``, if it has one.

    Otherwise, choice tasks: not one of the choices. Tasks with a type inventory: a line that is
    neither ``none`` nor ``Type: mentions`` with a type of it. All: empty.
    """
    if not normalise(answer):
        return True
    if metric is not None and (check := METRICS[metric].malformed) is not None:
        return check(row, answer)
    if task_type in CHOICE_TASK_TYPES:
        return labels.is_malformed(row, answer)
    return sets.outside_inventory(row, answer)


def score(name: str, rows: Sequence[Row], answers: Sequence[str]) -> float:
    """The score of one system over all rows, each once."""
    metric = METRICS[name]
    totals = metric.statistics(rows, answers, metric.labels(rows, [answers])).sum(axis=0)
    return float(metric.score(totals))
