"""Findings that belong together: the parts of an address, and names that stand beside a name.

Detectors see an address in pieces, a street here and a town on the next line; what lies between,
numbers and capitalised words, belongs to it.
"""

import re
from collections.abc import Sequence

from pipeline.deidentify.eponyms import EPONYM_NOUN
from pipeline.deidentify.facilities import TAIL
from pipeline.deidentify.known_names import WORD
from pipeline.deidentify.spans import Span
from pipeline.deidentify.streets import LINK
from pipeline.deidentify.subjects import begins, is_other
from pipeline.deidentify.vocabulary import STATES, TITLES, common_words, is_term, names

FARTHEST = 60
"""Characters between two pieces of an address, at most."""

_PLACES = ("ADDRESS", "LOCATION", "ZIP")
_UNIT = (
    r"(?i:apartment|apt|suite|ste|unit|floor|fl|room|rm|piso|puerta|interior|edif|depto|apto|appartamento|piano|"
    r"wohnung|etage|lejl)\b\.?[ ]?#?[ ]?\w{1,6}"
)
_BETWEEN = re.compile(
    rf"(?:[\s,.]|(?<=\d)-(?=\d)|{_UNIT}|{WORD}|\d{{1,6}}[A-Za-z]?|\b(?:[a-zà-ž]{{1,2}}|del?|della|van|von|den|and|nan)\b)*"
)
_CODE = re.compile(r"(?<![\w-])\d{4,6}(?![\w-])|\d{2}-\d{3}|\d{5}-\d{3}")
_NUMBER_BEFORE = re.compile(
    r"(?<![\w-])(?:(?:Flat|Studio|Unit|Apt\.?)[ ](?=$|\d)|\d{1,6}[A-Za-z]?,?[ \n]){1,3}$"
)
_CITY = rf"{WORD}(?:[ -](?:{LINK}\b|{WORD})){{0,5}}"
_GAP = r"\.?[,\s]{1,4}"
_CONTINUED = [
    re.compile(pattern)
    for pattern in (
        # Apt. 12, and a town to the end of the line
        rf"{_GAP}{_UNIT}(?:{_GAP}(?!{_UNIT}){_CITY}(?:[ ][A-Z]{{2}})?(?=[.,\n]|$))?",
        # a town in whatever case, and a line that begins with a comma and a state
        r"(?:\n?[ ]?[^\n\d]{2,40})?\n,[ ](?:[A-Z]{2,3}|nan|[a-z]{2})(?=\n)",
        # 12345 Town, H-1234 Town, 1234 AB, Town
        rf"{_GAP}(?:[A-Z]{{1,2}}-)?(?:\d{{4,8}}|\d{{2}}-\d{{3}}|\d{{5}}-\d{{3}}|\d{{3}}[ ]\d{{2}})(?:[ ]?[A-Z]{{2}}\b)?,?[ \n]{_CITY}",
        # Town, Country 12345
        rf"(?:{_GAP}(?:{LINK}\b|{WORD})){{0,8}}{_GAP}\d{{4,6}}(?![\w-])",
        # Town, ON K1A 0B1 and AB1 2CD
        rf"(?:{_GAP}{WORD}){{0,4}}{_GAP}(?:[A-Z]\d[A-Z][ ]?\d[A-Z]\d|[A-Z]{{1,2}}\d[A-Z\d]?[ ]\d[A-Z]{{2}})(?![\w-])",
        # a town after its postal code, where the clause ends with it
        rf"(?:(?<=\d{{5}})|(?<=-\d{{3}}))[ ](?:{LINK}[ ])?{_CITY}(?=[ ]?[,.\n/]|$)",
        # (RC), / TO
        r"[ ](?:\([A-Z]{2}\)|/[ ][A-Z]{2}\b)",
    )
]
"""What goes on from a street and number: units, towns, states and postal codes."""
_TOWN_AT_THE_END = re.compile(rf",[ ](?P<town>{_CITY})(?=[,.\n]|[ ]\(|$)")
_AFTER_INITIAL = re.compile(rf"[ ][A-Z]\.?[ ](?P<name>{WORD})(?![\w-])")
_TAIL_AFTER = re.compile(
    rf"(?:['’]s)?(?:[ ](?:of[ ]|and[ ]|&[ ])?{WORD}){{0,2}}?(?:(?:[ ]{TAIL}){{1,3}}|[ ](?:county[ ])?hosp(?:ital)?\b)"
)
_STATE_AFTER = re.compile(rf",?[ ](?:{'|'.join(STATES)}|Mass|Calif|Penn|Fla|Tex)\b")
_REST_OF_TOWN = re.compile(
    rf"(?:[ -](?:ob|op|pri|na|nad|pod|v|aan|bij|sur|upon|do|da|dos|das|del?|della|di|am|an der)[ -]{WORD})+"
)
"""Of a town whose name has small words of no English sentence."""
_TOWN_OF_FACILITY = re.compile(rf"(?:,[ ]|[ ]in[ ])(?P<town>{WORD}(?:[ ]{WORD}){{0,2}})(?=[,.;?!]|\s*$)")
_ANOTHER_BEFORE = re.compile(rf"(?<![\w.@/-])(?P<name>{WORD})(?:[ ]?,[ ]|,?[ ](?:and|&)[ ])$")
_WORD_BEFORE = re.compile(rf"(?<![\w.@/-])(?P<word>{WORD})[ ]$")
_WORD_AFTER = re.compile(rf"[ ](?P<word>{WORD})(?![\w@/-])")
_AND_ANOTHER = re.compile(rf"[ ](?:and|&)[ ](?P<name>{WORD})(?![\w-])(?![ ]{WORD})")


