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
from pipeline.deidentify.vocabulary import AMBIGUOUS, EPONYMS, MEDICAL, TITLES, common_words, is_medical, names

SHORT_LINE = 60
"""Characters of a line that goes with its neighbour: names and addresses stand on several."""

_END = re.compile(
    r"\n+|(?<!\b[A-Z])(?<!\bDr)(?<!\bMr)(?<!\bMs)(?<!\bMrs)(?<!\bSt)[.!?]+[\"')\]]*\s+",
)
_WORD = re.compile(r"(?<![\w@])[^\W\d_]+(?:['’-][^\W\d_]+)*(?![\w@])")
_ADDRESSED = frozenset(("mr", "mrs", "ms", "miss", "dr"))
_PRONOUN = re.compile(r"I['’]\w+")


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
    words = _WORD.finditer(text, start, end)
    return any(_is_candidate(match[0], place == 0) for place, match in enumerate(words))


@lru_cache(maxsize=100_000)
def _is_candidate(word: str, first: bool) -> bool:
    """Whether a word, the ``first`` of its sentence or another, may belong to a name or place."""
    lower = word.lower().removesuffix("'s").removesuffix("’s")
    if is_medical(word) or _PRONOUN.fullmatch(word):
        return lower in _ADDRESSED
    if word.islower():
        return lower in _ADDRESSED or (len(lower) > 3 and (lower in _uncommon_names() or not lower.isascii()))
    if word.isupper():
        strange = len(lower) > 4 and lower not in vocabulary() and lower not in common_words()
        return len(lower) > 3 and (lower in _uncommon_names() or strange)
    if lower in common_words():
        return not first and len(lower) > 2 and lower in AMBIGUOUS | TITLES
    return not first or lower in _uncommon_names() or lower not in vocabulary()


@lru_cache(maxsize=1)
def _uncommon_names() -> frozenset[str]:
    known = names()
    return (known.first | known.last) - common_words() - MEDICAL - EPONYMS
