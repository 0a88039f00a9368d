from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipeline.params import Split
from pipeline.split.groups import assign, by_hash
from tests.pipeline.split.made import frame

KNOBS = Split()


def test_the_split_of_a_group_is_fixed() -> None:
    # A change here reassigns every user's groups.
    fixed = {"a": "train", "b": "validation", "c": "test", "d": "test", "e": "validation"}
    assert {name: by_hash(name, KNOBS) for name in fixed} == fixed


def test_shares_of_groups_follow_the_parameters() -> None:
    names = [by_hash(f"group {number}", KNOBS) for number in range(20_000)]
    assert names.count("test") / 20_000 == pytest.approx(0.2, abs=0.01)
    assert names.count("validation") / 20_000 == pytest.approx(0.1, abs=0.01)


def test_a_larger_validation_share_takes_nothing_from_test() -> None:
    names = [f"group {number}" for number in range(1000)]
    wider = Split(validation=0.3, test=0.2)
    for name in names:
        if by_hash(name, KNOBS) != "train":
            assert by_hash(name, wider) == by_hash(name, KNOBS)


def test_the_owners_split_takes_the_whole_group_along() -> None:
    rows = frame(
        [
            {"group_id": "owned", "split": "validation", "input": "a"},
            {"group_id": "owned", "input": "b"},
            {"group_id": "torn", "split": "train", "input": "c"},
            {"group_id": "torn", "split": "test", "input": "d"},
            {"group_id": "torn", "input": "e"},
        ]
    )
    assert assign(rows, KNOBS)["split"].to_list() == ["validation"] * 2 + ["test"] * 3


groups = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from(["notes", "letters"])), min_size=1, max_size=60
).map(lambda pairs: [{"group_id": f"g{group}", "task": task, "input": "x"} for group, task in pairs])


@given(rows=groups, kept=st.integers(1, 60))
@settings(max_examples=50, deadline=None)
def test_groups_are_whole_and_never_reassigned_as_data_grows(rows: list[dict[str, Any]], kept: int) -> None:
    everything = assign(frame(rows), KNOBS)
    assert everything.group_by("group_id").agg(pl.col("split").n_unique())["split"].max() == 1
    before = assign(frame(rows[:kept]), KNOBS).select("sample_id", "split")
    after = everything.select("sample_id", "split").join(before, on="sample_id", how="semi")
    assert_frame_equal(before, after, check_row_order=False)
