"""Names by the lists alone, and strange words that do what only people do: "Bolstad denies pain".

>>> [TEXT[start:end] for start, end, _ in find(TEXT := "Did Bolstad sign? Transfer of Höglund to the ward.")]
['Bolstad', 'Höglund']
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from pipeline.deidentify.classifier import vocabulary
from pipeline.deidentify.eponyms import EPONYM_NOUN, lone_eponyms
from pipeline.deidentify.known_names import PARTICLE, WORD
from pipeline.deidentify.screen import is_capitalised, is_plain, is_unheard
from pipeline.deidentify.spans import Span
from pipeline.deidentify.vocabulary import (
    FUNCTION_WORDS,
    MEDICAL,
    STATES,
    WIDE_PLACES,
    common_words,
    countries,
    is_term,
    names,
    towns,
)

_KIN = (
    r"(?:mother|father|mom|mum|dad|parents?|wife|husband|partner|daughter|son|family|sister|brother|niece|nephew|"
    r"grand(?:mother|father|son|daughter)|aunt|uncle|chart|appointment|visit|insurance|bedside|discharge|"
    r"kids?|child|children|boss|birthday|girlfriend|boyfriend|neighbou?r)"
)
_DOES = (
    r"(?:(?:reports?|reported|denies|denied|complains|complained|states|feels|felt|wants|wanted|lives|lived|says|said|"
    r"told|asked|thinks|thought|forgot|called|works|worked|smokes|smoked|drinks|drank|slept|underwent|arrived|came|went|"
    r"returned|takes|took|refuses|refused|agrees|agreed|consented|declined|woke|fell|married|died|hopes|wishes|loves|"
    r"likes|knows|lost|gained|weighs|presented|visited|walked|sat|stood|needs\s+(?:a|an|his|her|help|to)|has\s+a|had\s+a)"
    r"|(?:is|was|were|being|has\s+been|had\s+been|will\s+be|needs\s+to\s+be)\s+(?:re)?(?:admitted|discharged|seen|born|"
    r"referred|intubated|extubated|hospitali[sz]ed|brought|transferred|scheduled|counsel+ed|advised|told|asked|adopted|"
    r"raised|married|widowed|divorced|hired|feeling|complaining|taking|living|allergic|doing|crying|awake|\d{1,3}\s*y\w*)"
    r"|(?:is|was|isn['’]t|wasn['’]t)\s+(?:(?:very|so|really|quite|not|still|always|never)\s+)?(?:reliable|nice|kind|friendly|happy|"
    r"sad|angry|tired|sick|smart|funny|busy|late|upset|pregnant|worried|anxious|asleep|alert|away|here|back|home|coming|"
    r"going|my|our|his|her|married|retired|waiting|calling|crying|sleeping|ready)"
    r"|has\s+been\s+(?:having|coughing|vomiting|experiencing|using|drinking|smoking|on|in)"
    r"|in\s+(?:bed|room|bay|ward)\s+\d+)\b"
)
_ASKED = (
    r"(?:drink|take|eat|sign|have|need|go|come|stop|start|use|drive|travel|fly|breastfeed|continue|get|still|ever|also|"
    r"born|been|last|first|really|feel|call|see|miss|want|refuse|sleep|ask|show|receive|tolerate|undergo|wait|leave)\b"
)
_AUXILIARY = r"(?i:did|does|do|can|could|should|will|would|has|had|was|is|may|might|must|shall)"
_TOLD = (
    r"(?i:ask|asked|tell|told|call|called|remind|reminded|thank|thanked|meet|met|met\s+with|spoke\s+(?:to|with)|"
    r"speak\s+(?:to|with)|talked\s+(?:to|with)|talk\s+(?:to|with)|text|email|married|named|(?:written|signed|dictated|sung|"
    r"seen|song|book|reviewed|accompanied|composed|painted)\s+by|born\s+to|i\s+am|i['’]m|this\s+is|yours?,|regards,|"
    r"calls?\s+(?:me|him|her)|"
    r"tribute\s+to|(?:transfer|discharge|admission|signature|parents?|mother|father|wife|husband|death|birth|care|chart|records?)\s+of)"
)
_NAMED = rf"{WORD}(?:[ ](?:[A-Z]\.?[ ])?{PARTICLE}{WORD}){{0,2}}"
_SUBJECTS = (
    re.compile(
        r"\b(?:early|late|vintage|classic|it['’]s[ ]under|under[ ]the[ ]name(?:[ ]of)?)[ ]"
        rf"(?P<phi>{_NAMED})(?=[?!.]|$)"
    ),
    re.compile(rf"['’]s[ ](?P<phi>{WORD}[ ]{WORD})(?=[,.;]|[ ](?:of|and)\b)"),
    re.compile(rf"(?P<phi>{_NAMED})(?=['’]s[ ]+{_KIN}\b|[ ]+{_DOES})"),
    re.compile(rf"\b{_AUXILIARY}[ ](?P<phi>{_NAMED})(?=[ ]{_ASKED})"),
    re.compile(rf"\b{_TOLD}[ ](?P<phi>{_NAMED})"),
    re.compile(
        rf"(?P<phi>{_NAMED})(?=[ ](?:concert|gig|show|album|song|movie|film|novel|painting|exhibition)s?\b)"
    ),
    re.compile(
        rf"\b(?:starring|featuring|(?:directed|played|led|founded|recorded)[ ]by)[ ](?P<phi>{_NAMED})"
    ),
    re.compile(rf"(?m)^[ \t]*[-•*][ ](?P<phi>{_NAMED})(?=:[ ][a-z])"),
    re.compile(rf"(?m)^[ \t]*(?P<phi>{WORD},[ ]{WORD})(?=,[ ]\d{{1,3}}[ ]?[-yMFmf])"),
    re.compile(rf"\b(?i:it[ ](?:is|was))[ ](?P<phi>{_NAMED})(?=[ ]who\b)"),
    re.compile(rf"\b(?i:room|bed|bay)[ ]\d+[A-Z]?[,:][ ](?P<phi>{_NAMED})(?=,)"),
)
_SPOKEN = re.compile(
    r"\b(?:(?:my|his|her|our)\s+(?:son|daughter|wife|husband|brother|sister|mother|father|partner|friend|baby|aunt|"
    r"uncle|cousin)|this\s+is|i\s+am|i['’]m|(?P<called>my\s+name\s+is|name['’]s|calls?\s+(?:me|him|her)))\s+"
    r"(?P<phi>(?P<first>[^\W\d_A-Z]{3,})(?:[ ](?P<last>[^\W\d_A-Z]{3,}))?)(?![\w@-])"
)
"""Transcribed speech has no capitals."""
_SPOKEN_LINE = re.compile(
    r"(?m)^[ ]*(?P<phi>(?P<first>[^\W\d_A-Z]{2,}(?:-[^\W\d_A-Z]+)?)[ ][a-z]\.?[ ]"
    r"(?P<last>[^\W\d_A-Z]{2,}))[ ]*$"
)
_COUPLE = re.compile(
    rf"(?P<one>{WORD})[ ]and[ ](?P<other>{WORD})(?=[ ](?:were|are|have|both|live|lived|went|met|share)\b)"
)
_AROUND_INITIAL = re.compile(rf"(?<![\w.@/-])(?P<one>{WORD})[ ][A-Z]\.?[ ](?P<other>{WORD})(?![\w@/-])")
_WORD = re.compile(WORD)
_CAPITALISED = re.compile(r"(?<![\w.@/-])[^\W\d_a-z][^\W\d_]{3,}(?![\w@/-])")
_BEGINS = re.compile(r"(?:^|[.!?:\n\]\"“]|\s[-•*])\s*$")
_INSTITUTION = re.compile(
    r"[ ](?:University|College|School|Institute|Foundation|Inc|Ltd|Street|Avenue|County|correlation)\b"
)


def find(text: str) -> Iterator[Span]:
    """Names by the lists alone, and by what is said of them."""
    for match in _CAPITALISED.finditer(text):
        end = match.end()
        if is_listed(match[0]) and not (EPONYM_NOUN.match(text, end) or _INSTITUTION.match(text, end)):
            yield Span(match.start(), end, "NAME")
    for form in _SUBJECTS:
        for match in form.finditer(text):
            span = _strange(text, match)
            if span and not EPONYM_NOUN.match(text, span.end):
                yield span
    for match in _SPOKEN.finditer(text):
        if _is_spoken_name(match["first"]) or (match["called"] and match["first"] in _called()):
            whole = match["last"] is not None and _is_spoken_name(match["last"])
            yield Span(match.start("phi"), match.end("last" if whole else "first"), "NAME")
    for match in _COUPLE.finditer(text):
        if _are_two_names(text, match) and {match["one"].lower(), match["other"].lower()} & names().all:
            yield Span(*match.span("one"), "NAME")
            yield Span(*match.span("other"), "NAME")
    for match in _AROUND_INITIAL.finditer(text):
        if _are_two_names(text, match) and not EPONYM_NOUN.match(text, match.end()):
            yield Span(*match.span(), "NAME")
    for match in _SPOKEN_LINE.finditer(text):
        if _is_spoken_name(match["first"]) and not is_term(match["last"]):
            yield Span(*match.span("phi"), "NAME")


@lru_cache(maxsize=100_000)
def is_listed(word: str) -> bool:
    """Whether a capitalised word is a known name and nothing else: no English word, place or term."""
    lower = word.lower()
    if lower not in names().all or not is_capitalised(word) or word in STATES:
        return False
    other = lower in common_words() or lower in towns() or lower in WIDE_PLACES or lower in lone_eponyms()
    return not (other or lower in _parts_of_places() or is_plain(lower, named=True) or is_term(word))


@lru_cache(maxsize=1)
def _parts_of_places() -> frozenset[str]:
    places = [*countries(), *STATES, *STATES.values(), *towns()]
    return frozenset(word for place in places for word in re.findall(r"[^\W\d_]+", place.lower()))


def _strange(text: str, match: re.Match[str]) -> Span | None:
    """The words of a match from the first that may be a name; None where one of them is none."""
    words = [word for word in _WORD.finditer(text, *match.span("phi")) if len(word[0]) > 1]
    while words and is_other(words[0][0], begins(text, words[0].start()), place=len(words) > 1):
        words = words[1:]
    if not _are_names([word[0] for word in words]):
        return None
    return Span(words[0].start(), match.end("phi"), "NAME")


def _are_names(words: Sequence[str]) -> bool:
    """Whether each word may be a name, and one at least is no place: "Nobuaki Tanabe"."""
    return any(not is_other(word, first=False) for word in words) and not any(
        is_other(word, first=False, place=True) for word in words
    )


def _are_two_names(text: str, match: re.Match[str]) -> bool:
    return not is_other(match["one"], begins(text, match.start()), place=True) and _are_names(
        [match["one"], match["other"]]
    )


def begins(text: str, start: int) -> bool:
    """Whether a sentence or line begins at ``start``, where any word has a capital."""
    return _BEGINS.search(text, max(0, start - 8), start) is not None


def is_other(word: str, first: bool, place: bool = False) -> bool:
    """Whether a word is no name; the ``first`` of a sentence must be strange, or a name and nothing else.

    ``place``: it may be a place too, as many surnames are.
    """
    lower = word.lower()
    if len(word) < 3 or not is_capitalised(word) or lower in FUNCTION_WORDS | MEDICAL or is_term(word):
        return True
    english = lower in common_words() or is_plain(lower, named=True)
    if lower in names().all:
        return first and english
    somewhere = lower in WIDE_PLACES or (not place and lower in _parts_of_places())
    return english or somewhere or (first and lower in vocabulary())


@lru_cache(maxsize=1)
def _called() -> frozenset[str]:
    """First names, whatever else they mean: after "everyone calls me"."""
    return names().first - FUNCTION_WORDS


def _is_spoken_name(word: str) -> bool:
    english = word in common_words() or word in FUNCTION_WORDS or is_plain(word, named=True) or is_term(word)
    return not english and (word in names().all or is_unheard(word))
