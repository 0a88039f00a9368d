import random
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipeline.records import SPLITS
from pipeline.split import duplicates
from tests.pipeline.split.made import found, held, is_near, near_pairs, text


def test_the_weaker_of_two_equal_inputs_is_held_out() -> None:
    for weak, strong in (("train", "validation"), ("train", "test"), ("validation", "test")):
        same = [{"input": text(*range(30)), "split": strong}, {"input": text(*range(30)), "split": weak}]
        assert held(same) == [False, True]


def test_equal_inputs_are_equal_without_case_and_punctuation() -> None:
    rows = [
        {"input": "Chest pain, at REST!", "split": "train"},
        {"input": "chest pain at rest", "split": "test"},
    ]
    assert held(rows) == [True, False]


@pytest.mark.parametrize("tiny", ["?", "a", "no pain", "  "])
def test_tiny_equal_inputs_are_caught(tiny: str) -> None:
    assert held([{"input": tiny, "split": "train"}, {"input": tiny, "split": "test"}]) == [True, False]


def test_equal_inputs_are_caught_where_all_wording_is_shared() -> None:
    same = text(*range(20))
    rows = [{"input": same, "split": "train"}] * 40 + [{"input": same, "split": "test"}]
    assert held(rows) == [True] * 40 + [False]


def test_within_a_split_nothing_is_held_out() -> None:
    assert held([{"input": text(*range(30)), "split": "train"}] * 3) == [False] * 3


def test_one_changed_word_of_many_is_a_near_duplicate_and_half_of_them_is_not() -> None:
    base = list(range(80))
    rows = [
        {"input": text(*base), "split": "test"},
        {"input": text(*base[:40], 999, *base[41:]), "split": "train"},
        {"input": text(*base[:40], *range(500, 540)), "split": "train"},
    ]
    assert held(rows) == [False, True, False]


def test_a_held_out_record_still_holds_out_weaker_ones() -> None:
    base = list(range(60))
    rows = [
        {"input": text(*base), "split": "test"},
        {"input": text(*base, 100, 101, 102, 103, 104, 105), "split": "validation"},
        {"input": text(*base, *range(100, 120)), "split": "train"},
    ]
    assert held(rows) == [False, True, True]


def test_instructions_do_not_count_as_similarity() -> None:
    instruction = text(*range(1000, 1060))
    rows = [
        {"input": f"{instruction} {text(*range(8 * number, 8 * number + 8))}", "split": name}
        for number, name in enumerate(["train"] * 10 + ["test"] * 10)
    ]
    assert not any(held(rows))


def test_the_same_passage_under_another_instruction_is_caught() -> None:
    rows = []
    for task, split_name, start in (("ask", "train", 2000), ("sum", "test", 3000)):
        instruction = text(*range(start, start + 25))
        for number in range(10):
            passage = text(*range(20 * number, 20 * number + 20))
            rows.append({"task": task, "input": f"{instruction} {passage}", "split": split_name})
    assert held(rows) == [True] * 10 + [False] * 10


def test_two_questions_of_one_template_about_one_topic_are_different() -> None:
    rows = [
        {"input": f"what are the known {aspect} of {topic}", "split": name}
        for aspect, name in (
            ("late symptoms seen in adults", "train"),
            ("best treatments for most adults", "test"),
        )
        for topic in ["gout", *(f"disease{number}" for number in range(9))]
    ]
    assert not any(held(rows))


def test_chinese_is_compared_by_character() -> None:
    passage = "患者三天前出现发热咳嗽伴胸痛自行服用退热药后体温下降但咳嗽加重今日来院就诊要求进一步检查治疗"
    other = "孩子昨晚开始腹泻没有呕吐精神尚可食欲稍差家长非常担心请问需要马上去医院吗还是可以先在家观察一下"
    rows = [
        {"input": passage, "split": "test"},
        {"input": passage.replace("三天前", "四天前"), "split": "train"},
        {"input": other, "split": "train"},
    ]
    assert held(rows) == [False, True, False]


