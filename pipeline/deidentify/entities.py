"""What the models take for people, places and numbers, without what is medicine."""

import re
from collections.abc import Iterator, Sequence

from pipeline.deidentify.classifier import vocabulary
from pipeline.deidentify.eponyms import EPONYM_NOUN, EPONYMS
from pipeline.deidentify.facilities import FACILITY
from pipeline.deidentify.models import Entity
from pipeline.deidentify.persons import WORDS, evidence, is_person
from pipeline.deidentify.presidio import NlpArtifacts
from pipeline.deidentify.screen import is_capitalised, is_unheard
from pipeline.deidentify.vocabulary import (
    UNLIKELY_ENDING,
    WIDE_PLACES,
    common_words,
    countries,
    is_term,
    names,
    towns,
)

_VERB_AFTER = re.compile(
    r"(?<=[^\W\d_])(?:[ ](?!(?:van|von|der|den|de|del|da|di|la|le|bin|al|ibn)\b)[a-z]+)+$"
)
_SMALL_BEFORE = re.compile(r"(?:(?!(?:van|von|der|den|de|del|da|di|la|le|bin|al|ibn)\b)[a-z]+[ ])*")
_LINES = re.compile(r"[^\s](?:[^\n\r]*[^\s])?")
_LINES_AND_STROKES = re.compile(r"[^\s/](?:[^\n\r/]*[^\s/])?")
_AFTER_PLACE = re.compile(r"\b(?![a-z])[^\W\d_]+[,.]?\s+$")
_LONGEST_ABBREVIATION = 6
_UNSURE = ("ORGANIZATION", "ADDRESS")
_IN_A_PLACE = re.compile(r"\b(?i:in|near|from|around|outside|visited)\s+$")
_IN_A_TOWN = re.compile(r"(?:\b(?i:in|near|from|around|outside|visited|to|of)|\d{4,5}|,)\s+$")
_NO_PLACE = re.compile(r"[+=<>%*]")
_COUNTRIES = frozenset(countries())
_AT_A_PLACE = re.compile(
    r"\b(?:admitted|treated|seen|presented|visit(?:ed|s)?|care|surgery|hospitali[sz](?:ed|ation)|transferred|referred|"
    r"followed|diagnosed|evaluated|works?|worked|office|records?|out|case|stay|patient|ER|ED|appointment|surgery|nurse|doctor)\s+(?:at|to|in|from|by)\s+(?:the\s+|our\s+)?$"
)


def accepted(text: str, artifacts: NlpArtifacts) -> Iterator[tuple[int, int, str, float]]:
    """Start, end, kind and score of what holds of a text's entities."""
    found: list[Entity] = artifacts.entities  # type: ignore[assignment]
    for entity, score in zip(found, artifacts.scores, strict=True):
        for start, end in _by_line(text, entity):
            kind = _kind(text, start, end, entity, score, found)
            if kind:
                yield start, end, kind, score


def _by_line(text: str, entity: Entity) -> Iterator[tuple[int, int]]:
    """The parts of an entity between line breaks, and of a name without the verb beside it ("Rangel flew").

    Of a name also the parts between strokes ("Ada/Tom").
    """
    parts = _LINES if entity.label_ != "NAME" else _LINES_AND_STROKES
    for part in parts.finditer(text, entity.start_char, entity.end_char):
        start, end = part.span()
        if entity.label_ == "NAME" and any(character.isupper() for character in part[0]):
            start += len(_SMALL_BEFORE.match(part[0])[0])  # type: ignore[index]
            end = start + len(_VERB_AFTER.sub("", text[start:end]))
        yield start, end


