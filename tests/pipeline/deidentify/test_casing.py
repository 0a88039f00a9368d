"""Texts without capitals, or of nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.deidentify.casing import LONGEST, recased
from pipeline.deidentify.detect import detector


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "the letter arrived at 64 timms drive, nungatta, australia last night.",
            "64 timms drive, nungatta, australia",
        ),
        ("I WILL BE TRAVELLING TO NEW ZEALAND NEXT WEEK", "NEW ZEALAND"),
        ("i was seen by irenka pavlović on monday", "irenka pavlović"),
        ("ms. rennie flew to loeches on monday morning.", "monday"),
    ],
)
def test_what_identifies_is_found_without_its_capitals(text: str, found: str) -> None:
    spans = detector(0.4).detect([text])[0]
    assert any(found in text[span.start : span.end] for span in spans)


@pytest.mark.parametrize(
    "text",
    [
        "does metformin help against type 2 diabetes in adults with kidney disease?",
        "PATIENT WITH COPD AND HTN, NO ACUTE DISTRESS, LUNGS CLEAR.",
    ],
)
def test_medicine_without_capitals_stays(text: str) -> None:
    assert detector(0.4).detect([text]) == [[]]


@pytest.mark.parametrize("text", ["Seen by irenka.", "", "12 / 3", "a word " * LONGEST])
def test_other_texts_are_read_as_they_are(text: str) -> None:
    assert recased(text) is None


@given(st.text(max_size=80))
def test_no_character_moves(text: str) -> None:
    again = recased(text)
    assert again is None or (len(again) == len(text) and again.casefold() == text.casefold())
