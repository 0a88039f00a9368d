import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipeline import paths, split
from pipeline.errors import DataError
from pipeline.params import Params, Split
from pipeline.records import RECORD_SCHEMA, SPLITS
from pipeline.stage import Progress
from tests.conftest import Checkout

KNOBS = Split()


def frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Records with defaults for the fields a test does not care about."""
    defaults = {
        "task": "notes",
        "task_type": "summarization",
        "target": "answer",
        "answer_choices": None,
        "language": "en",
        "source": "clinic",
        "split": None,
    }
    return pl.DataFrame(
        [
            {"sample_id": f"s{number}", "group_id": f"g{number}", **defaults, **row}
            for number, row in enumerate(rows)
        ],
        schema=RECORD_SCHEMA,
    )


def held(rows: list[dict[str, Any]], threshold: float = 0.8) -> list[bool]:
    return split.near_duplicates(frame(rows), threshold).to_list()


def text(*numbers: int) -> str:
    return " ".join(f"word{number}" for number in numbers)


def deidentified(rows: pl.DataFrame, shards: int = 2) -> None:
    paths.DEIDENTIFIED.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        rows.gather_every(shards, shard).with_columns(shard=pl.lit(f"{shard:016x}")).write_parquet(
            paths.DEIDENTIFIED / f"{shard:016x}.parquet"
        )


def run_stage() -> dict[str, Any]:
    return split.run(Params.load(), Progress("split"))


# --- groups ---


def test_the_split_of_a_group_is_fixed() -> None:
    # A change here reassigns every user's groups.
    assert {name: split.by_hash(name, KNOBS) for name in "abcde"} == GROUPS


def test_shares_of_groups_follow_the_parameters() -> None:
    names = [split.by_hash(f"group {number}", KNOBS) for number in range(20_000)]
    assert names.count("test") / 20_000 == pytest.approx(0.2, abs=0.01)
    assert names.count("validation") / 20_000 == pytest.approx(0.1, abs=0.01)


def test_a_larger_validation_share_takes_nothing_from_test() -> None:
    names = [f"group {number}" for number in range(1000)]
    wider = Split(validation=0.3, test=0.2)
    for name in names:
        if split.by_hash(name, KNOBS) != "train":
            assert split.by_hash(name, wider) == split.by_hash(name, KNOBS)


def test_the_owners_split_stays_and_takes_the_group_along() -> None:
    rows = frame(
        [
            {"group_id": "owned", "split": "validation", "input": "a"},
            {"group_id": "owned", "input": "b"},
            {"group_id": "torn", "split": "train", "input": "c"},
            {"group_id": "torn", "split": "test", "input": "d"},
            {"group_id": "torn", "input": "e"},
        ]
    )
    assert split.assign(rows, KNOBS)["split"].to_list() == [
        "validation",
        "validation",
        "train",
        "test",
        "test",
    ]


groups = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from(["notes", "letters"])), min_size=1, max_size=60
).map(lambda pairs: [{"group_id": f"g{group}", "task": task, "input": "x"} for group, task in pairs])


@given(rows=groups, kept=st.integers(1, 60))
@settings(max_examples=50, deadline=None)
def test_groups_are_whole_and_never_reassigned_as_data_grows(rows: list[dict[str, Any]], kept: int) -> None:
    everything = split.assign(frame(rows), KNOBS)
    assert everything.group_by("group_id").agg(pl.col("split").n_unique())["split"].max() == 1
    before = split.assign(frame(rows[:kept]), KNOBS).select("sample_id", "split")
    after = everything.select("sample_id", "split").join(before, on="sample_id", how="semi")
    assert_frame_equal(before, after, check_row_order=False)


# --- near-duplicates ---


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


words = st.lists(st.integers(0, 6), min_size=5, max_size=14)


@given(
    texts=st.lists(st.tuples(words, st.sampled_from(SPLITS)), min_size=2, max_size=12),
    threshold=st.sampled_from([0.3, 0.5, 0.8, 1.0]),
)
@settings(max_examples=100, deadline=None)
def test_prefix_filtering_finds_what_comparing_all_pairs_finds(
    texts: list[tuple[list[int], str]], threshold: float
) -> None:
    # One task a record: no wording is shared, so that the sets are the plain 5-grams.
    rows = [
        {"task": f"t{number}", "input": text(*numbers), "split": name}
        for number, (numbers, name) in enumerate(texts)
    ]
    sets = [{tuple(numbers[at : at + 5]) for at in range(len(numbers) - 4)} for numbers, _ in texts]
    strength = [SPLITS.index(name) for _, name in texts]
    expected = [
        any(
            mine < other and len(a & b) >= threshold * len(a | b) - 1e-9
            for b, other in zip(sets, strength, strict=True)
        )
        for a, mine in zip(sets, strength, strict=True)
    ]
    assert held(rows, threshold) == expected


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {
            "input": text(*range(number % 5, 40 + number % 7)),
            "split": SPLITS[number % 3],
            "task": f"t{number}",
        }
        for number in range(30)
    ]
    whole = held(rows)
    monkeypatch.setattr(split, "BATCH_ROWS", 50)
    assert held(rows) == whole
    assert any(whole)


# --- the stage ---


def test_the_stage_writes_whole_groups_and_counts_add_up(checkout: Checkout) -> None:
    rows = frame(
        [
            {
                "group_id": f"g{number // 3}",
                "task": f"t{number % 2}",
                "input": text(*range(30 * number, 30 * number + 30)),
            }
            for number in range(90)
        ]
        + [{"group_id": f"copy{number}", "task": "t0", "input": text(*range(30))} for number in range(20)]
    )
    deidentified(rows)
    report = run_stage()
    written = {name: pl.read_parquet(paths.SPLIT / f"{name}.parquet") for name in SPLITS}
    assert report["rows"]["in"] == 110 == report["rows"]["out"] + report["rows"]["held_out"]
    assert report["rows"]["held_out"] > 0
    assert report["splits"] == {name: rows.height for name, rows in written.items()}
    assert sum(sum(places.values()) for places in report["tasks"].values()) == 110
    seen = [set(rows["group_id"]) for rows in written.values()]
    assert not seen[0] & seen[1] | seen[0] & seen[2] | seen[1] & seen[2]
    for out in written.values():
        assert out.columns == [column for column in RECORD_SCHEMA if column != "split"]
        assert_frame_equal(out, out.sort("task", "sample_id"))


def test_the_same_records_in_other_shards_give_the_same_bytes(checkout: Checkout) -> None:
    rows = frame([{"input": text(*range(9 * number, 9 * number + 12))} for number in range(40)])
    deidentified(rows, shards=2)
    report = run_stage()
    first = [(paths.SPLIT / f"{name}.parquet").read_bytes() for name in SPLITS]
    for shard in paths.DEIDENTIFIED.iterdir():
        shard.unlink()
    deidentified(rows.reverse(), shards=5)
    assert run_stage() == report
    assert [(paths.SPLIT / f"{name}.parquet").read_bytes() for name in SPLITS] == first


def test_tasks_without_a_row_in_a_split_are_named(checkout: Checkout) -> None:
    deidentified(frame([{"task": "lonely", "input": "one record", "split": "test"}]), shards=1)
    report = run_stage()
    assert report["lacking"] == {"train": ["lonely"], "validation": ["lonely"], "test": []}
    assert pl.read_parquet(paths.TRAIN_SPLIT).is_empty()


def test_the_profile_names_common_labels_of_closed_tasks_only(checkout: Checkout) -> None:
    closed = [
        {
            "task": "triage",
            "task_type": "classification",
            "input": f"message {number}",
            "target": "soon" if number < 8 else "never",
            "answer_choices": ["soon", "never"],
        }
        for number in range(10)
    ]
    open_ = [
        {
            "task": "signer",
            "task_type": "qa_choice",
            "input": f"note {number}",
            "target": "Ada Moss",
            "answer_choices": ["Ada Moss", f"Ben Hill {number}"],
        }
        for number in range(10)
    ]
    rows = frame(closed + open_)
    deidentified(rows)
    report = run_stage()
    profile = report["profile"]
    assert profile["tasks"]["triage"]["labels"] == {"soon": 8, "other": 2}
    assert profile["tasks"]["signer"]["labels"] is None
    assert "Moss" not in json.dumps(report)
    assert profile["languages"] == {"en": 20}
    assert profile["task_types"] == {"classification": 10, "qa_choice": 10}
    for facts in profile["tasks"].values():
        assert sum(facts["input_lengths"]) == sum(facts["target_lengths"]) == facts["rows"] == 10
        assert len(facts["input_lengths"]) == len(profile["length_edges"])


def test_no_text_of_a_record_is_in_the_report(checkout: Checkout) -> None:
    deidentified(frame([{"input": "Zanzibar", "target": "Quetzal", "source": "Xylophone"}]), shards=1)
    written = json.dumps(run_stage())
    assert not any(word in written for word in ("Zanzibar", "Quetzal", "Xylophone", "s0", "g0"))


def test_nothing_to_split_is_said(checkout: Checkout) -> None:
    with pytest.raises(DataError, match="run the deidentify stage first"):
        run_stage()


def test_a_broken_shard_is_said_and_leaves_nothing(checkout: Checkout) -> None:
    paths.DEIDENTIFIED.mkdir(parents=True)
    (paths.DEIDENTIFIED / "0123456789abcdef.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="run the deidentify stage again"):
        run_stage()
    assert not paths.SPLIT.exists()


def test_a_sample_id_twice_is_refused(checkout: Checkout) -> None:
    deidentified(frame([{"sample_id": "same", "input": "a"}, {"sample_id": "same", "input": "b"}]))
    with pytest.raises(DataError, match="sample_id twice"):
        run_stage()


def test_it_runs_as_a_program(checkout: Checkout) -> None:
    deidentified(frame([{"input": text(*range(number, number + 9))} for number in range(20)]))
    subprocess.run([sys.executable, "-m", "pipeline.split"], check=True, capture_output=True)
    assert json.loads(paths.report("split").read_text())["rows"]["in"] == 20


@pytest.mark.slow
def test_real_data_keeps_its_splits_and_loses_its_near_duplicates(
    checkout: Checkout, shared_data: Path
) -> None:
    rows = []
    for name in SPLITS:
        with gzip.open(shared_data / f"en.{name}.jsonl.gz", "rt", encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                rows.append({"group_id": row["doc_id"], **{k: row[k] for k in RECORD_SCHEMA if k in row}})
    deidentified(pl.DataFrame(rows, schema=RECORD_SCHEMA), shards=3)
    report = run_stage()
    assert report["rows"] == {
        "in": 38986,
        "out": 38986 - report["rows"]["held_out"],
        "held_out": report["rows"]["held_out"],
    }
    assert 0 < report["rows"]["held_out"] < 400
    assert report["tasks"]["bc5cdr-ner"]["test"] == 2263


GROUPS = {"a": "train", "b": "validation", "c": "test", "d": "test", "e": "validation"}
