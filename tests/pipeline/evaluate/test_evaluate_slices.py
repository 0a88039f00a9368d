"""Which rows a slice holds."""

import polars as pl
import pytest

from pipeline.evaluate.slices import slices


def frame(
    inputs: list[str], targets: list[str], languages: list[str], task_type: str = "nli"
) -> pl.DataFrame:
    return pl.DataFrame({"input": inputs, "target": targets, "language": languages}).with_columns(
        task_type=pl.lit(task_type)
    )


def inside(rows: pl.DataFrame) -> dict[str, list[int]]:
    return {name: chosen.nonzero()[0].tolist() for name, chosen in slices(rows).items()}


def test_rows_are_sliced_by_language_and_length() -> None:
    rows = frame(["a" * n for n in (1, 9, 2, 8, 3, 7)], ["yes"] * 6, ["en", "zh", "en", "en", "en", "en"])
    assert inside(rows) == {
        "language:en": [0, 2, 3, 4, 5],
        "language:zh": [1],
        "length:long": [1, 3],
        "length:medium": [4, 5],
        "length:short": [0, 2],
    }


def test_a_label_is_rare_below_half_an_even_share() -> None:
    """Of 12 rows and 3 labels an even share is 4: one row is rare, two are not."""
    targets = ["a"] * 7 + ["A "] * 2 + ["b"] * 2 + ["c"]
    rows = frame(["x"] * 12, targets, ["en"] * 12)
    assert inside(rows) == {"labels:rare": [11]}


def test_labels_of_open_answers_are_not_rare() -> None:
    rows = frame(["x"] * 4, ["a", "b", "b", "b"], ["en"] * 4, "summarization")
    assert inside(rows) == {}


def test_a_slice_of_all_rows_is_left_out() -> None:
    assert inside(frame(["x"] * 3, ["a"] * 3, ["en"] * 3)) == {}


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_row_has_one_length(count: int) -> None:
    found = inside(frame(["x" * (i % 4) for i in range(count)], ["a"] * count, ["en"] * count))
    places = sorted(place for chosen in found.values() for place in chosen)
    assert places == (list(range(count)) if found else [])
