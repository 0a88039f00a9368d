"""Each metric against the library that defines it, on random answers, and by hand where none does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import Tokenizer
from sklearn import metrics as sklearn

from pipeline.errors import ParamsError
from pipeline.metrics import (
    METRICS,
    Row,
    entities,
    label_space,
    longest_common_subsequence,
    malformed,
    metric_for,
    normalise,
    score,
)
from pipeline.params import Params
from pipeline.records import TASK_TYPES
from tests.conftest import ROOT

LABELS = ["information", "treatment", "symptoms", "outlook"]
labels = st.sampled_from(LABELS)
pairs = st.lists(st.tuples(labels, labels), min_size=1, max_size=40)


def closed(targets: list[str]) -> list[Row]:
    return [Row(target, "en", tuple(LABELS)) for target in targets]


@given(pairs)
@settings(max_examples=300, deadline=None)
def test_scores_of_labels_are_those_of_scikit_learn(answered: list[tuple[str, str]]) -> None:
    gold, found = [g for g, _ in answered], [f for _, f in answered]
    expected = {
        "accuracy": sklearn.accuracy_score(gold, found),
        "macro_f1": sklearn.f1_score(gold, found, average="macro", zero_division=0),
        "weighted_f1": sklearn.f1_score(gold, found, average="weighted", zero_division=0),
    }
    for name, value in expected.items():
        assert score(name, closed(gold), found) == pytest.approx(value, abs=1e-9)


mentions = st.sets(st.tuples(st.sampled_from(["Disease", "Chemical"]), st.sampled_from("abcde")), max_size=4)


def written(found: set[tuple[str, str]]) -> str:
    lines = [
        f"{kind}: {'; '.join(sorted(m for k, m in found if k == kind))}"
        for kind in sorted({k for k, _ in found})
    ]
    return "\n".join(lines) or "none"


@given(st.lists(st.tuples(mentions, mentions), min_size=1, max_size=20))
@settings(max_examples=200, deadline=None)
def test_f1_of_sets_is_that_of_scikit_learn_over_indicators(
    answered: list[tuple[set[tuple[str, str]], set[tuple[str, str]]]],
) -> None:
    universe = [(kind, letter) for kind in ("Disease", "Chemical") for letter in "abcde"]
    gold = np.array([[pair in g for pair in universe] for g, _ in answered])
    found = np.array([[pair in f for pair in universe] for _, f in answered])
    rows = [Row(written(g), "en", ("Disease", "Chemical")) for g, _ in answered]
    expected = sklearn.f1_score(gold, found, average="micro", zero_division=0)
    assert score("set_micro_f1", rows, [written(f) for _, f in answered]) == pytest.approx(expected, abs=1e-9)


words = st.text(alphabet="ab cD1-é.", max_size=40)


@given(words, words)
@settings(max_examples=300, deadline=None)
def test_rouge_l_is_that_of_rouge_score(target: str, answer: str) -> None:
    expected = RougeScorer(["rougeL"]).score(target, answer)["rougeL"].fmeasure
    assert score("rouge_l", [Row(target, "en")], [answer]) == pytest.approx(expected, abs=1e-9)


class Characters(Tokenizer):  # type: ignore[misc]
    def tokenize(self, text: str) -> list[str]:
        return list("".join(text.split()))


@given(st.text(alphabet="高血压 饮食，a", max_size=30), st.text(alphabet="高血压 饮食，a", max_size=30))
@settings(max_examples=200, deadline=None)
def test_rouge_l_of_chinese_counts_characters(target: str, answer: str) -> None:
    scorer = RougeScorer(["rougeL"], tokenizer=Characters())
    expected = scorer.score(target, answer)["rougeL"].fmeasure
    for language in ("zh", "zh-Hans", "ZH"):
        assert score("rouge_l", [Row(target, language)], [answer]) == pytest.approx(expected, abs=1e-9)


def test_longest_common_subsequence_of_a_known_pair() -> None:
    assert longest_common_subsequence("AGGTAB", "GXTXAYB") == 4
    assert longest_common_subsequence("", "abc") == longest_common_subsequence("abc", "") == 0


PLAIN = [name for name in METRICS if not name.startswith(("promptcblue_", "moelora_"))]
"""Metrics that read the plain formats."""


@pytest.mark.parametrize("name", [n for n in PLAIN if n not in ("relation_micro_f1", "event_micro_f1")])
def test_gold_scores_one_and_nothing_scores_zero(name: str) -> None:
    rows = [Row("Disease: asthma; otitis media", "en"), Row("Disease: gout", "en")]
    assert score(name, rows, [row.target for row in rows]) == 1
    assert score(name, rows, ["", ""]) == 0


@pytest.mark.parametrize("name", METRICS)
def test_no_rows_score_zero(name: str) -> None:
    assert score(name, [], []) == 0


@pytest.mark.parametrize("name", METRICS)
@given(st.text(max_size=60), st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_no_answer_is_a_crash(name: str, target: str, answer: str) -> None:
    for choices in (None, ("Disease", "yes")):
        row = Row(target, "en", choices)
        assert 0 <= score(name, [row], [answer]) <= 1
        assert malformed("ner", row, answer) in (True, False)


def test_entities_are_read_by_line_type_and_mention() -> None:
    answer = "Chemical: Pilocarpine;  ouabain \nDISEASE：ventricular  tachycardia； asthma\n"
    assert entities(answer) == {
        ("chemical", "pilocarpine"),
        ("chemical", "ouabain"),
        ("disease", "ventricular tachycardia"),
        ("disease", "asthma"),
    }
    assert entities("none") == entities("Disease: none") == entities("") == frozenset()
    assert entities("asthma") == {("", "asthma")}


def test_an_entity_of_another_type_or_extent_is_wrong_twice() -> None:
    row = Row("Disease: lung cancer", "en", ("Disease", "Chemical"))
    counts = METRICS["set_micro_f1"].statistics(
        [row] * 3, ["Disease: cancer", "Chemical: lung cancer", "hm"], ()
    )
    assert counts.tolist() == [[0, 1, 1]] * 3


def test_nothing_found_where_nothing_is_does_not_move_the_pooled_f1() -> None:
    found, empty = Row("Disease: gout", "en", ("Disease",)), Row("none", "en", ("Disease",))
    assert score("set_micro_f1", [found, empty], ["Disease: gout", "none"]) == 1
    assert score("set_micro_f1", [empty], ["none"]) == 0  # 0/0


@pytest.mark.parametrize(
    ("task_type", "choices", "answer", "expected"),
    [
        ("classification", ("yes", "no"), "Yes ", False),
        ("classification", ("yes", "no"), "yes, because", True),
        ("nli", ("yes", "no"), "", True),
        ("ner", ("Disease",), "none", False),
        ("ner", ("Disease",), "disease: gout", False),
        ("ner", ("Disease",), "Drug: aspirin", True),
        ("ner", ("Disease",), "The patient has gout", True),
        ("summarization", None, "anything", False),
        ("summarization", None, " \n", True),
    ],
)
def test_what_is_malformed(
    task_type: str, choices: tuple[str, ...] | None, answer: str, expected: bool
) -> None:
    assert malformed(task_type, Row("x", "en", choices), answer) is expected


@pytest.mark.parametrize(
    ("metric", "answer", "expected"),
    [
        ("relation_micro_f1", "treats: aspirin | headache; ibuprofen|fever\nnone", False),
        ("relation_micro_f1", "treats: none", False),
        ("relation_micro_f1", "treats: aspirin", True),
        ("relation_micro_f1", "treats: aspirin | headache | fever", True),
        ("relation_micro_f1", "causes: aspirin | ulcer", True),
        ("event_micro_f1", "treats: drug = aspirin, ibuprofen; dose = 1 g", False),
        ("event_micro_f1", "treats: aspirin", True),
        ("event_micro_f1", "drug = aspirin", True),
    ],
)
def test_relations_and_events_have_forms_of_their_own(metric: str, answer: str, expected: bool) -> None:
    assert malformed("relation", Row("x", "en", ("treats",)), answer, metric) is expected


def test_a_triple_or_an_event_counts_only_where_all_of_it_is_right() -> None:
    triples = [Row("treats: aspirin | headache; aspirin | fever", "en")]
    assert score("relation_micro_f1", triples, ["Treats: Aspirin|fever; aspirin | headache"]) == 1
    assert score("relation_micro_f1", triples, ["treats: aspirin | fever; fever | aspirin"]) == 0.5
    event = [Row("fracture: site = left arm, hand; state = old", "en")]
    assert score("event_micro_f1", event, ["fracture: state=old; site = hand, left arm"]) == 1
    assert score("event_micro_f1", event, ["fracture: state = old; site = hand"]) == 0


def test_bleu_counts_over_the_whole_test_set() -> None:
    rows = [Row("the patient has a fever", "en"), Row("no", "en"), Row("没有发热和咳嗽", "zh")]
    assert score("bleu", rows, [row.target for row in rows]) == 1
    assert score("bleu", rows[1:2], ["no"]) == 0  # no 4-gram anywhere
    assert score("bleu", rows, ["the patient has a cough", "no", ""]) < 0.7


def test_an_empty_answer_is_wrong_where_the_target_is_empty_too() -> None:
    assert all(score(name, [Row("", "en")], [""]) == 0 for name in PLAIN)


def test_a_malformed_answer_adds_no_label_of_its_own() -> None:
    rows = closed(["information", "treatment"])
    answers = ["information", "a long story"]
    assert label_space(rows, answers) == ("information", "treatment")
    assert score("macro_f1", rows, answers) == pytest.approx(0.5)


def test_weighted_totals_are_the_score_of_repeated_rows() -> None:
    """What the bootstrap rests on: weights on rows do what repeating the rows does."""
    rng = np.random.default_rng(0)
    rows = closed(list(rng.choice(LABELS, 30)))
    answers = list(rng.choice(LABELS, 30))
    weights = rng.integers(0, 4, 30)
    space = label_space(rows, answers)
    for name, metric in METRICS.items():
        totals = weights @ metric.statistics(rows, answers, space)
        repeated = [i for i in range(30) for _ in range(weights[i])]
        expected = score(name, [rows[i] for i in repeated], [answers[i] for i in repeated])
        assert metric.score(totals) == pytest.approx(expected, abs=1e-12)


def test_comparison_ignores_width_case_and_spacing() -> None:
    assert normalise("  Ｙes\n No ") == "yes no"
    assert score("exact_match", [Row("Adult  acute", "en")], ["adult ACUTE"]) == 1


def test_every_task_type_has_a_metric_and_params_may_name_another() -> None:
    params = Params.load(ROOT / "params.yaml").evaluate
    assert all(metric_for("a", kind, params) in METRICS for kind in TASK_TYPES)
    other = params.model_validate(params.model_dump() | {"tasks": {"a": {"metric": "macro_f1"}}})
    assert metric_for("a", "classification", other) == "macro_f1"
    wrong = params.model_validate(params.model_dump() | {"tasks": {"a": {"metric": "bleurt"}}})
    with pytest.raises(ParamsError, match=r"evaluate\.tasks\.a\.metric.*bleurt.*rouge_l"):
        metric_for("a", "classification", wrong)
