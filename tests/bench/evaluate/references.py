"""Each metric beside the library that defines it: the difference in one random case.

A case is one to a dozen rows drawn by a ``random.Random``; answers are right, alike, wrong or
malformed.
"""

import random
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from pipeline.metrics import Row, score
from tests.bench.evaluate import texts
from tests.bench.evaluate.texts import Case


def _f1(gold: Sequence[object], found: Sequence[object], **options: Any) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(gold, found, zero_division=0, **options))


def labels(metric: str, average: str | None) -> Case:
    """Labels of a closed list against scikit-learn; a malformed answer is no label of the list."""
    choices = ("yes", "no", "maybe", "not known", "other")

    def case(rng: random.Random) -> float:
        rows = [Row(rng.choice(choices), "en", choices) for _ in range(rng.randint(1, 12))]
        answers = [rng.choice([*choices, row.target, "I think so"]) for row in rows]
        gold = [row.target for row in rows]
        if average is None:
            expected = float(np.mean([g == a for g, a in zip(gold, answers, strict=True)]))
        else:
            known = sorted({*gold, *answers} & set(choices))
            expected = _f1(gold, answers, labels=known, average=average)
        return abs(score(metric, rows, answers) - expected)

    return case


def open_labels(metric: str, average: str) -> Case:
    """Labels that are whatever was answered, against scikit-learn."""
    choices = ("治疗方案", "就医建议", "病因分析", "非上述类型")

    def case(rng: random.Random) -> float:
        rows = [Row(rng.choice(choices), "zh", choices) for _ in range(rng.randint(1, 12))]
        answers = [rng.choice([*choices, row.target, "不知道", "就医"]) for row in rows]
        return abs(score(metric, rows, answers) - _f1([row.target for row in rows], answers, average=average))

    return case


def accuracy(metric: str) -> Case:
    """Whole answers against scikit-learn's accuracy."""
    from sklearn.metrics import accuracy_score

    def case(rng: random.Random) -> float:
        texts = ["otitis media", "gout", "high blood pressure", "none"]
        rows = [Row(rng.choice(texts), "en") for _ in range(rng.randint(1, 12))]
        answers = [rng.choice([*texts, row.target]) for row in rows]
        return abs(score(metric, rows, answers) - accuracy_score([row.target for row in rows], answers))

    return case


def seqeval(rng: random.Random) -> float:
    """Entities of tagged sentences against seqeval; words differ, so a mention is its place."""
    from seqeval.metrics import f1_score

    def tags(length: int) -> list[str]:
        made: list[str] = []
        while len(made) < length:
            kind = rng.choice(("", "", "Disease", "Chemical"))
            size = rng.randint(1, 3) if kind else 1
            made += [f"B-{kind}"] + [f"I-{kind}"] * (size - 1) if kind else ["O"]
        return made[:length]

    def written(sentence: list[str]) -> str:
        mentions: dict[str, list[str]] = {}
        for i, tag in enumerate(sentence):
            if tag[0] == "B":
                mentions.setdefault(tag[2:], []).append(f"w{i}")
            elif tag[0] == "I":
                mentions[tag[2:]][-1] += f" w{i}"
        return "\n".join(f"{kind}: {'; '.join(found)}" for kind, found in mentions.items()) or "none"

    gold = [tags(rng.randint(1, 12)) for _ in range(rng.randint(1, 8))]
    found = [g if rng.random() < 0.4 else tags(len(g)) for g in gold]
    rows = [Row(written(g), "en", ("Disease", "Chemical")) for g in gold]
    expected = f1_score(gold, found, zero_division=0)
    return abs(score("set_micro_f1", rows, [written(f) for f in found]) - float(expected))


def items(
    metric: str,
    draw: Callable[[random.Random], Hashable],
    write: Callable[[list[Any]], str],
    choices: tuple[str, ...] | None = None,
    twice: bool = False,
) -> Case:
    """What ``draw`` makes and ``write`` puts in an answer's format, against scikit-learn's F1.

    scikit-learn sees one binary decision for each item: is it gold, was it answered. ``twice``:
    an item named twice is two.
    """

    def case(rng: random.Random) -> float:
        rows, answers, gold, found = [], [], [], []
        for _ in range(rng.randint(1, 8)):
            wanted = [draw(rng) for _ in range(rng.randint(0, 4))]
            named = [item for item in wanted if rng.random() < 0.6] + [
                draw(rng) for _ in range(rng.randint(0, 2))
            ]
            rows.append(Row(write(wanted), "zh", choices))
            answers.append(write(named))
            if not twice:
                wanted, named = list(dict.fromkeys(wanted)), list(dict.fromkeys(named))
            extra = [item for item in named if item not in wanted]
            gold += [1] * len(wanted) + [0] * len(extra)
            found += [int(item in named) for item in wanted] + [1] * len(extra)
        expected = _f1(gold, found) if gold else 0.0
        return abs(score(metric, rows, answers) - expected)

    return case


def _entity(rng: random.Random) -> tuple[str, str]:
    return rng.choice(("疾病", "药物")), rng.choice("甲乙丙丁")


def _triple(rng: random.Random) -> tuple[str, str, str]:
    return rng.choice(("病因", "药物治疗")), rng.choice("甲乙丙"), rng.choice("子丑寅")


def _event(rng: random.Random) -> tuple[str, str, tuple[str, ...], tuple[str, ...]]:
    return (
        rng.choice("甲乙"),
        rng.choice(("", "否定")),
        tuple(sorted(rng.sample("长短圆", rng.randint(0, 2)))),
        tuple(sorted(rng.sample("头腹", rng.randint(0, 2)))),
    )


