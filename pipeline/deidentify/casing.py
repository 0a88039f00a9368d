"""Capitals for a short text that has none, or nothing else: what detectors go by.

>>> recased("the letter arrived at 64 timms drive, nungatta, new zealand last night.")
'The letter arrived at 64 Timms Drive, Nungatta, New Zealand last night.'
"""

import re
from functools import lru_cache

from pipeline.deidentify.screen import is_unheard
from pipeline.deidentify.streets import RARE_STREET, STREET
from pipeline.deidentify.vocabulary import (
    MEDICAL,
    common_words,
    countries,
    is_term,
    names,
    towns,
)

LONGEST = 1_000
"""Characters: longer texts without capitals are transcribed speech, which other patterns read."""

_WORD = re.compile(r"[^\W\d_]+")
_CODE = re.compile(
    r"\b(?:[fad]po|psc|uss|usns|usnv|uscgc|nan)\b|\b[a-z]{2}(?=[ ]\d{5}\b)|(?<=\n,[ ])[a-z]{2,3}(?=\n)"
)
_ON_ITS_OWN = re.compile(r"\bi\b")
_CALENDAR = re.compile(
    r"\b(?:(?:mon|tues|wednes|thurs|fri|satur|sun)days?|january|february|april|june|july|august|september|october|"
    r"november|december|(?:march|may)(?=[ ]\d))\b"
)
_IN_ADDRESS = re.compile(
    rf"\b\d{{1,6}}[a-z]?[ ](?:[^\W\d_]+[ ]|\d+[ ]){{1,4}}?(?i:{STREET}|{RARE_STREET})\b"
    r"|\bcorner of [^\n.]+? and (?:\w+ ?){1,3}(?=[.,\n]|$)"
    r"|\b(?:p\.?o\.? box|suite|apt|apartment|unit)\b",
)


def recased(text: str) -> str | None:
    """``text`` with names, places and addresses capitalised, of the same length.

    None where it has capitals and small letters already, or is too long.
    """
    if len(text) > LONGEST or not (text.islower() or text.isupper()):
        return None
    letters = list(_small(text))
    small = "".join(letters)
    for match in _WORD.finditer(small):
        if match.start() == 0 or _is_name(match[0]):
            letters[match.start()] = _capital(letters[match.start()])
    for form in (_IN_ADDRESS, _CALENDAR, _countries()):
        for match in form.finditer(small):
            for word in _WORD.finditer(small, *match.span()):
                if word[0] not in ("the", "corner", "of", "and"):
                    letters[word.start()] = _capital(letters[word.start()])
    for form in (_CODE, _ON_ITS_OWN):
        for match in form.finditer(small):
            letters[match.start() : match.end()] = match[0].upper()
    return "".join(letters)


def _small(text: str) -> str:
    """Small letters, those alone that stay one character."""
    return "".join(small if len(small := character.lower()) == 1 else character for character in text)


def _capital(character: str) -> str:
    return capital if len(capital := character.upper()) == 1 else character


@lru_cache(maxsize=1)
def _countries() -> re.Pattern[str]:
    known = sorted({*map(str.lower, countries()), "united states", "nyc", "philly"}, key=len, reverse=True)
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, known))})\b")


@lru_cache(maxsize=100_000)
def _is_name(word: str) -> bool:
    if len(word) < 3 or word in MEDICAL or word in common_words() or is_term(word):
        return False
    return is_unheard(word) or word in towns() or word in names().all
