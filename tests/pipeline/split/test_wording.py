from collections.abc import Sequence
from typing import Any

import pytest

from pipeline.split import wording
from pipeline.split.parts import of_texts
from tests.pipeline.split.made import frame, index, part, text

TEMPLATE = text(*range(9000, 9010))


def shared(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """How many shingles are each task's wording."""
    return {task: len(each) for task, each in wording.of_tasks([part(rows)], index(rows)).items()}


def test_what_more_than_four_groups_of_a_task_say_is_its_wording() -> None:
    rows = [{"input": f"{TEMPLATE} {text(number)}"} for number in range(5)]
    assert shared(rows) == {"notes": 8}
    assert shared(rows[:4]) == {"notes": 0}
    assert shared([{**row, "group_id": "one"} for row in rows]) == {"notes": 0}
    assert shared([{**row, "task": f"t{number}"} for number, row in enumerate(rows)]) == dict.fromkeys(
        ("t0", "t1", "t2", "t3", "t4"), 0
    )


def test_in_a_large_task_two_in_a_hundred_groups_must_say_it() -> None:
    rows = [{"input": text(*range(5 * number, 5 * number + 5))} for number in range(1_000)]
    twenty = [{"input": TEMPLATE, "group_id": f"x{number}"} for number in range(20)]
    assert shared([*rows, *twenty]) == {"notes": 0}
    assert shared([*rows, *twenty, {"input": TEMPLATE, "group_id": "x20"}]) == {"notes": 8}


def test_of_many_groups_and_rows_some_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"input": f"{TEMPLATE} {text(number)}", "group_id": f"g{number % 20:02}"} for number in range(100)
    ]
    looked = []
    gather = wording.gather
    monkeypatch.setattr(wording, "SAMPLE_GROUPS", 6)
    monkeypatch.setattr(wording, "SAMPLE_ROWS", 2)
    monkeypatch.setattr(wording, "gather", lambda parts, rows: looked.extend(rows) or gather(parts, rows))
    assert shared(rows) == {"notes": 8}
    assert {row % 20 for row in looked} == set(range(6))
    assert len(looked) == 12


def test_shingles_are_of_one_text_and_in_order() -> None:
    start, shingle = wording.windows(
        of_texts(frame([{"input": t} for t in ("a b c d", "b c", "b c d", "c b d")])["input"])
    )
    assert start.tolist() == [0, 1, 6, 9]
    assert shingle[1] == shingle[2]
    assert len(set(shingle.tolist())) == 3


def test_few_words_have_no_shingle() -> None:
    start, shingle = wording.windows(of_texts(frame([{"input": t} for t in ("", "a", "a b")])["input"]))
    assert len(start) == len(shingle) == 0
