"""Extraction: rows continued by heart count; what skill or the base completes does not."""

import random
from itertools import permutations
from typing import Any

import polars as pl
import pytest

from pipeline.evaluate import extraction
from pipeline.evaluate.extraction import CONTINUATION, extractable, measure, surplus_test
from pipeline.evaluate.system import System
from pipeline.moelora import MoeLora
from tests.pipeline.evaluate.conftest import learn, limits, systems

Tiny = tuple[MoeLora, Any]


def texts(count: int, seed: int, same: str | None = None) -> pl.DataFrame:
    """Rows with an input and a random answer of their own; or with one answer for all, and inputs that
    are alike: orders of four letters."""
    by_lot = random.Random(seed)
    orders = list(permutations("abcd"))
    rows = [
        {
            "sample_id": f"{seed}-{i}",
            "task": "summary",
            "task_type": "summarization",
            "input": "".join(orders[3 * i + seed]) if same else chr(32 + count * seed + i),
            "target": same or "".join(by_lot.choices("abcdefghij", k=6)),
            "group_id": f"{seed}-{i}",
        }
        for i in range(count)
    ]
    return pl.DataFrame(rows)


def test_rows_learnt_by_heart_are_extracted(tiny: Tiny, untrained: System) -> None:
    adapter, tokenizer = tiny
    candidate, _ = systems(adapter, tokenizer)
    seen, unseen = texts(8, 1), texts(8, 2)
    counted: list[int] = []
    before = measure(candidate, untrained, seen, unseen, limits(), counted.append)
    assert sum(counted) == 16
    assert (before["completed"], before["unseen_completed"], before["p"]) == (0, 0, 1.0)
    learn(adapter, tokenizer, seen.select("task", "input", "target").rows(), steps=200)
    after = measure(candidate, untrained, seen, unseen, limits())
    assert after["rows"] == after["unseen_rows"] == 8
    assert after["completed"] >= 6
    assert after["unseen_completed"] == 0
    assert after["p"] < 0.01


def test_a_skill_completes_rows_it_never_saw_and_is_no_memory(tiny: Tiny, untrained: System) -> None:
    adapter, tokenizer = tiny
    seen, unseen = texts(8, 1, "all is well"), texts(8, 2, "all is well")
    learn(adapter, tokenizer, seen.select("task", "input", "target").rows(), steps=80)
    found = measure(systems(adapter, tokenizer)[0], untrained, seen, unseen, limits())
    assert found["completed"] >= 6
    assert found["unseen_completed"] >= 6
    assert found["p"] > 0.05


def test_what_the_base_completes_too_does_not_count(tiny: Tiny) -> None:
    """Base and candidate, one model here, both know the rows: the base did before any training."""
    adapter, tokenizer = tiny
    seen, unseen = texts(8, 1), texts(8, 2)
    learn(adapter, tokenizer, seen.select("task", "input", "target").rows(), steps=150)
    candidate, _ = systems(adapter, tokenizer)
    found = measure(candidate, candidate, seen, unseen, limits())
    assert found["completed"] == found["by_base"] > 0
    assert found["p"] == 1.0


def test_the_prompt_ends_within_the_answer_and_a_long_answer_is_not_asked_whole(tiny: Tiny) -> None:
    adapter, tokenizer = tiny
    candidate, _ = systems(adapter, tokenizer)
    prompt, wanted = extraction._divided(candidate, "Note", "abcdefghij", 512)
    assert tokenizer.decode(prompt).endswith("abcde")
    assert wanted == "fghij"
    answer = "".join(random.Random(0).choices("abcdefghij", k=300))
    prompt, wanted = extraction._divided(candidate, "Note", answer, 512)
    assert tokenizer.decode(prompt).endswith(answer[: extraction.PREFIX])
    assert wanted == answer[extraction.PREFIX :][:CONTINUATION]


def test_a_character_of_several_tokens_may_end_the_continuation(tiny: Tiny) -> None:
    candidate, _ = systems(*tiny)
    _, wanted = extraction._divided(candidate, "病历", "患者" * 40, 512)
    assert "\ufffd" not in wanted[1:]
    assert len(wanted) > 10


def test_texts_of_some_length_can_be_extracted_and_choices_cannot() -> None:
    rows = texts(3, 1).with_columns(
        target=pl.Series(["long enough " * 4, "short", "long enough " * 4]),
        task_type=pl.Series(["summarization", "summarization", "nli"]),
    )
    assert extractable(rows)["sample_id"].to_list() == ["1-0"]


@pytest.mark.parametrize(
    ("extracted", "unseen", "expected"), [(0, 0, 1.0), (64, 64, 1.0), (9, 0, 0.001445), (10, 0, 0.000668)]
)
def test_the_surplus_is_fishers(extracted: int, unseen: int, expected: float) -> None:
    assert surplus_test(extracted, 64, unseen, 64) == pytest.approx(expected, rel=0.01)
