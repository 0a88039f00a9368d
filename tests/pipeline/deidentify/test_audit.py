"""The second look: what is left, and how much of it is looked at again."""

from collections.abc import Sequence
from typing import Any

import pytest

from pipeline.cache import Cache
from pipeline.deidentify import audit
from pipeline.deidentify.audit import SecondLook
from pipeline.deidentify.workers import Workers
from pipeline.params import Params
from tests.conftest import Checkout


def look(texts: Sequence[str]) -> tuple[dict[str, Any], int]:
    """The result, and how many parts of the sample were read for it."""
    before = parts()
    settings = Params.load().deidentify
    with Workers(settings) as workers:
        result = SecondLook(texts, settings.min_score, {"key_id": "k"}, workers).result()
    return result, parts() - before


def parts() -> int:
    return sum(1 for _ in Cache("deidentify").folder.glob("*"))


def test_of_many_texts_only_parts_with_new_ones_are_looked_at_again(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "MANY", 200)
    texts = [f"Visit {number}: Wilhelmina Featherstone coughs." for number in range(200)]
    first, read = look(texts)
    assert first["records"] == 200
    assert first["found"]["NAME"] >= 200
    assert read > 100
    assert look(texts) == (first, 0)
    second, read = look([*texts[:-2], "Visit 300: a cough.", "Visit 301: a cough."])
    assert read <= 4
    assert second["found"]["NAME"] < first["found"]["NAME"]


def test_the_number_of_parts_changes_no_result(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"Visit {number}: Wilhelmina Featherstone coughs." for number in range(40)]
    few = look(texts)
    monkeypatch.setattr(audit, "MANY", 1)
    many = look(texts)
    assert few[0] == many[0]
    assert few[1] <= 16 < many[1]
