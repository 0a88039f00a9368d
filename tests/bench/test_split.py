"""What is planted is what the figures say, and all rows are made."""

from pathlib import Path

import pytest
from rapidfuzz.distance import Indel

from pipeline.params import Split
from pipeline.split import groups
from tests.bench.split import made, truth
from tests.bench.split.__main__ import Size, duplicates, find, growth


def test_records_are_the_same_every_time_and_fit_together() -> None:
    rows = made.records(40, 80)
    assert rows.equals(made.records(40, 80))
    assert rows["sample_id"].to_list() == [f"s{number:08}" for number in range(40, 120)]
    assert rows.group_by("group_id").len()["len"].to_list() == [made.GROUP] * (80 // made.GROUP)
    words = rows["input"].str.split(" ").list.len()
    assert words.min() >= made.INSTRUCTION + made.LENGTHS[0] - 1


def test_a_twentieth_of_the_words_of_a_planted_copy_is_edited() -> None:
    planted = made.plant(made.records(0, 400), 20)
    texts = dict(planted.records.select("sample_id", "input").iter_rows())
    splits = dict(groups.assign(planted.records, Split()).select("sample_id", "split").iter_rows())
    assert len(planted.copies) == 20
    for copy in planted.copies:
        said, original = (texts[each].split()[made.INSTRUCTION :] for each in (copy, copy[: -len("-again")]))
        assert 0.9 < Indel.normalized_similarity(said, original) < 1
        assert (splits[copy], splits[copy[: -len("-again")]]) in {
            ("train", "validation"),
            ("train", "test"),
            ("validation", "test"),
        }


def test_comparing_all_pairs_finds_planted_copies_and_no_other() -> None:
    planted = made.plant(made.records(0, 400), 20)
    pairs = truth.pairs(groups.assign(planted.records, Split()), 0.8)
    assert pairs == {(copy, copy[: -len("-again")]) for copy in planted.copies}


def test_the_rows_about_duplicates_are_made_and_hold(tmp_path: Path) -> None:
    rows = duplicates(find(tmp_path, made.records(0, 400)))
    assert all(row.holds for row in rows if row.figure != "seconds")


@pytest.mark.slow
def test_the_rows_about_growth_are_made(tmp_path: Path) -> None:
    assert all(row.value is not None for row in growth(tmp_path, Size(0, 1_000, 20)))