@given(
    base=st.lists(st.integers(0, 999), min_size=60, max_size=80),
    edits=st.lists(
        st.tuples(
            st.lists(st.tuples(st.sampled_from("sid"), st.integers(0, 59)), max_size=2),
            st.sampled_from(SPLITS),
        ),
        min_size=2,
        max_size=7,
    ),
    threshold=st.sampled_from([0.8, 0.97, 1.0]),
)
@settings(max_examples=60, deadline=None)
def test_lsh_finds_what_comparing_all_pairs_finds(
    base: list[int], edits: list[tuple[list[tuple[str, int]], str]], threshold: float
) -> None:
    # So few edits that chance hides no pair; one task a record: no wording is shared.
    texts = [edited(base, each) for each, _ in edits] + [base[::-1]]
    names = [name for _, name in edits] + ["train"]
    rows = [
        {"task": f"t{number}", "input": text(*words), "split": name}
        for number, (words, name) in enumerate(zip(texts, names, strict=True))
    ]
    strength = [SPLITS.index(name) for name in names]
    expected = [
        any(mine < other and is_near(a, b, threshold) for b, other in zip(texts, strength, strict=True))
        for a, mine in zip(texts, strength, strict=True)
    ]
    assert held(rows, threshold) == expected


def edited(words: list[int], edits: list[tuple[str, int]]) -> list[int]:
    """``words`` with some substituted, inserted or deleted."""
    found = list(words)
    for kind, at in sorted(edits, key=lambda edit: -edit[1]):
        found[at : at + (kind != "i")] = [] if kind == "d" else [1000 + at]
    return found


