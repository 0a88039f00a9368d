"""Names of people by lists of first names and surnames, and by the words beside them."""

import re
from collections.abc import Iterator

from pipeline.deidentify.eponyms import EPONYM_NOUN, EPONYMS
from pipeline.deidentify.spans import Span
from pipeline.deidentify.vocabulary import (
    AMBIGUOUS,
    MEDICAL,
    UNLIKELY_ENDING,
    common_words,
    countries,
    is_medical,
    is_term,
    names,
    plain_first_names,
)

WORD = r"(?:(?![a-zà-öø-ÿ])[^\W\d_][^\W\d_]*(?:['’-][^\W\d_]+)*)"
"""A word that does not begin with a small letter."""

PARTICLE = r"(?:(?:van|von|der|den|de|del|da|di|la|le|bin|al)[ ]){0,2}"

# Transcribed speech has small letters only; words in capitals are abbreviations.
_CASED_WORD = re.compile(r"(?<![\w.@/-])[^\W\d_][a-z]{2,}(?![\w@/])")
_FULL_NAME = re.compile(
    rf"\b(?P<first>{WORD})(?:[ ][^\W\d_]\.?(?=[ ])|[ ]{WORD}(?=[ ]{WORD}))?[ ](?P<last>{PARTICLE}{WORD})"
)
_WITH_INITIAL = re.compile(rf"\b(?P<first>{WORD})[ ][A-Z]\.[ ]?(?P<last>{WORD})")
_WITH_BARE_INITIAL = re.compile(rf"\b(?P<first>{WORD})[ ][A-Z][ ](?P<last>{WORD})")
_FIRST_AND_INITIAL = re.compile(rf"\b(?P<first>{WORD})[ ](?P<last>[A-Z])(?P<dot>\.|(?=['’]s|[,;)]|$))")


_COUNTRIES = frozenset(countries())
_COORDINATED = re.compile(
    rf"(?<![\w.@/-]){WORD}(?:,[ ]{WORD}){{0,4}},?[ ](?:and|&)[ ]{WORD}(?![ ]?[\w@/-]*[A-Z])"
)
_SMALL_SURNAME = re.compile(
    r"[ ](?P<last>[a-z]{3,})(?![\w@/])(?P<end>[ ]?[,.;:?!)]|[ ](?:is|was|has)\b|['’]s|\s*(?:\n|$))?"
)
"""After a first name: transcribed speech has no capitals."""


def find(text: str) -> Iterator[Span]:
    """Names by the lists: first names alone, before a surname or an initial; and words around an initial."""
    first, last = names().first, names().last
    common = common_words()
    for match in _FIRST_AND_INITIAL.finditer(text):
        word = match["first"].lower()
        if (
            word in first
            and word not in MEDICAL
            and (word not in common or (match["dot"] == "." and word in AMBIGUOUS))
        ):
            yield Span(match.start(), match.end(), "NAME")
    for match in _WITH_INITIAL.finditer(text):
        words = {match["first"].lower(), match["last"].lower()}
        if not words & common and not any(is_medical(word) for word in words):
            yield Span(match.start(), match.end(), "NAME")
    for match in _WITH_BARE_INITIAL.finditer(text):
        words = {match["first"].lower(), match["last"].lower()}
        known = match["first"].lower() in first or match["last"].lower() in last
        if known and not words & common and not any(is_term(word) or word in EPONYMS for word in words):
            yield Span(match.start(), match.end(), "NAME")
    plain = plain_first_names()
    for match in _COORDINATED.finditer(text) if " and " in text or " & " in text else ():
        if not EPONYM_NOUN.match(text, match.end()):
            yield from _coordinated(match)
    for match in _CASED_WORD.finditer(text):
        if match[0].lower() in plain and not EPONYM_NOUN.match(text, match.end()):
            surname = _SMALL_SURNAME.match(text, match.end()) if match[0].islower() else None
            whole = surname is not None and _is_surname(surname["last"], surname["end"] is not None)
            yield Span(match.start(), surname.end("last") if surname and whole else match.end(), "NAME")
    position = 0
    while full := _FULL_NAME.search(text, position):
        position = full.end("first")
        given, family = full["first"].lower(), full["last"].split(" ")[-1].lower()
        if given not in first or family in MEDICAL or (family in EPONYMS and family not in last):
            continue
        if given in MEDICAL and (family in common or family not in last):
            continue
        sure = (given not in common) + (family in last and family not in common)
        if not sure or (family in common and family not in AMBIGUOUS) or is_medical(family):
            continue
        if full["first"].isupper() != full["last"].isupper() or EPONYM_NOUN.match(text, full.end()):
            continue
        if given in EPONYMS and family in EPONYMS:
            continue
        if family not in last and (full["last"].isupper() or given in AMBIGUOUS | EPONYMS):
            continue
        yield Span(full.start(), full.end(), "NAME")
        position = full.end()


def _is_surname(word: str, ends: bool) -> bool:
    """One that is an English word too ("ward") only where the phrase ends with it."""
    return word in names().last and (word not in common_words() or (ends and word in AMBIGUOUS))


def _coordinated(match: re.Match[str]) -> Iterator[Span]:
    """Capitalised words in a row, "Okafor, Reed and White": one is a surname, none is anything else."""
    first, last = names().first, names().last
    places = [each.span() for each in re.finditer(rf"{WORD}", match[0])]
    words = [match[0][start:end].lower() for start, end in places]
    if any(word in EPONYMS - last for word in words) or any(
        match[0][start:end].isupper() or match[0][start:end] in _COUNTRIES for start, end in places
    ):
        return
    sure = [word for word in words if word in last and word not in common_words()]
    possible = all(
        word in last or word in first or not (word in common_words() or UNLIKELY_ENDING.search(word))
        for word in words
    )
    if sure and possible and not any(word in MEDICAL or is_medical(word) for word in words):
        for start, end in places:
            yield Span(match.start() + start, match.start() + end, "NAME")
