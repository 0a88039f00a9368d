"""Rouge and BLEU beside the libraries that define them: the difference in one random case.

rouge and rouge-chinese divide by ``p + r + 1e-8``: F is taken of their p and r.
"""

import logging
import random
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from pipeline.metrics import Row, score

Case = Callable[[random.Random], float]


def rouge_score(metric: str, name: str) -> Case:
    """English against rouge-score."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer([name])

    def case(rng: random.Random) -> float:
        rows = [
            Row(_text(rng, "the a fever Fever, x-ray 38.5 °C é İ."), "en") for _ in range(rng.randint(1, 4))
        ]
        answers = [_alike(row.target, rng) for row in rows]
        pairs = zip(rows, answers, strict=True)
        expected = np.mean([scorer.score(row.target, answer)[name].fmeasure for row, answer in pairs])
        return abs(score(metric, rows, answers) - float(expected))

    return case


def rouge_chinese(metric: str, name: str) -> Case:
    """Chinese characters against rouge-chinese, n-grams counted as often as they occur."""

    def case(rng: random.Random) -> float:
        rows = [Row(_text(rng, "高 血 压 饮食 ， 。 ab 3", ""), "zh") for _ in range(rng.randint(1, 4))]
        answers = [_alike(row.target, rng) for row in rows]
        pairs = [(list(answer), list(row.target)) for row, answer in zip(rows, answers, strict=True)]
        return abs(score(metric, rows, answers) - float(np.mean([_f_chinese(*pair, name) for pair in pairs])))

    return case


def _f_chinese(answer: Sequence[str], target: Sequence[str], name: str) -> float:
    from rouge_chinese import Rouge

    found = Rouge([name], exclusive=False).get_scores(" ".join(answer), " ".join(target))[0][name]
    return _f(found["p"], found["r"])


def _f(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def sacrebleu(language: str, tokenizer: str) -> Case:
    """The corpus score against sacrebleu."""
    from sacrebleu.metrics.bleu import BLEU

    bleu = BLEU(tokenize=tokenizer)
    words, space = (
        ("the a fever Fever, x-ray 38.5", " ") if language == "en" else ("高 血 压 饮食 ， 。 ab 3", "")
    )

    def case(rng: random.Random) -> float:
        rows = [Row(_text(rng, words, space), language) for _ in range(rng.randint(1, 6))]
        answers = [_alike(row.target, rng) for row in rows]
        expected = bleu.corpus_score(answers, [[row.target for row in rows]]).score / 100
        return abs(score("bleu", rows, answers) - expected)

    return case


@cache
def _bert() -> Any:
    from transformers import BasicTokenizer

    return BasicTokenizer()


CLINICAL = "患儿 咳嗽 ， 。 CRP 38.5℃ Hp 20mg/L café ？ ＡＢ"


def _official_rouge_l(answer: str, target: str) -> float:
    tokens = [_bert().tokenize(text) or ["无", "。"] for text in (answer, target)]
    return _f_chinese(*tokens, "rouge-l")


def replies(rng: random.Random) -> float:
    """PromptCBLUE's Rouge-L against rouge-chinese over the tokens of transformers."""
    rows = [Row(_text(rng, CLINICAL), "zh") for _ in range(rng.randint(1, 4))]
    answers = [_alike(row.target, rng) for row in rows]
    expected = np.mean([_official_rouge_l(a, row.target) for row, a in zip(rows, answers, strict=True)])
    return abs(score("promptcblue_rouge_l", rows, answers) - float(expected))


def _report(sections: dict[str, str]) -> str:
    return "\n".join(["诊疗报告如下：", *(f"{name}：{text}" for name, text in sections.items())])


def _reports(rng: random.Random) -> list[tuple[dict[str, str], dict[str, str]]]:
    from pipeline.metrics.promptcblue import SECTIONS

    pairs = []
    for _ in range(rng.randint(1, 4)):
        gold = {name: _text(rng, CLINICAL) if rng.random() < 0.8 else "" for name in SECTIONS}
        found = {
            name: _alike(text, rng) if text else "无。" for name, text in gold.items() if rng.random() < 0.8
        }
        pairs.append((gold, found or {"主诉": "发热"}))
    return pairs


def reports(rng: random.Random) -> float:
    """PromptCBLUE's Rouge-L of reports, over all sections, against rouge-chinese."""
    pairs = _reports(rng)
    rows, answers = [Row(_report(gold), "zh") for gold, _ in pairs], [_report(found) for _, found in pairs]
    expected = np.mean(
        [_official_rouge_l(found.get(name, ""), text) for gold, found in pairs for name, text in gold.items()]
    )
    return abs(score("promptcblue_report_rouge_l", rows, answers) - float(expected))


def _words_rouge_l(answer: str, target: str, mark: str = "") -> float:
    import jieba
    from rouge import Rouge

    jieba.setLogLevel(logging.WARNING)
    cut = [mark + " ".join(jieba.cut(text)) for text in (answer, target)]
    if not all(text.strip(".") for text in cut):
        return 0.0  # rouge raises where there is no sentence
    found = Rouge(["rouge-l"]).get_scores(*cut)[0]["rouge-l"]
    return _f(found["p"], found["r"])


def moelora_replies(rng: random.Random) -> float:
    """The MOELoRA repository's Rouge-L against rouge over the words of jieba."""
    rows = [Row(_text(rng, CLINICAL), "zh") for _ in range(rng.randint(1, 4))]
    answers = [_alike(row.target, rng) for row in rows]
    expected = np.mean([_words_rouge_l(a, row.target) for row, a in zip(rows, answers, strict=True)])
    return abs(score("moelora_rouge_l", rows, answers) - float(expected))


def moelora_reports(rng: random.Random) -> float:
    """The MOELoRA repository's Rouge-L of reports, the mean over each report's sections first."""
    pairs = _reports(rng)
    rows, answers = [Row(_report(gold), "zh") for gold, _ in pairs], [_report(found) for _, found in pairs]
    expected = np.mean(
        [
            np.mean(
                [
                    _words_rouge_l(found[name], text, "-") if name in found else 0.0
                    for name, text in gold.items()
                ]
            )
            for gold, found in pairs
        ]
    )
    return abs(score("moelora_report_rouge_l", rows, answers) - float(expected))


def _text(rng: random.Random, words: str, space: str = " ") -> str:
    return space.join(rng.choices(words.split(), k=rng.randint(1, 14)))


def _alike(text: str, rng: random.Random) -> str:
    """``text``, a part of it, or its characters in another order; never empty."""
    i, j = sorted((rng.randrange(len(text)), rng.randrange(len(text))))
    shuffled = "".join(rng.sample(text, len(text)))
    return rng.choice((text, text[i : j + 1], text[j:] + text[:i], shuffled)).strip() or text