@st.composite
def families(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Records of some patients and tasks: edited copies of a few texts, some with an owner's split."""
    draws = [random.Random(number) for number in range(3)]
    bases = [[each.randrange(1000) for _ in range(60)] for each in draws]
    edit = st.tuples(st.sampled_from("sid"), st.integers(0, 59))
    record = st.tuples(
        st.sampled_from(bases),
        st.lists(edit, max_size=3),
        st.integers(0, 11),
        st.sampled_from([None, None, None, *SPLITS]),
    )
    return [
        {
            "input": text(*edited(base, edits)),
            "group_id": f"g{group}",
            "task": f"t{group % 3}",
            "split": split,
            "target": f"answer {len(edits)}",
        }
        for base, edits, group, split in draw(st.lists(record, min_size=2, max_size=14))
    ]


# The same examples every time: by chance, LSH misses a pair.
@given(rows=families())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_no_group_and_no_near_duplicate_is_in_two_splits(rows: list[dict[str, Any]]) -> None:
    records = found(rows)
    kept = records.filter(~pl.col("held_out"))
    assert kept.group_by("group_id").agg(pl.col("split").n_unique())["split"].max() in (None, 1)
    split, out = records["split"], records["held_out"]
    assert not [(a, b) for a, b in near_pairs(rows) if split[a] != split[b] and not out[a] and not out[b]]


@given(rows=families())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_conflicts_are_what_comparing_all_pairs_finds(rows: list[dict[str, Any]]) -> None:
    records = found(rows)
    expected: list[str | None] = [None] * len(rows)
    for a, b in near_pairs(rows):
        if rows[a]["task"] == rows[b]["task"] and rows[a]["target"] != rows[b]["target"]:
            for row in (a, b):
                if rows[a]["input"] == rows[b]["input"]:
                    expected[row] = "same"
                elif expected[row] is None:
                    expected[row] = "near"
    assert records["conflict"].to_list() == expected


def test_conflicts_are_of_one_task_and_stay() -> None:
    base = text(*range(40))
    rows = [
        {"task": "triage", "input": base, "target": "soon", "split": "train"},
        {"task": "triage", "input": base.upper(), "target": "never", "split": "train"},
        {"task": "triage", "input": f"{base} more", "target": "never", "split": "train"},
        {"task": "other", "input": base, "target": "unlike all", "split": "train"},
        {"task": "alike", "input": base, "target": "Soon ", "split": "train"},
        {"task": "alike", "input": base, "target": "soon", "split": "train"},
    ]
    records = found(rows)
    assert records["conflict"].to_list() == ["same", "same", "near", None, None, None]
    assert not records["held_out"].any()


def test_many_copies_of_a_text_cost_what_one_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = counted(monkeypatch)
    base = text(*range(60))
    rows = [{"input": base, "split": "train", "target": f"{number % 7}"} for number in range(20_000)]
    records = found([*rows, {"task": "x", "input": f"{base} more", "split": "test"}])
    assert records["held_out"].sum() == 0  # a text that all records share is the task's wording
    assert (records["conflict"] == "same").sum() == 20_000
    rows = [{**row, "group_id": "one"} for row in rows]
    records = found([*rows, {"task": "x", "input": f"{base} more", "split": "test"}])
    assert records["held_out"].sum() == 20_000
    assert len(compared) < 10


def test_many_near_copies_are_not_compared_with_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = counted(monkeypatch)
    rows = [
        {"input": text(*range(60), 1000 + number), "split": "train", "group_id": "one"}
        for number in range(3_000)
    ]
    records = found([*rows, {"task": "x", "input": text(*range(60)), "split": "test"}])
    assert records["held_out"].sum() == 3_000
    assert len(compared) < 2 * 3_000


def test_many_near_copies_with_other_targets_are_not_compared_with_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared = counted(monkeypatch)
    rows = [
        {
            "input": text(*range(60), 1000 + number),
            "target": f"answer {number % 40}",
            "split": "train",
            "group_id": "one",
        }
        for number in range(1_200)
    ]
    assert (found(rows)["conflict"] == "near").all()
    assert len(compared) < 3 * 1_200


@pytest.mark.parametrize("answers", [("yes", "no"), ("no", "yes")])
def test_a_near_duplicate_of_a_text_with_several_targets_is_in_conflict_whatever_its_own(
    answers: tuple[str, str],
) -> None:
    base = text(*range(40))
    rows = [{"input": base, "target": target, "split": "train"} for target in ("yes", "no")]
    rows += [
        {"input": f"{base} {number}", "target": each, "split": "train"} for number, each in enumerate(answers)
    ]
    assert found(rows)["conflict"].to_list() == ["same", "same", "near", "near"]
    for each in answers:
        of_one = [*rows[:2], {"input": f"{base} more", "target": each, "split": "train"}]
        assert found(of_one)["conflict"].to_list() == ["same", "same", "near"]


def test_a_short_text_with_one_word_of_five_changed_is_a_near_duplicate_and_of_four_is_not() -> None:
    rows = [
        {"input": text(*words), "split": split}
        for start, length in ((0, 5), (50, 4))
        for words, split in (
            (range(start, start + length), "test"),
            ((*range(start, start + length - 1), start + 40), "train"),
        )
    ]
    assert held(rows) == [False, True, False, False]


def test_many_one_word_texts_are_told_apart() -> None:
    rows = [{"input": f"word{number}", "split": SPLITS[number % 3]} for number in range(5_000)]
    assert not any(held(rows))


def test_very_long_texts_are_compared() -> None:
    long = list(range(100_000))
    rows = [
        {"input": text(*long), "split": "test"},
        {"input": text(*long[:50_000], 7, *long[50_000:]), "split": "train"},
        {"input": text(*range(200_000, 300_000)), "split": "train"},
    ]
    assert held(rows) == [False, True, False]


def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The pairs that are compared word by word, once the stage ran."""
    pairs: list[tuple[int, int]] = []
    are_near = duplicates.Texts.are_near

    def counting(texts: duplicates.Texts, row: int, other: int, threshold: float) -> bool:
        pairs.append((row, other))
        return are_near(texts, row, other, threshold)

    monkeypatch.setattr(duplicates.Texts, "are_near", counting)
    return pairs


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {
            "input": text(*range(number % 5, 40 + number % 7)),
            "target": f"answer {number % 3}",
            "split": SPLITS[number % 3],
            "task": f"t{number % 10}",
        }
        for number in range(30)
    ]
    whole = found(rows)
    monkeypatch.setattr(duplicates, "JOIN_ROWS", 7)
    assert_frame_equal(found(rows), whole)
    assert whole["held_out"].any()
    assert whole["conflict"].is_not_null().any()
