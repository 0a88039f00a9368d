"""Any Unicode text: no crash, offsets right, the same bytes for the same text, and nothing changed
where nothing was found."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.deidentify.detect import detect_shapes, detector
from pipeline.deidentify.replace import Surrogates
from pipeline.deidentify.spans import CATEGORIES, Span

SCRAPS = st.sampled_from(
    [
        "Dr. Ada Moss", "12 Elm Street, Dayton, OH 45410", "03/09/1931", "March 9th", "9-Mar-24", "1/1/0001",
        "+46 (0)8 928 571 38", "a@b.co", "MRN: 12-34-567", "aged 97", "St. Mary's Hospital", "ßtraße", "İzmir",
        "O’Brien", "\u202eDr. Moss", "x" * 40, "\r\n", "\u2028", "\x00", "👩‍⚕️", "Ǆ", "ﬁ", "e\u0301", "١٢٣٤٥", "²³",
        "DR. ǅ", "99999999999999999999", "[date]", "90+", "http://", "::1", "0.0.0.0",
    ]
)  # fmt: skip
TEXTS = st.lists(st.text(max_size=20) | SCRAPS, max_size=8).map(" ".join)


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.sampled_from(["shift", "year"]))
def test_any_text_is_searched_and_replaced(text: str, dates: str) -> None:
    found = detector(0.4).detect([text])[0]
    for spans in (found, detect_shapes(text)):
        check(spans, text)
    values = [(span.kind, text[span.start : span.end]) for span in found]

    def replaced() -> tuple[str, list[Span], list[Span]]:
        return tuple(Surrogates(bytes(32), "group", values, dates).replace([text], [found])[0])  # type: ignore[return-value]

    new, surrogates, originals = replaced()
    assert (new, surrogates, originals) == replaced()
    if not found:
        assert new == text
    check(originals, text)
    # Outside what was exchanged, the two texts are the same.
    assert kept(text, originals) == kept(new, surrogates)


def check(spans: list[Span], text: str) -> None:
    """In order, inside the text, apart from one another, of a known kind, and of more than punctuation."""
    end = 0
    for span in spans:
        assert end <= span.start < span.end <= len(text)
        assert span.kind in CATEGORIES
        assert any(character.isalnum() for character in text[span.start : span.end])
        end = span.end


def kept(text: str, spans: list[Span]) -> list[str]:
    """What lies between the spans."""
    ends = [0, *(span.end for span in spans)]
    return [text[a:b] for a, b in zip(ends, [*(span.start for span in spans), len(text)], strict=True)]
