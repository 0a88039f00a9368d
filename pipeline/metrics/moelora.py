"""Scores as the MOELoRA repository computes them: other numbers than PromptCBLUE's.

Source: github.com/liuqidong07/MOELoRA-peft, results/evaluation.py and post_generate_process.py.
Its formats are PromptCBLUE's (see promptcblue.py), read after the first hundred of each of
``: , ;`` became full-width; what is different:

    moelora_FORMAT_micro_f1  an item named twice counts twice, on either side
    moelora_micro_f1         CHIP-CTC, CHIP-STS, KUAKE-IR, -QQR, -QTR: micro-F1, which over single
                             labels is the share of right ones; "(医生检测)" is repaired
    moelora_macro_f1         KUAKE-QIC, IMCS-V2-DAC: as PromptCBLUE's
    moelora_rouge_l          MedDG: words cut by jieba, Rouge-L as the package rouge has it: of
                             each pair of sentences (they end at "."), each word once
    moelora_report_rouge_l   IMCS-V2-MRG: the same, the mean over a report's sections first, then
                             over reports; a missing section is 0

The official code divides by zero where no item is right, and rouge fails on an empty text: 0
here. F measures are without rouge's 1e-8 in the denominator. The Rouge metrics need jieba:
``pip install 'moelora-pipeline[jieba]'``.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from pipeline.metrics import labels, promptcblue
from pipeline.metrics.metric import Floats, Metric, Row, mean_of
from pipeline.metrics.promptcblue import Items, Parser
from pipeline.metrics.rouge import f_measure
from pipeline.metrics.sets import count_columns, micro

FULL_WIDTH = {":": "：", ",": "，", ";": "；"}


def full_width(text: str) -> str:
    """``: , ;`` in their full-width forms, the first hundred of each."""
    for plain, wide in FULL_WIDTH.items():
        text = text.replace(plain, wide, 100)
    return text


def _micro_f1(parse: Parser, malformed: Callable[[Row, str], bool]) -> Metric:
    def items(row: Row, text: str) -> Items:
        return parse(row, full_width(text))

    def statistics(rows: Sequence[Row], answers: Sequence[str], _labels: Sequence[str]) -> Floats:
        counts = np.zeros((len(rows), 3))
        for i, (row, answer) in enumerate(zip(rows, answers, strict=True)):
            gold, found = items(row, row.target), items(row, answer)
            right = sum(item in found for item in gold)
            counts[i] = right, sum(item not in gold for item in found), len(gold) - right
        return counts

    return Metric(
        statistics,
        micro,
        count_columns,
        malformed=lambda row, answer: malformed(row, full_width(answer)),
    )


def _label(text: str) -> str:
    return promptcblue.label(full_width(text)).replace("(医生检测)", "(医生检测）")


def _right(row: Row, answer: str) -> float:
    return float(bool(answer.strip()) and _label(row.target) == _label(answer))


def _label_space(rows: Sequence[Row], systems: Sequence[Sequence[str]]) -> tuple[str, ...]:
    texts = [row.target for row in rows] + [answer for answers in systems for answer in answers]
    return tuple(sorted(set(map(_label, texts))))


def _label_statistics(rows: Sequence[Row], answers: Sequence[str], space: Sequence[str]) -> Floats:
    return labels.one_hot([_label(row.target) for row in rows], [_label(answer) for answer in answers], space)


@cache
def _jieba() -> Any:
    import logging

    import jieba

    jieba.setLogLevel(logging.WARNING)
    return jieba.Tokenizer()


def sentences(text: str, mark: str = "") -> list[list[str]]:
    """Words of each sentence, as rouge splits what jieba has cut; ``mark`` stands before the first."""
    cut = mark + " ".join(_jieba().cut(text))
    return [" ".join(part.split()).split(" ") for part in cut.split(".") if part]


def _common_words(target: Sequence[str], answer: Sequence[str]) -> set[str]:
    """Words of one longest common subsequence, the one that rouge's way back through the table finds."""
    table = [[0] * (len(answer) + 1)]
    for word in target:
        row, above = [0], table[-1]
        for j, other in enumerate(answer):
            row.append(above[j] + 1 if word == other else max(above[j + 1], row[j]))
        table.append(row)
    words = set()
    i, j = len(target), len(answer)
    while i and j:
        if target[i - 1] == answer[j - 1]:
            words.add(target[i - 1])
            i, j = i - 1, j - 1
        elif table[i - 1][j] > table[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return words


def summary_rouge_l(target: list[list[str]], answer: list[list[str]]) -> float:
    """F measure of the union of common words over all pairs of sentences, each word once."""
    common = {word for left in target for right in answer for word in _common_words(left, right)}
    wanted, found = ({word for sentence in side for word in sentence} for side in (target, answer))
    return f_measure(len(common), len(wanted), len(found))


def _text_rouge_l(row: Row, answer: str) -> float:
    if not answer.strip():
        return 0.0
    return summary_rouge_l(*(sentences(full_width(text).strip()) for text in (row.target, answer)))


def _report_rouge_l(row: Row, answer: str) -> float:
    gold, found = (promptcblue.sections(full_width(text)) for text in (row.target, answer))
    scores = [
        summary_rouge_l(sentences(text, "-"), sentences(found[name], "-"))
        for name, text in gold.items()
        if name in found
    ]
    return sum(scores) / len(gold) if gold else 0.0


METRICS: dict[str, Metric] = {
    **{f"moelora_{name}_micro_f1": _micro_f1(*how) for name, how in promptcblue.FORMATS.items()},
    "moelora_micro_f1": mean_of(_right, promptcblue.no_label),
    "moelora_macro_f1": Metric(
        _label_statistics, labels.macro, labels.correct_column, _label_space, promptcblue.no_label
    ),
    "moelora_rouge_l": mean_of(_text_rouge_l, package="jieba"),
    "moelora_report_rouge_l": mean_of(
        _report_rouge_l,
        lambda row, answer: promptcblue.no_sections(row, full_width(answer)),
        package="jieba",
    ),
}
