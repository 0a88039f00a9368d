"""PromptCBLUE's 16 tasks: their answer formats and official scores.

Sources, github.com/michael-wzhu/PromptCBLUE: the formats, src/evaluation/post_generate_process.py
and the targets of datasets/PromptCBLUE/toy_examples; the scores, src/evaluation/evaluators.py and
evaluate.py. Text is compared as it stands, white space at its ends left out.

    task                          format of an answer                          score
    CMeEE-V2, IMCS-V2-NER         TYPE实体：MENTION，MENTION    a type a line   F1 of sets
    CMeIE                         具有RELATION关系的头尾实体对如下：
                                  头实体为HEAD，尾实体为TAIL。  a relation a line  F1 of sets
    CHIP-CDN                      TERM，TERM  of the choices, in the last line  F1 of sets
    CHIP-CDEE                     主体词：A；发生状态：B；描述词：C，D；解剖部位：E
                                  an event a line, after one line of words      F1 of sets
    CHIP-MDCFNPC, IMCS-V2-SR      FINDING：STATUS  a line each, after one       F1 of sets
    CHIP-CTC, KUAKE-QIC,          the label                                     macro-F1
    IMCS-V2-DAC
    CHIP-STS, KUAKE-IR,           the label                                     weighted F1
    KUAKE-QQR, KUAKE-QTR
    MedDG                         text                                          Rouge-L
    IMCS-V2-MRG                   SECTION：TEXT  a line each, after one         Rouge-L

F1 of sets is strict and pooled over rows. Macro-F1 is the mean over all labels seen in gold or
answers, so each text that is no label lowers it as a label of its own. Weighted F1 is what the
code computes where the README says "micro". Rouge-L is a mean over rows, for IMCS-V2-MRG over
sections of all rows; tokens are Chinese characters and other words (BERT's basic tokens), an
empty text is "无 。". The overall score is the plain mean over tasks.

Here a malformed answer is wrong, which differs from the official code in three places: an empty
label (there the first label of the task), a status that is no choice (there the sample parser's
"cannot tell"), and an answer to IMCS-V2-MRG or MedDG without any section or text (there "无 。").
Rouge-L is without rouge-chinese's 1e-8 in the denominator: at most 5e-9 higher, and 1 for gold.
"""

import string
import unicodedata
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from pipeline.metrics import labels
from pipeline.metrics.metric import Floats, Metric, Row, mean_of, mean_score, score_column
from pipeline.metrics.rouge import rouge_l
from pipeline.metrics.sets import set_micro_f1

NOTHING = "没有"
"""Part of every answer that says in words that nothing was found."""

EVENT_FIELDS = ("主体词", "发生状态", "描述词", "解剖部位")
EVENT_LISTS = ("描述词", "解剖部位")
RELATION_HEAD = "关系的头尾实体对如下："
SECTIONS = ("主诉", "现病史", "辅助检查", "既往史", "诊断", "建议")
EMPTY_TEXT = ["无", "。"]
CHINESE = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)
"""Code points that BERT takes for Chinese characters."""
SAME_LABEL = {"相同": "是的", "不同": "不是"}
"""CHIP-STS asks in two wordings; their answers are one pair of labels."""

Items = Sequence[Hashable]
Parser = Callable[[Row, str], Items]


def entities(row: Row, answer: str) -> Items:
    """(type, mention) of CMeEE-V2 and IMCS-V2-NER; types are the row's choices."""
    return [
        (kind, mention.strip())
        for kind in row.choices or ()
        for line in answer.split("\n")
        if line.startswith(f"{kind}实体")
        for mention in line.replace(f"{kind}实体：", "").split("，")
        if mention.strip()
    ]


