"""What is added to findings: the rest of an address, surnames beside a name."""

import pytest

from pipeline.deidentify.joining import joined
from pipeline.deidentify.spans import Span


def of(text: str, *values: tuple[str, str]) -> list[tuple[str, str]]:
    spans = [Span(text.index(value), text.index(value) + len(value), kind) for kind, value in values]
    return [(span.kind, text[span.start : span.end]) for span in joined(text, sorted(spans))]


@pytest.mark.parametrize(
    ("text", "pieces", "whole"),
    [
        (
            "at 30102 Kaevu 94\nNicosia\n, NI\n 61089.",
            [("ADDRESS", "Kaevu 94"), ("LOCATION", "Nicosia")],
            [("ADDRESS", "30102 Kaevu 94\nNicosia\n, NI\n 61089")],
        ),
        ("from Austin TX now", [("LOCATION", "Austin")], [("LOCATION", "Austin TX")]),
        (
            "at Oakwood Elementary School today",
            [("LOCATION", "Oakwood")],
            [("FACILITY", "Oakwood Elementary School")],
        ),
        ("Tendai A Moyo came", [("NAME", "Tendai")], [("NAME", "Tendai"), ("NAME", "A Moyo")]),
        ("Muslija and Brown agree", [("NAME", "Muslija")], [("NAME", "Muslija"), ("NAME", "Brown")]),
    ],
)
def test_pieces_become_whole(text: str, pieces: list[tuple[str, str]], whole: list[tuple[str, str]]) -> None:
    assert of(text, *pieces) == whole


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        (
            "5 Oak Road was where the patient moved from Boston",
            [("ADDRESS", "5 Oak Road"), ("LOCATION", "Boston")],
        ),
        ("Moss and Hodgkin lymphoma", [("NAME", "Moss")]),
        ("Denver and Boston", [("LOCATION", "Denver"), ("LOCATION", "Boston")]),
    ],
)
def test_what_does_not_belong_together_stays_apart(text: str, pieces: list[tuple[str, str]]) -> None:
    assert of(text, *pieces) == pieces