def _kind(
    text: str, start: int, end: int, entity: Entity, score: float, found: Sequence[Entity]
) -> str | None:
    value, label = text[start:end], entity.label_
    if label in ("ID", "PHONE", "ZIP"):
        return label if _is_number(text, start, value, label) else None
    if EPONYM_NOUN.match(text, end) or _is_abbreviation(text, value):
        return None
    first_word = next(iter(WORDS.findall(value)), "").lower()
    one = first_word in names().all and WORDS.fullmatch(value) is not None
    if label == "NAME" or (label == "FACILITY" and first_word in names().first) or (one and label in _UNSURE):
        agreed = any(
            other.by != entity.by
            and other.label_ == "NAME"
            and other.start_char < end
            and start < other.end_char
            for other in found
        )
        if is_person(value, evidence(text, start, end, agreed, score)):
            return "NAME"
        if label in ("NAME", "FACILITY"):
            return None
    return _place(text, start, value, label)


def _is_abbreviation(text: str, value: str) -> bool:
    """Whether the text itself says what a short word stands for: "dexamethasone (Dex)".

    Where that is no word of medicine, the short one must be no known name: "my friend (Fred)".
    """
    if len(value) > _LONGEST_ABBREVIATION or not value.isalnum():
        return False
    for match in re.finditer(rf"\b([a-z][\w-]+) ?\( ?{value} ?\)", text):
        letters = iter(match[1].lower())
        if match[1][0] == value[0].lower() and all(letter in letters for letter in value.lower()):
            return is_term(match[1]) or value.lower() not in names().all
    return False


def _is_number(text: str, start: int, value: str, label: str) -> bool:
    digits = sum(character.isdigit() for character in value)
    if any(character.isalpha() for character in value):
        return False
    if label == "ZIP":
        return digits >= 4 and _AFTER_PLACE.search(text, max(0, start - 20), start) is not None
    return digits >= 7


def _place(text: str, start: int, value: str, label: str) -> str | None:
    words = WORDS.findall(value)
    if label == "LOCATION" and value in _COUNTRIES:
        return label
    if not words or any(is_term(word) for word in words) or _NO_PLACE.search(value):
        return None
    if FACILITY.fullmatch(value) and not {word.lower() for word in words} <= common_words():
        return "FACILITY"
    lower = [word.lower().removesuffix("'s").removesuffix("’s") for word in words]
    if all(part in EPONYMS for word in lower for part in word.split("-")) and " ".join(lower) not in towns():
        return None
    in_a_town = _IN_A_TOWN.search(text, max(0, start - 20), start) is not None
    if label == "ADDRESS" and any(character.isdigit() for character in value):
        return label if max(map(len, words)) > 2 and not value.islower() else None
    if value.islower() or label == "ADDRESS":
        known = " ".join(lower).replace("-", " ") in towns()
        named = known or (all(map(is_unheard, lower)) and not text[:start].rstrip().endswith(","))
        return "LOCATION" if named and in_a_town and label in ("LOCATION", "ADDRESS") else None
    if label == "ORGANIZATION":
        at_a_place = _AT_A_PLACE.search(text[max(0, start - 40) : start])
        plain = value.isupper() or set(lower) & common_words() or lower[0] in names().first
        if at_a_place and not plain:
            return "FACILITY"
        one = len(words) == 1 and is_capitalised(value) and lower[0] not in vocabulary()
        one = one and _IN_A_PLACE.search(text, max(0, start - 20), start) is not None
        return "LOCATION" if one or (in_a_town and value.lower() in towns()) else None
    if label == "FACILITY":
        return label if FACILITY.fullmatch(value) else None
    return label if label != "LOCATION" or _is_location(value, words, lower) else None


def _is_location(value: str, words: Sequence[str], lower: Sequence[str]) -> bool:
    if set(lower) <= WIDE_PLACES or set(lower) <= common_words() or any(c.isdigit() for c in value):
        return False
    if len(words) > 1:
        return True
    plural = value.endswith("s") and lower[0][:-1] in common_words()
    abbreviation = value.isupper() and len(value) < 5 and value not in ("NYC", "UAE")
    return not (UNLIKELY_ENDING.search(lower[0]) or plural or abbreviation)