def _finding(rng: random.Random) -> tuple[str, str]:
    return rng.choice("甲乙丙"), rng.choice(("阳性", "阴性"))


def _plain_relations(found: list[tuple[str, str, str]]) -> str:
    return "\n".join(f"{relation}: {head} | {tail}" for relation, head, tail in found) or "none"


def _plain_events(found: list[tuple[Any, ...]]) -> str:
    lines = [f"{a}: state = {b or 'x'}; size = {', '.join(c)}; site = {','.join(d)}" for a, b, c, d in found]
    return "\n".join(lines) or "none"


def _typed(found: list[tuple[str, str]]) -> str:
    lines = [f"{kind}实体：{'，'.join(m for k, m in found if k == kind)}" for kind in ("疾病", "药物")]
    return "\n".join(["上述句子中的实体包含：", *lines])


def _pairs(found: list[tuple[str, str, str]]) -> str:
    lines = []
    for relation in ("病因", "药物治疗"):
        pairs = [f"头实体为{head}，尾实体为{tail}。" for r, head, tail in found if r == relation]
        lines.append(f"具有{relation}关系的头尾实体对如下：{''.join(pairs)}")
    return "\n".join(lines)


def _event_lines(found: list[tuple[Any, ...]]) -> str:
    lines = [
        f"主体词：{a}；发生状态：{b}；描述词：{'，'.join(c)}；解剖部位：{'，'.join(d)}"
        for a, b, c, d in found
    ]
    return "\n".join(["临床发现事件如下：", *lines])


def _status_lines(found: list[tuple[str, str]]) -> str:
    return "\n".join(["判断为：", *(f"{name}：{status}" for name, status in found)])


def _terms(found: list[str]) -> str:
    return "，".join(found) or "没有对应的标准化实体"


FORMATS: dict[
    str, tuple[Callable[[random.Random], Hashable], Callable[[list[Any]], str], tuple[str, ...]]
] = {
    "ner": (_entity, _typed, ("疾病", "药物")),
    "relation": (_triple, _pairs, ("病因", "药物治疗")),
    "normalization": (lambda rng: rng.choice("甲乙丙丁"), _terms, tuple("甲乙丙丁")),
    "event": (_event, _event_lines, ()),
    "finding": (_finding, _status_lines, ("阳性", "阴性")),
}

CASES: dict[str, tuple[str, Case]] = {
    "accuracy": ("scikit-learn", labels("accuracy", None)),
    "macro_f1": ("scikit-learn", labels("macro_f1", "macro")),
    "micro_f1": ("scikit-learn", labels("micro_f1", "micro")),
    "weighted_f1": ("scikit-learn", labels("weighted_f1", "weighted")),
    "exact_match": ("scikit-learn", accuracy("exact_match")),
    "set_micro_f1, entities": ("seqeval", seqeval),
    "set_micro_f1, normalization": (
        "scikit-learn",
        items("set_micro_f1", lambda rng: rng.choice("甲乙丙丁"), lambda found: "; ".join(found) or "none"),
    ),
    "relation_micro_f1": ("scikit-learn", items("relation_micro_f1", _triple, _plain_relations)),
    "event_micro_f1": ("scikit-learn", items("event_micro_f1", _event, _plain_events)),
    "rouge_1, English": ("rouge-score", texts.rouge_score("rouge_1", "rouge1")),
    "rouge_2, English": ("rouge-score", texts.rouge_score("rouge_2", "rouge2")),
    "rouge_l, English": ("rouge-score", texts.rouge_score("rouge_l", "rougeL")),
    "rouge_1, Chinese": ("rouge-chinese", texts.rouge_chinese("rouge_1", "rouge-1")),
    "rouge_2, Chinese": ("rouge-chinese", texts.rouge_chinese("rouge_2", "rouge-2")),
    "rouge_l, Chinese": ("rouge-chinese", texts.rouge_chinese("rouge_l", "rouge-l")),
    "bleu, English": ("sacrebleu", texts.sacrebleu("en", "13a")),
    "bleu, Chinese": ("sacrebleu", texts.sacrebleu("zh", "zh")),
    **{
        f"{whose}_{name}_micro_f1": (
            "scikit-learn",
            items(
                f"{whose}_{name}_micro_f1",
                draw,
                write,
                choices,
                twice=whose == "moelora" and name != "normalization",
            ),
        )
        for whose in ("promptcblue", "moelora")
        for name, (draw, write, choices) in FORMATS.items()
    },
    "promptcblue_macro_f1": ("scikit-learn", open_labels("promptcblue_macro_f1", "macro")),
    "promptcblue_weighted_f1": ("scikit-learn", open_labels("promptcblue_weighted_f1", "weighted")),
    "promptcblue_rouge_l": ("rouge-chinese", texts.replies),
    "promptcblue_report_rouge_l": ("rouge-chinese", texts.reports),
    "moelora_micro_f1": ("scikit-learn", open_labels("moelora_micro_f1", "micro")),
    "moelora_macro_f1": ("scikit-learn", open_labels("moelora_macro_f1", "macro")),
    "moelora_rouge_l": ("rouge", texts.moelora_replies),
    "moelora_report_rouge_l": ("rouge", texts.moelora_reports),
}
"""Figure, which starts with the metric's name, to the reference and one random case."""


def largest_difference(case: Case, cases: int) -> float:
    """The largest difference over ``cases`` random cases, the same in every run."""
    rng = random.Random(17)
    return max(case(rng) for _ in range(cases))
