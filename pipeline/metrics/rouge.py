"""Rouge-1, -2 and -L: the mean over rows of the F measure, as rouge-score defines it.

English and other languages: words as rouge-score cuts them, runs of a to z and digits in lower
case, without stemming. Chinese: characters, white space left out. Rouge-N counts n-grams as often as
they occur; Rouge-L is that of the whole text, not of its sentences. No token on a side is 0.
"""

import re
from collections import Counter
from collections.abc import Sequence

from pipeline.metrics.metric import Metric, Row, mean_of

WORD = re.compile("[a-z0-9]+")


def is_chinese(language: str) -> bool:
    """Whether a BCP 47 tag names Chinese."""
    return language.lower().split("-")[0] == "zh"


def tokens(text: str, language: str) -> Sequence[str]:
    """Characters of a Chinese text, words of any other."""
    if is_chinese(language):
        return "".join(text.split())
    return WORD.findall(text.lower())


def longest_common_subsequence(left: Sequence[str], right: Sequence[str]) -> int:
    """Length of the longest common subsequence of two token lists.

    Bit-parallel (Hyyrö 2004): one row of the dynamic programme is one integer, whose zero bits
    mark where the length grows; a 1,000 x 1,000 table takes 1,000 integer operations, one for
    each token of the shorter list.
    """
    if len(left) < len(right):
        left, right = right, left
    places: dict[str, int] = {}
    for i, token in enumerate(left):
        places[token] = places.get(token, 0) | 1 << i
    full = (1 << len(left)) - 1
    row = full
    for token in right:
        if place := places.get(token):
            matches = row & place
            row = ((row + matches) | (row - matches)) & full
    return len(left) - row.bit_count()


def f_measure(common: int, target: int, answer: int) -> float:
    """F1 of ``common / answer`` and ``common / target``; 0 where nothing is common."""
    return 2 * common / (target + answer) if common else 0.0


def rouge_l(target: Sequence[str], answer: Sequence[str]) -> float:
    """F measure of the longest common subsequence of two token lists."""
    return f_measure(longest_common_subsequence(target, answer), len(target), len(answer))


def rouge_n(target: Sequence[str], answer: Sequence[str], n: int) -> float:
    """F measure of the n-grams of two token lists, each counted as often as it occurs."""
    wanted, found = (Counter(zip(*(side[i:] for i in range(n)), strict=False)) for side in (target, answer))
    return f_measure((wanted & found).total(), wanted.total(), found.total())


def _rouge_l(row: Row, answer: str) -> float:
    return rouge_l(tokens(row.target, row.language), tokens(answer, row.language))


def _rouge_n(n: int) -> Metric:
    return mean_of(
        lambda row, answer: rouge_n(tokens(row.target, row.language), tokens(answer, row.language), n)
    )


METRICS: dict[str, Metric] = {"rouge_1": _rouge_n(1), "rouge_2": _rouge_n(2), "rouge_l": mean_of(_rouge_l)}
