"""Rows seen in training and unseen ones beside them."""

import polars as pl
from polars.testing import assert_frame_equal

from pipeline.evaluate.seen import COLUMNS, matched, rows_of, seen_ids


def rows(prefix: str, **tasks: int) -> pl.DataFrame:
    named = [(f"{prefix}{task}{number}", task) for task, count in tasks.items() for number in range(count)]
    frame = pl.DataFrame(named, schema=["sample_id", "task"], orient="row")
    return frame.with_columns(*(pl.lit("x").alias(name) for name in COLUMNS[2:]))


def counts(frame: pl.DataFrame) -> dict[str, int]:
    return dict(frame.group_by("task").len().iter_rows())


def test_every_task_has_as_many_seen_as_unseen_rows() -> None:
    seen, unseen = rows("a", big=50, small=3, gone=9), rows("b", big=20, small=5, new=9)
    first, second = matched(seen, unseen, 10, 17)
    assert counts(first) == counts(second) == {"big": 7, "small": 3}
    assert set(first["sample_id"]) <= set(seen["sample_id"])
    assert set(second["sample_id"]) <= set(unseen["sample_id"])
    assert counts(matched(seen, unseen, 1000, 17)[0]) == {"big": 20, "small": 3}
    assert counts(matched(seen, unseen, 0, 17)[0]) == {}
    assert matched(seen, unseen.clear(), 10, 17)[0].is_empty()


def test_the_rows_depend_on_seed_and_ids_alone() -> None:
    seen, unseen = rows("a", big=50, small=9), rows("b", big=50, small=9)
    first = matched(seen, unseen, 12, 17)
    again = matched(seen.reverse(), unseen.reverse(), 12, 17)
    for one, other in zip(first, again, strict=True):
        assert_frame_equal(one, other)
    assert set(matched(seen, unseen, 12, 18)[0]["sample_id"]) != set(first[0]["sample_id"])
    # More rows are the old ones and others, so that a figure of more rows is of the same kind.
    assert set(first[0]["sample_id"]) <= set(matched(seen, unseen, 20, 17)[0]["sample_id"])


def test_seen_is_what_was_drawn_up_to_the_kept_weights() -> None:
    order = pl.DataFrame({"position": [2, 0, 1, 3], "sample_id": ["c", "a", "b", "a"]})
    assert seen_ids(order, 2) == {"a", "b"}
    assert seen_ids(order, 9) == {"a", "b", "c"}
    split = rows("", big=3, other=1)
    assert rows_of(split, {"big1", "other0"}, ["big"])["sample_id"].to_list() == ["big1"]
    assert len(rows_of(split, None, ["big", "other"])) == 4
