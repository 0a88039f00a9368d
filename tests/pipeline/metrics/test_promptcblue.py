"""PromptCBLUE's answer formats and scores, and what the MOELoRA repository makes of the same answers."""

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import metrics
from pipeline.errors import ParamsError
from pipeline.metrics import METRICS, Row, label_space, malformed, metric_for, promptcblue, score
from pipeline.metrics.promptcblue import TASKS, basic_tokens
from pipeline.params import Params
from tests.bench.evaluate.metrics import crashes
from tests.conftest import ROOT
from tests.promptcblue import GOLD, KINDS, RELATIONS, STATUSES, TERMS, mutated

OWN_FORMATS = [name for name in METRICS if name.startswith(("promptcblue_", "moelora_"))]


def moelora(metric: str) -> str:
    return metric.replace("promptcblue", "moelora").replace("weighted", "micro")


def test_the_sixteen_tasks_are_known() -> None:
    assert len(GOLD) == 16
    assert set(TASKS) == {*GOLD, "cmeie-v2"}


@pytest.mark.parametrize("task", GOLD)
def test_gold_scores_one_and_nothing_scores_zero(task: str) -> None:
    rows = GOLD[task]
    for metric in (TASKS[task], moelora(TASKS[task])):
        assert score(metric, rows, [row.target for row in rows]) == 1
        assert score(metric, rows, [""] * len(rows)) == 0
        assert not any(malformed("extraction", row, row.target, metric) for row in rows)
        assert all(malformed("extraction", row, " \n", metric) for row in rows)


def test_mutated_answers_crash_nothing_and_some_are_malformed() -> None:
    assert crashes() == 0
    rng = random.Random(1)
    for task, rows in GOLD.items():
        if task != "meddg":  # any text is a reply
            answers = [(row, mutated(row.target, rng)) for row in rows * 20]
            assert any(malformed("extraction", row, answer, TASKS[task]) for row, answer in answers), task


@pytest.mark.parametrize("metric", OWN_FORMATS)
@given(target=st.text(max_size=40), answer=st.text(max_size=40))
@settings(max_examples=50, deadline=None)
def test_any_text_has_a_score(metric: str, target: str, answer: str) -> None:
    for choices in (None, ("疾病", "是的")):
        row = Row(target, "zh", choices)
        assert 0 <= score(metric, [row], [answer]) <= 1
        assert malformed("extraction", row, answer, metric) in (True, False)


@pytest.mark.parametrize(
    ("parse", "choices", "answer", "expected"),
    [
        (
            promptcblue.entities,
            KINDS,
            "包含：\n疾病实体：哮喘， 支气管炎 ，\n症状实体：咳\n药物实体：",
            [("疾病", "哮喘"), ("疾病", "支气管炎")],
        ),
        (
            promptcblue.relations,
            RELATIONS,
            "具有相关（症状）关系的头尾实体对如下：头实体为头痛，尾实体为畏光。头实体为头痛，尾实体为吐。\n"
            "具有临床表现关系的头尾实体对如下：头实体为流感。",
            [("相关（症状）", "头痛", "畏光"), ("相关（症状）", "头痛", "吐")],
        ),
        (promptcblue.terms, TERMS, "标准词是\n高血压病，感冒，急性咽炎，高血压病", ["高血压病", "急性咽炎"]),
        (promptcblue.terms, TERMS, "没有对应的标准化实体", []),
        (
            promptcblue.events,
            None,
            "如下：\n主体词：疼痛；发生状态：否定；描述词：阵发性，剧烈；解剖部位：腹\n主体词：呕吐",
            [("疼痛", "否定", ("阵发性", "剧烈"), ("腹",)), ("呕吐", "", (), ())],
        ),
        (
            promptcblue.findings,
            STATUSES,
            f"如下：\n腹痛：{STATUSES[0]}\n一句话\n发热 ：{STATUSES[1]}",
            [("腹痛", STATUSES[0]), ("发热", STATUSES[1])],
        ),
    ],
)
def test_answers_are_read_by_their_format(
    parse: Callable[[Row, str], Sequence[object]],
    choices: tuple[str, ...] | None,
    answer: str,
    expected: list[object],
) -> None:
    assert list(parse(Row("", "zh", choices), answer)) == expected


def test_sections_of_a_report_are_read_after_its_first_line() -> None:
    report = "主诉：咳\n主诉：咳嗽。\n诊断：感冒：轻\n其他：无\n建议："
    assert promptcblue.sections(report) == {"主诉": "咳嗽。", "诊断": "感冒：轻", "建议": ""}


def test_an_item_counts_only_where_all_of_it_is_right() -> None:
    event = "如下：\n主体词：疼痛；发生状态：；描述词：{}；解剖部位：腹"
    rows = [Row(event.format("钝，轻"), "zh")]
    metric = TASKS["chip-cdee"]
    assert score(metric, rows, [event.format("钝")]) == 0
    assert score(metric, rows, [event.format("轻，钝")]) == 0
    assert score(metric, rows, [event.format("钝，轻") + "\n主体词：吐"]) == pytest.approx(2 / 3)


def test_a_status_that_is_no_choice_is_wrong_and_malformed() -> None:
    row = GOLD["imcs-v2-sr"][1]
    answer = "如下：\n腹泻：也许"
    assert score(TASKS["imcs-v2-sr"], [row], [answer]) == 0
    assert malformed("extraction", row, answer, TASKS["imcs-v2-sr"])