def joined(text: str, spans: Sequence[Span]) -> list[Span]:
    """``spans``, in order and not overlapping, with what belongs to them."""
    whole: list[Span] = []
    for span in spans:
        span = _named_whole(text, span) if span.kind == "NAME" else _completed(text, span)
        last = whole[-1] if whole else None
        if last and span.start < last.end:
            whole[-1] = last._replace(end=max(last.end, span.end))
        elif last and _is_one_address(text, last, span):
            whole[-1] = _completed(text, Span(last.start, span.end, "ADDRESS"))
        else:
            whole.append(span)
    return sorted([*whole, *_others(text, whole)])


def _completed(text: str, span: Span) -> Span:
    if span.kind in ("LOCATION", "FACILITY"):
        return _with_tail(text, span)
    if span.kind != "ADDRESS":
        return span
    before = _NUMBER_BEFORE.search(text, max(0, span.start - 20), span.start)
    start, end = before.start() if before else span.start, span.end
    end = _continued(text, end)
    town = _town_at_the_end(text, end)
    return Span(start, _continued(text, town.end()) if town else end, span.kind)


def _continued(text: str, end: int) -> int:
    while after := next((found for form in _CONTINUED if (found := form.match(text, end))), None):
        end = after.end()
    return end


def _town_at_the_end(text: str, end: int) -> re.Match[str] | None:
    town = _TOWN_AT_THE_END.match(text, end)
    if town and any(word.lower() in TITLES or is_term(word) for word in town["town"].split()):
        return None
    return town


def _named_whole(text: str, span: Span) -> Span:
    """A name with the strange capitalised words beside it ("Wasiu" of "Wasiu Andrew")."""
    start, end = span.start, span.end
    while (before := _WORD_BEFORE.search(text, max(0, start - 30), start)) and not is_other(
        before["word"], begins(text, before.start("word"))
    ):
        start = before.start("word")
    while (after := _WORD_AFTER.match(text, end)) and not is_other(after["word"], first=False):
        end = after.end()
    return span if EPONYM_NOUN.match(text, end) else Span(start, end, "NAME")


def _with_tail(text: str, span: Span) -> Span:
    """A place with what it is ("Oakwood Elementary School") and its state ("Austin TX")."""
    tail = _TAIL_AFTER.match(text, span.end)
    if tail and not EPONYM_NOUN.match(text, span.end):
        return Span(span.start, tail.end(), "FACILITY")
    state = _STATE_AFTER.match(text, span.end) or _REST_OF_TOWN.match(text, span.end)
    if state:
        return span._replace(end=state.end())
    town = _TOWN_OF_FACILITY.match(text, span.end) if span.kind == "FACILITY" else None
    if town and not any(is_term(word) or word.lower() in common_words() for word in town["town"].split()):
        return span._replace(end=town.end())
    return span


def _is_one_address(text: str, last: Span, span: Span) -> bool:
    return (
        last.kind in _PLACES
        and span.kind in _PLACES
        and (
            (last.kind, span.kind) != ("LOCATION", "LOCATION")
            or _CODE.search(text, last.end, span.start) is not None
        )
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
        start = span.start
        while (other := _ANOTHER_BEFORE.search(text, max(0, start - 40), start)) and not (
            is_other(other["name"], begins(text, other.start("name"))) and _is_word(other["name"])
        ):
            start = other.start("name")
            if start in starts:
                break
            starts.add(start)
            found.append(Span(*other.span("name"), "NAME"))
        match = _AND_ANOTHER.match(text, span.end)
        if match and match.start("name") not in starts and " " not in text[span.start : span.end]:
            word = match["name"].lower()
            known = word in names().last or not (word in common_words() or is_term(word))
            if known and not match["name"].isupper() and not EPONYM_NOUN.match(text, match.end()):
                found.append(Span(*match.span("name"), "NAME"))
    return found


def _is_word(text: str) -> bool:
    """Too short, or too common a word for the first of "Ling and Ada"."""
    return len(text) < 3 or text.isupper() or is_term(text) or text.lower() in common_words()