def relations(_row: Row, answer: str) -> Items:
    """(relation, head, tail) of CMeIE; pairs after no relation belong to one that gold never has."""
    found = []
    for line in answer.split("\n"):
        name = line.split("关系的头尾实体对")[0][2:].strip()
        for pair in line.replace(f"具有{name}{RELATION_HEAD}", "").split("。"):
            head, *tails = pair.split("，尾实体为")
            if tails:
                head, tail = head.replace("头实体为", ""), tails[0].replace("尾实体为", "")
                found.append((name, head.strip(), tail.strip()))
    return found


def terms(row: Row, answer: str) -> Items:
    """The standard terms of CHIP-CDN; what is no choice is left out."""
    named = [term.strip() for term in answer.split("\n")[-1].split("，")]
    return [term for term in dict.fromkeys(named) if term and term in (row.choices or ())]


def events(_row: Row, answer: str) -> list[tuple[Hashable, ...]]:
    """(subject, state, descriptions, sites) of CHIP-CDEE; the order of a list counts."""
    found: list[tuple[Hashable, ...]] = []
    for line in answer.split("\n")[1:]:
        fields = dict.fromkeys(EVENT_FIELDS, "")
        for part in line.split("；"):
            name, colon, value = part.partition("：")
            if colon and name in fields:
                fields[name] = value.replace(f"{name}：", "").strip()
        found.append(
            tuple(
                tuple(item.strip() for item in value.split("，") if item.strip())
                if name in EVENT_LISTS
                else value
                for name, value in fields.items()
            )
        )
    return found


def findings(_row: Row, answer: str) -> list[tuple[str, str]]:
    """(finding, status) of CHIP-MDCFNPC and IMCS-V2-SR."""
    pairs = [line.split("：") for line in answer.split("\n")[1:]]
    return [(pair[0].strip(), pair[1]) for pair in pairs if len(pair) == 2]


def sections(answer: str) -> dict[str, str]:
    """The text of each section that an answer to IMCS-V2-MRG has; the last of equal names counts."""
    found = {}
    for line in answer.strip().split("\n")[1:]:
        name, colon, text = line.partition("：")
        if colon and name in SECTIONS:
            found[name] = text.split(f"{name}：")[-1].strip()
    return found


def label(answer: str) -> str:
    """The label of a classification task, for CHIP-STS in one of its two wordings."""
    text = answer.strip()
    return SAME_LABEL.get(text, text)


def _label_space(rows: Sequence[Row], systems: Sequence[Sequence[str]]) -> tuple[str, ...]:
    texts = [row.target for row in rows] + [answer for answers in systems for answer in answers]
    return tuple(sorted(set(map(label, texts))))


def _label_statistics(rows: Sequence[Row], answers: Sequence[str], space: Sequence[str]) -> Floats:
    return labels.one_hot([label(row.target) for row in rows], [label(answer) for answer in answers], space)


class _BasicCharacters(dict[int, str]):
    """What BERT's basic tokenizer makes of a character, by code point, for ``str.translate``."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        kind = unicodedata.category(character)
        if character in "\t\n\r" or kind == "Zs":
            made = " "
        elif code == 0xFFFD or kind[0] == "C" or kind == "Mn":
            made = ""
        elif kind[0] == "P" or character in string.punctuation or any(a <= code <= b for a, b in CHINESE):
            made = f" {character} "
        else:
            made = character
        self[code] = made
        return made


_BASIC = _BasicCharacters()


def basic_tokens(text: str) -> list[str]:
    """BERT's basic tokens: a Chinese character each, punctuation apart, other words in lower case
    and without accents; EMPTY_TEXT where there are none."""
    return unicodedata.normalize("NFD", text.lower()).translate(_BASIC).split() or EMPTY_TEXT


def _text_rouge_l(row: Row, answer: str) -> float:
    return rouge_l(basic_tokens(row.target), basic_tokens(answer)) if answer.strip() else 0.0


def _report_statistics(rows: Sequence[Row], answers: Sequence[str], _labels: Sequence[str]) -> Floats:
    """Columns [sum over sections, sections of the target]."""
    counts = np.zeros((len(rows), 2))
    for i, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        gold, found = sections(row.target), sections(answer)
        scores = [
            rouge_l(basic_tokens(text), basic_tokens(found.get(name, ""))) for name, text in gold.items()
        ]
        counts[i] = sum(scores) if found else 0, len(gold)
    return counts


def no_label(row: Row, answer: str) -> bool:
    """Whether an answer is none of the row's choices, or empty."""
    choices = None if row.choices is None else set(map(label, row.choices))
    return not label(answer) or (choices is not None and label(answer) not in choices)


