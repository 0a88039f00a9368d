"""Whether what a model takes for a person's name may be one, by its words."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from pipeline.deidentify.classifier import vocabulary
from pipeline.deidentify.eponyms import EPONYMS, lone_eponyms
from pipeline.deidentify.screen import is_capitalised, is_plain
from pipeline.deidentify.vocabulary import (
    PARTICLES,
    TITLES,
    UNLIKELY_ENDING,
    common_words,
    is_medical,
    is_term,
    names,
)

WORDS = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_NEVER = re.compile(r"[\d/@%=<>]")
_SENTENCE_BEFORE = re.compile(r"(?:^|[.!?:\n\]\"“])\s*$")


class Evidence(NamedTuple):
    """What is known beside the words."""

    agreed: bool
    """The other model takes it for a name too."""
    first: bool
    """It begins a sentence, where any word has a capital."""
    sure: bool
    """The model is nearly certain."""
    spoken: bool
    """Its line has no capitals, as transcribed speech."""


def evidence(text: str, start: int, end: int, agreed: bool, score: float) -> Evidence:
    line = text[text.rfind("\n", 0, start) + 1 : (text.find("\n", end) + 1 or len(text) + 1) - 1]
    return Evidence(
        agreed,
        _SENTENCE_BEFORE.search(text, max(0, start - 4), start) is not None,
        score >= 0.9,
        line == line.lower(),
    )


def is_person(value: str, given: Evidence) -> bool:
    """Whether ``value`` may name a person.

    One word must be a known name, or a strange word with a capital, or both models must have
    found it; of several, none may be strange, or first name and surname must be known.
    """
    parts = [word for word in WORDS.findall(value) if word.lower() not in TITLES | PARTICLES]
    words = [word.lower().removesuffix("'s").removesuffix("’s") for word in parts]
    if given.agreed and _is_strange_name(value, parts, words):
        return True
    if not parts or _NEVER.search(value) or any(is_term(word) for word in parts):
        return False
    parts_of_words = [part for word in words for part in word.split("-") if len(part) > 1]
    if all(part in EPONYMS for part in parts_of_words) and not (
        given.agreed and not lone_eponyms().intersection(parts_of_words)
    ):
        return False
    if len(parts) == 1:
        return len(words[0]) > 2 and _is_one(parts[0], words[0], given)
    known = names()
    if words[0] in known.first and words[-1] in known.last and parts[0].isupper() == parts[-1].isupper():
        return parts[0][0].isupper() or given.spoken
    named = known.all
    strange = [
        word
        for word in words
        if (word in common_words() and word not in named)
        or (UNLIKELY_ENDING.search(word) and word not in named)
    ]
    sure = [word for word in words if _is_known(word)]
    capitals = all(part[0].isupper() for part in parts)
    if sure:
        return len(strange) < len(words)
    unheard = all(word not in vocabulary() for word in words if len(word) > 1)
    return not strange and ((capitals and (not value.isupper() or unheard)) or (given.spoken and unheard))


def _is_strange_name(value: str, parts: Sequence[str], words: Sequence[str]) -> bool:
    """Several capitalised words, none of English or medicine, that both models take for a name."""
    return (
        len(parts) > 1
        and all(map(is_capitalised, parts))
        and not _NEVER.search(value)
        and not any(
            is_plain(word, named=True) or word in EPONYMS or is_medical(part)
            for part, word in zip(parts, words, strict=True)
        )
    )


def _is_one(part: str, word: str, given: Evidence) -> bool:
    known = names()
    if _is_known(word):
        return not (part.isupper() and len(part) < 5)
    if word in common_words():
        return part.istitle() and word in known.all and (given.agreed or given.sure or not given.first)
    if UNLIKELY_ENDING.search(word):
        return False
    if (
        given.agreed
        and is_capitalised(part)
        and (not given.first or (given.sure and not is_plain(word, True)))
    ):
        return True
    return word not in vocabulary() and (is_capitalised(part) or given.agreed or given.spoken)


def _is_known(word: str) -> bool:
    return (word in names().first or word in names().last) and word not in common_words()
