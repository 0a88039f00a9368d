"""BLEU of the whole test set, as sacrebleu defines it, between 0 and 1.

Up to 4-grams, brevity penalty, exponential smoothing; tokens ``13a``, for Chinese ``zh``. A
corpus score, no mean over rows: its counts add up over rows, so totals of any rows have one.
Texts that hold no 4-gram among them score 0, gold itself too.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from pipeline.metrics.metric import Floats, Metric, Row, ratio
from pipeline.metrics.rouge import is_chinese

ORDER = 4


@cache
def _sacrebleu(tokenizer: str) -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(tokenize=tokenizer, effective_order=True)


def _statistics(rows: Sequence[Row], answers: Sequence[str], _labels: Sequence[str]) -> Floats:
    """Columns [matched n-grams | answered n-grams | answer length, target length], n from 1 to 4."""
    counts = np.zeros((len(rows), 2 * ORDER + 2))
    for i, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        tokenizer = "zh" if is_chinese(row.language) else "13a"
        found = _sacrebleu(tokenizer).sentence_score(answer, [row.target])
        counts[i] = *found.counts, *found.totals, found.sys_len, found.ref_len
    return counts


def _bleu(totals: Floats) -> Floats:
    matched, answered = totals[..., :ORDER], totals[..., ORDER : 2 * ORDER]
    length, target = totals[..., 2 * ORDER], totals[..., 2 * ORDER + 1]
    # An order without a match counts as half, a quarter, ... of one match.
    halvings = np.cumsum(matched == 0, axis=-1)
    precisions = ratio(np.where(matched > 0, matched, 0.5**halvings), answered)
    with np.errstate(divide="ignore"):
        mean = np.exp(np.log(precisions).mean(axis=-1))
    penalty = np.exp(np.minimum(0, 1 - ratio(target, length)))
    scores: Floats = np.where(matched.any(axis=-1), penalty * mean, 0.0)
    return scores


METRICS: dict[str, Metric] = {"bleu": Metric(_statistics, _bleu, lambda _statistics: {})}