def _no_terms(row: Row, answer: str) -> bool:
    """Whether an answer names none of the terms and does not say that there is none."""
    return not terms(row, answer) and NOTHING not in answer


def _no_events(row: Row, answer: str) -> bool:
    return NOTHING not in answer and not any(subject for subject, *_ in events(row, answer))


def _no_types(row: Row, answer: str) -> bool:
    # A type without mentions is a line that ends after its colon.
    heads = tuple(f"{kind}实体" for kind in row.choices or ())
    return NOTHING not in answer and not any(line.startswith(heads) for line in answer.split("\n"))


def _no_relations(_row: Row, answer: str) -> bool:
    return NOTHING not in answer and RELATION_HEAD not in answer


def no_status(row: Row, answer: str) -> bool:
    """Whether an answer names no finding, or one with a status that is no choice."""
    found = findings(row, answer)
    unknown = row.choices is not None and any(status not in row.choices for _, status in found)
    return unknown or (not found and NOTHING not in answer)


def no_sections(_row: Row, answer: str) -> bool:
    """Whether an answer has none of the report's sections."""
    return not sections(answer)


FORMATS: dict[str, tuple[Parser, Callable[[Row, str], bool]]] = {
    "ner": (entities, _no_types),
    "relation": (relations, _no_relations),
    "normalization": (terms, _no_terms),
    "event": (events, _no_events),
    "finding": (findings, no_status),
}
"""What the F1 of sets counts in an answer, and when the answer is malformed."""

METRICS: dict[str, Metric] = {
    **{f"promptcblue_{name}_micro_f1": set_micro_f1(*how) for name, how in FORMATS.items()},
    "promptcblue_macro_f1": Metric(
        _label_statistics, labels.macro, labels.correct_column, _label_space, no_label
    ),
    "promptcblue_weighted_f1": Metric(
        _label_statistics, labels.weighted, labels.correct_column, _label_space, no_label
    ),
    "promptcblue_rouge_l": mean_of(_text_rouge_l),
    "promptcblue_report_rouge_l": Metric(_report_statistics, mean_score, score_column, malformed=no_sections),
}

TASKS = {
    "cmeee-v2": "promptcblue_ner_micro_f1",
    "cmeie": "promptcblue_relation_micro_f1",
    "cmeie-v2": "promptcblue_relation_micro_f1",  # the name since PromptCBLUE-V2
    "chip-cdn": "promptcblue_normalization_micro_f1",
    "chip-cdee": "promptcblue_event_micro_f1",
    "chip-mdcfnpc": "promptcblue_finding_micro_f1",
    "chip-ctc": "promptcblue_macro_f1",
    "chip-sts": "promptcblue_weighted_f1",
    "kuake-qic": "promptcblue_macro_f1",
    "kuake-ir": "promptcblue_weighted_f1",
    "kuake-qqr": "promptcblue_weighted_f1",
    "kuake-qtr": "promptcblue_weighted_f1",
    "imcs-v2-ner": "promptcblue_ner_micro_f1",
    "imcs-v2-dac": "promptcblue_macro_f1",
    "imcs-v2-sr": "promptcblue_finding_micro_f1",
    "imcs-v2-mrg": "promptcblue_report_rouge_l",
    "meddg": "promptcblue_rouge_l",
}
"""Official metric of each task, by its name in our records."""
