"""Which parts of a text the models read: sentences with a word that could belong to a name or place.

Models cost twenty times what patterns do, and most sentences of medicine hold nothing for them:
no capital inside, no first name in small letters, no title.

>>> [TEXT[start:end] for start, end in stretches(TEXT := "The pain is mild. Seen by Irenka. No fever.")]
['Seen by Irenka. ']
"""

import re
from collections.abc import Iterator
from functools import lru_cache

from pipeline.deidentify.classifier import vocabulary
from pipeline.deidentify.eponyms import EPONYM_NOUN, EPONYMS, lone_eponyms
from pipeline.deidentify.vocabulary import (
    AMBIGUOUS,
    FUNCTION_WORDS,
    MEDICAL,
    TITLES,
    common_words,
    english,
    is_term,
    names,
    plain_first_names,
    towns,
)

SHORT_LINE = 60
"""Characters of a line that goes with its neighbour: names and addresses stand on several."""

_TITLED = "".join(
    rf"(?<!\b{title})(?<!\b{title} )" for title in ("[Dd]r", "[Mm]r", "[Mm]rs", "[Mm]s", "[Ss]t")
)
_END = re.compile(rf"\n+|(?<!\b[A-Z]){_TITLED}[.!?]+[\"')\]]*\s+")
_WORD = re.compile(r"(?P<opens>[:;(\[\]\"“•*>]\s*)?(?<!\w)(?P<word>[^\W\d_]+(?:['’-][^\W\d_]+)*)(?![\w@])")
_ADDRESSED = frozenset(("mr", "mrs", "ms", "miss", "dr"))
_CONTRACTED = re.compile(r"['’](?:s|re|ve|ll|d|m|t)$", re.IGNORECASE)
_PREFIX = re.compile(r"(?:Mc|Mac|Di|De|La|Le|Van)(?=[^\W\d_a-z])")
_INFLECTED = re.compile(r"(?:s|es|d|ed|ly|ing|r|er|ers|ist|ists|al|ally|ness|able)$")
_DERIVED = re.compile(
    r"(?:tion|tions|sion|ment|ments|ance|ence|ism|ity|ular|ness|ing|ical|ically|ology|able|ible|ify|i[sz]e|i[sz]ed|"
    r"ous|ive|ally|ly|ed|ases|ial|ional|logist|ectomy|itis)$"
)
"""Endings of English words and of hardly any name."""
_SYLLABLES = re.compile(r"(?:[^aeiouy]{0,2}[aeiouy])+[^aeiouy]{0,2}")
"""What can be spoken: "MBEKI", and hardly an abbreviation."""
_SMALL = frozenset(
    ("will", "may", "best", "good", "well", "long", "you", "can", "see", "her", "how", "has", "the")
)


def stretches(text: str) -> list[tuple[int, int]]:
    """Start and end of the parts to be read, in order; whole sentences, neighbours as one."""
    parts = list(_sentences(text))
    read = [_is_read(text, start, end) for start, end in parts]
    found: list[tuple[int, int]] = []
    for place, (start, end) in enumerate(parts):
        beside = any(read[max(0, place - 1) : place + 2])
        if read[place] or (beside and end - start <= SHORT_LINE and "\n" in text[max(0, start - 1) : end]):
            if found and found[-1][1] == start:
                found[-1] = (found[-1][0], end)
            else:
                found.append((start, end))
    return found


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for match in _END.finditer(text):
        yield start, match.end()
        start = match.end()
    if start < len(text):
        yield start, len(text)


def _is_read(text: str, start: int, end: int) -> bool:
    before = ""
    spoken = True
    for match in _WORD.finditer(text, start, end):
        word, first = match["word"], not before or match["opens"] is not None
        if _is_candidate(word, first) and not (
            _bare(word) in EPONYMS and EPONYM_NOUN.match(text, match.end())
        ):
            return True
        if _is_full_name(before, word):
            return True
        spoken = spoken and word.islower()
        before = word
    return spoken and any(is_unheard(match["word"]) for match in _WORD.finditer(text, start, end))


@lru_cache(maxsize=100_000)
def _is_candidate(word: str, first: bool) -> bool:
    """Whether a word, the ``first`` of its sentence or another, may belong to a name or place."""
    lower = _bare(word)
    if lower in _ADDRESSED:
        return True
    if is_term(word) or (_CONTRACTED.search(word) and lower in common_words() - _first_names()):
        return False
    if all(part in lone_eponyms() for part in lower.split("-")):
        return False
    unheard = not _is_heard(lower)
    if word.islower():
        known = lower in plain_first_names() or (lower in _uncommon_names() and unheard)
        return len(lower) > 3 and (known or not lower.isascii())
    if word.isupper():
        strange = unheard and not _DERIVED.search(lower) and _SYLLABLES.fullmatch(lower) is not None
        return len(lower) > 3 and (lower in _uncommon_names() or strange)
    if not is_capitalised(word):
        return False
    if lower in common_words():
        return len(lower) > 2 and lower in AMBIGUOUS | TITLES and (not first or lower in _first_names())
    if lower in _uncommon_names():
        return True
    return unheard and not _DERIVED.search(lower) if first else not is_plain(lower)


def is_capitalised(word: str) -> bool:
    """Whether a word is written as a name: "Moyo", "O'Brien", "McNeil", not "mRNA" or "IgG"."""
    parts = re.split(r"['’-]", _PREFIX.sub("", word))
    return parts[0][:1].isupper() and all(part == part.capitalize() or part.islower() for part in parts)


def _is_full_name(first: str, last: str) -> bool:
    """Words that are a first name and a surname, whatever else they are: "GRACE HILL".

    In small letters only where they are nothing else.
    """
    given, family = first.lower(), last.lower()
    if given not in _first_names() or family not in _last_names():
        return False
    return last[0].isupper() or not any(
        word in common_words() or is_plain(word, True) for word in (given, family)
    )


@lru_cache(maxsize=100_000)
def is_unheard(word: str) -> bool:
    """Whether a word in small letters is none of English or medicine."""
    lower = _bare(word)
    if len(lower) < 4 or is_term(lower) or _DERIVED.search(lower):
        return False
    return not (_is_heard(lower) or any(is_term(stem) for stem in _stems(lower)))


def _is_heard(lower: str) -> bool:
    """Whether a word is an English one, or made of one."""
    known = (vocabulary(), common_words(), english())
    return any(stem in words for stem in _stems(lower) for words in known)


def is_plain(lower: str, named: bool = False) -> bool:
    """Whether a word is an English one that names nobody and no place; ``named``: or may do so as well."""
    return all(
        (named or not (part in names().all or part in towns()))
        and any(stem in english() for stem in _stems(part))
        for part in lower.split("-")
    )


def _stems(lower: str) -> set[str]:
    return {lower, _INFLECTED.sub("", lower), _INFLECTED.sub("e", lower), *lower.split("-")}


def _bare(word: str) -> str:
    """In small letters, without "'s" and "'ve"."""
    return _CONTRACTED.sub("", word).lower()


@lru_cache(maxsize=1)
def _first_names() -> frozenset[str]:
    """First names that are no small words."""
    return frozenset(word for word in names().first if len(word) > 2) - FUNCTION_WORDS - MEDICAL - _SMALL


@lru_cache(maxsize=1)
def _last_names() -> frozenset[str]:
    return names().last - FUNCTION_WORDS - MEDICAL


@lru_cache(maxsize=1)
def _uncommon_names() -> frozenset[str]:
    known = names()
    return known.all - common_words() - MEDICAL - lone_eponyms()