@pytest.mark.parametrize(
    ("task", "answer"),
    [
        ("cmeee-v2", "哮喘"),
        ("cmeie", "头实体为哮喘，尾实体为沙丁胺醇。"),
        ("chip-cdn", "感冒"),
        ("chip-cdee", "临床发现事件如下：\n疼痛"),
        ("chip-mdcfnpc", "如下：\n腹痛"),
        ("chip-sts", "也许"),
        ("imcs-v2-mrg", "主诉：咳嗽"),
    ],
)
def test_an_answer_that_is_not_of_its_format_is_malformed(task: str, answer: str) -> None:
    assert malformed("extraction", GOLD[task][0], answer, TASKS[task])


def test_text_that_is_no_label_lowers_macro_f1_as_a_label_of_its_own() -> None:
    rows = [Row(target, "zh", ("甲", "乙")) for target in ("甲", "甲", "乙")]
    answers = ["甲", "不知道", "乙"]
    assert score("macro_f1", rows, answers) == pytest.approx((2 / 3 + 1) / 2)
    assert score("promptcblue_macro_f1", rows, answers) == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert malformed("classification", rows[1], answers[1], "promptcblue_macro_f1")


def test_labels_of_another_metric_are_refused() -> None:
    rows, answers = [Row("Ａ", "zh", ("Ａ", "B"))], ["Ａ"]
    with pytest.raises(ValueError, match="metric=NAME"):
        METRICS["promptcblue_macro_f1"].statistics(rows, answers, label_space(rows, answers))
    assert label_space(rows, answers, metric="promptcblue_macro_f1") == ("Ａ",)
    assert label_space(rows, answers, metric="rouge_l") == ()


def test_the_two_wordings_of_sts_are_one_pair_of_labels() -> None:
    rows = [Row("相同", "zh", ("相同", "不同"))]
    assert score(TASKS["chip-sts"], rows, ["是的"]) == 1
    assert not malformed("classification", rows[0], "是的", TASKS["chip-sts"])


def test_an_empty_section_is_nothing_and_a_missing_one_too() -> None:
    rows = [Row("如下：\n主诉：咳嗽\n既往史：", "zh")]
    metric = TASKS["imcs-v2-mrg"]
    assert score(metric, rows, ["如下：\n主诉：咳嗽\n既往史：无。"]) == 1
    assert score(metric, rows, ["如下：\n主诉：咳嗽"]) == 1
    assert score(metric, rows, ["如下：\n既往史："]) == 0.5
    assert score(metric, rows, ["咳嗽"]) == 0
    assert score("moelora_report_rouge_l", rows, ["如下：\n主诉：咳嗽"]) == 0.5


def test_reports_are_pooled_over_sections_and_by_moelora_over_reports() -> None:
    rows = [Row("如下：\n主诉：咳\n诊断：感冒\n建议：休息", "zh"), Row("如下：\n主诉：热", "zh")]
    answers = [rows[0].target, "如下：\n主诉：冷"]
    assert score("promptcblue_report_rouge_l", rows, answers) == pytest.approx(3 / 4)
    assert score("moelora_report_rouge_l", rows, answers) == pytest.approx(1 / 2)


def test_half_width_marks_are_read_by_moelora_only() -> None:
    row = GOLD["cmeee-v2"][0]
    answer = row.target.replace("：", ":").replace("，", ",")
    assert score("moelora_ner_micro_f1", [row], [answer]) == 1
    assert score("promptcblue_ner_micro_f1", [row], [answer]) == 0
    ctc = Row("体征(医生检测）", "zh", ("体征(医生检测）", "年龄"))
    assert score("moelora_micro_f1", [ctc], ["体征(医生检测)"]) == 1
    assert score("promptcblue_macro_f1", [ctc], ["体征(医生检测)"]) == 0


@given(st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_basic_tokens_are_those_of_transformers(text: str) -> None:
    from transformers import BasicTokenizer

    assert basic_tokens(text) == (BasicTokenizer().tokenize(text) or ["无", "。"])


@pytest.mark.parametrize("task", GOLD)
def test_weighted_totals_are_the_score_of_repeated_rows(task: str) -> None:
    rng = random.Random(2)
    rows = GOLD[task] * 3
    answers = [rng.choice((row.target, mutated(row.target, rng))) for row in rows]
    weights = np.array([rng.randint(0, 3) for _ in rows])
    repeated = [i for i, weight in enumerate(weights) for _ in range(weight)]
    for name in (TASKS[task], moelora(TASKS[task])):
        metric = METRICS[name]
        totals = weights @ metric.statistics(rows, answers, metric.labels(rows, [answers]))
        expected = score(name, [rows[i] for i in repeated], [answers[i] for i in repeated])
        assert metric.score(totals) == pytest.approx(expected, abs=1e-12)


def test_a_task_of_promptcblue_has_its_official_metric_unless_params_name_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    params = Params.load(ROOT / "params.yaml").evaluate
    assert metric_for("chip-ctc", "classification", params) == "promptcblue_macro_f1"
    assert metric_for("meddg", "response_generation", params) == "promptcblue_rouge_l"
    named = {"meddg": {"metric": "moelora_rouge_l"}}
    other = params.model_validate(params.model_dump() | {"tasks": named})
    assert metric_for("meddg", "response_generation", other) == "moelora_rouge_l"
    monkeypatch.setattr(metrics, "find_spec", lambda _package: None)
    with pytest.raises(ParamsError, match=r"tasks\.meddg\.metric.*jieba.*pip install"):
        metric_for("meddg", "response_generation", other)
