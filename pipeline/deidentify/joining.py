"""Findings that belong together: the parts of an address, and names that stand beside a name.

Detectors see an address in pieces, a street here and a town on the next line; what lies between,
numbers and capitalised words, belongs to it.
"""

import re
from collections.abc import Sequence

from pipeline.deidentify.known_names import WORD
from pipeline.deidentify.places import TAIL
from pipeline.deidentify.spans import Span
from pipeline.deidentify.vocabulary import EPONYM_NOUN, STATES, common_words, is_term, names

FARTHEST = 60
"""Characters between two pieces of an address, at most."""

_PLACES = ("ADDRESS", "LOCATION", "ZIP")
_UNIT = r"(?i:apartment|apt|suite|ste|unit|floor|fl|room|rm)\b\.?[ ]?#?[ ]?\w{1,6}"
_BETWEEN = re.compile(
    rf"(?:[\s,.]|{_UNIT}|{WORD}|\d{{1,6}}[A-Za-z]?|\b(?:[a-zà-ž]{{1,2}}|del?|della|van|von|den|and|nan)\b)*"
)
_NUMBER_BEFORE = re.compile(r"(?<![\w-])\d{1,6}[A-Za-z]?[ ]$")
_UNIT_AFTER = re.compile(rf"[,\s]{{1,3}}{_UNIT}(?:[,\s]{{1,3}}{WORD}){{0,3}}(?=[.,\n]|$)")
_CODE_AFTER = re.compile(rf"(?:[\s,]{{1,4}}(?:{WORD}|nan)){{0,3}}[\s,]{{1,4}}\d{{4,6}}(?![\w-])")
_AFTER_INITIAL = re.compile(rf"[ ][A-Z]\.?[ ](?P<name>{WORD})(?![\w-])")
_TAIL_AFTER = re.compile(
    rf"(?:['’]s)?(?:[ ](?:of[ ]|and[ ]|&[ ])?{WORD}){{0,2}}?(?:[ ]{TAIL}|[ ](?:county[ ])?hosp(?:ital)?\b)"
)
_STATE_AFTER = re.compile(rf",?[ ](?:{'|'.join(STATES)}|Mass|Calif|Penn|Fla|Tex)\b")
_AND_ANOTHER = re.compile(rf"[ ](?:and|&)[ ](?P<name>{WORD})(?![\w-])(?![ ]{WORD})")


def joined(text: str, spans: Sequence[Span]) -> list[Span]:
    """``spans``, in order and not overlapping, with what belongs to them."""
    whole: list[Span] = []
    for span in spans:
        span = _completed(text, span)
        last = whole[-1] if whole else None
        if last and span.start < last.end:
            whole[-1] = last._replace(end=max(last.end, span.end))
        elif last and _is_one_address(text, last, span):
            whole[-1] = Span(last.start, span.end, "ADDRESS")
        else:
            whole.append(span)
    return sorted([*whole, *_others(text, whole)])


def _completed(text: str, span: Span) -> Span:
    if span.kind in ("LOCATION", "FACILITY"):
        return _with_tail(text, span)
    if span.kind != "ADDRESS":
        return span
    before = _NUMBER_BEFORE.search(text, max(0, span.start - 8), span.start)
    end = span.end
    for form in (_UNIT_AFTER, _CODE_AFTER):
        after = form.match(text, end)
        end = after.end() if after else end
    return Span(before.start() if before else span.start, end, span.kind)


def _with_tail(text: str, span: Span) -> Span:
    """A place with what it is ("Oakwood Elementary School") and its state ("Austin TX")."""
    tail = _TAIL_AFTER.match(text, span.end)
    if tail and not EPONYM_NOUN.match(text, span.end):
        return Span(span.start, tail.end(), "FACILITY")
    state = _STATE_AFTER.match(text, span.end)
    return span._replace(end=state.end()) if state else span


def _is_one_address(text: str, last: Span, span: Span) -> bool:
    return (
        last.kind in _PLACES
        and span.kind in _PLACES
        and (last.kind, span.kind) != ("LOCATION", "LOCATION")
        and span.start - last.end <= FARTHEST
        and _BETWEEN.fullmatch(text, last.end, span.start) is not None
    )


def _others(text: str, spans: Sequence[Span]) -> list[Span]:
    """Surnames after an initial ("Tendai A Moyo") or coordinated with a name ("Muslija and Brown")."""
    starts = {span.start for span in spans}
    found = []
    for span in (each for each in spans if each.kind == "NAME"):
        surname = _AFTER_INITIAL.match(text, span.end)
        if surname and surname.start("name") not in starts and not is_term(surname["name"]):
            found.append(Span(span.end + 1, surname.end(), "NAME"))
        match = _AND_ANOTHER.match(text, span.end)
        if match and match.start("name") not in starts and " " not in text[span.start : span.end]:
            word = match["name"].lower()
            known = word in names().last or not (word in common_words() or is_term(word))
            if known and not match["name"].isupper() and not EPONYM_NOUN.match(text, match.end()):
                found.append(Span(*match.span("name"), "NAME"))
    return found
