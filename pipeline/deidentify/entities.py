"""What the models take for people and places, without what is medicine."""

import re

from pipeline.deidentify.classifier import vocabulary
from pipeline.deidentify.models import Entity
from pipeline.deidentify.patterns import FACILITY
from pipeline.deidentify.vocabulary import (
    EPONYM_NOUN,
    EPONYMS,
    PARTICLES,
    TITLES,
    UNLIKELY_ENDING,
    WIDE_PLACES,
    common_words,
    countries,
    is_term,
    names,
)

_WORDS = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_VERB_AFTER = re.compile(
    r"(?<=[^\W\d_])(?:[ ](?!(?:van|von|der|den|de|del|da|di|la|le|bin|al|ibn)\b)[a-z]+)+$"
)
_AFTER_PLACE = re.compile(r"\b(?![a-z])[^\W\d_]+[,.]?\s+$")
_COUNTRIES = frozenset(countries())
_AT_A_PLACE = re.compile(
    r"\b(?:admitted|treated|seen|presented|visit(?:ed|s)?|care|surgery|hospitali[sz](?:ed|ation)|transferred|referred|"
    r"followed|diagnosed|evaluated|works?|worked|office|records?|out|case|stay|patient)\s+(?:at|to|in|from|by)\s+(?:the\s+|our\s+)?$"
)


def by_line(text: str, entity: Entity) -> list[tuple[int, int]]:
    """The parts of an entity between line breaks: no name goes over one, nor on to a verb ("Rangel flew")."""
    parts, position = [], entity.start_char
    for line in text[entity.start_char : entity.end_char].splitlines(keepends=True):
        end = position + len(line.rstrip())
        if entity.label_ == "NAME" and text[position].isupper():
            end = position + len(_VERB_AFTER.sub("", text[position:end]))
        parts.append((position, end))
        position += len(line)
    return parts


def kind_of(text: str, start: int, end: int, entity: Entity) -> str | None:
    """What an entity of a model is after the filter: a kind of PHI, or None."""
    if entity.by == "classifier":
        return _of_classifier(text, start, end, entity.label_)
    return _of_spacy(text, start, end, entity.label_)


def _of_classifier(text: str, start: int, end: int, label: str) -> str | None:
    value = text[start:end]
    digits = sum(character.isdigit() for character in value)
    if label in ("ID", "PHONE"):
        return label if digits >= 7 and not any(character.isalpha() for character in value) else None
    words = _WORDS.findall(value)
    if any(is_term(word) for word in words) or EPONYM_NOUN.match(text, end):
        return None
    if label == "ADDRESS":
        return label if digits and any(len(word) > 2 and word[0].isupper() for word in words) else None
    if label == "ZIP":
        return label if digits >= 4 and not words and _AFTER_PLACE.search(text, max(0, start - 20), start) else None
    if label == "NAME":
        return label if _is_classified_name(value, words) else None
    return _of_spacy(text, start, end, label) if label == "LOCATION" else label


def _is_classified_name(value: str, words: list[str]) -> bool:
    if any(character.isdigit() or character in "/@%=<>" for character in value):
        return False
    known, common = names().first | names().last, common_words()
    parts = [word for word in words if word.lower() not in TITLES | PARTICLES]
    lower = [word.lower().removesuffix("'s").removesuffix("’s") for word in parts]
    if not parts or all(word in EPONYMS or len(word) == 1 for word in lower):
        return False
    sure = [word for word in lower if word in known and word not in common]
    strange = [word for word in lower if word in common or UNLIKELY_ENDING.search(word)]
    if len(parts) == 1:
        unknown = parts[0].istitle() and lower[0] not in vocabulary() and not strange
        return len(lower[0]) > 2 and (bool(sure) or unknown)
    return bool(sure) or (not strange and all(word[0].isupper() and not word.isupper() for word in parts))


def _of_spacy(text: str, start: int, end: int, label: str) -> str | None:
    entity = text[start:end]
    words = _WORDS.findall(entity)
    if label == "LOCATION" and entity in _COUNTRIES:
        return label
    if not words or any(is_term(word) for word in words) or EPONYM_NOUN.match(text, end):
        return None
    capitalised = [word for word in words if word[0].isupper()]
    if not capitalised:
        return None
    lower = [word.lower().removesuffix("'s").removesuffix("’s") for word in words]
    if label == "NAME":
        return "NAME" if _is_name(entity, words, lower) else None
    if label == "ORGANIZATION":
        at_a_place = _AT_A_PLACE.search(text[max(0, start - 40) : start])
        return (
            "FACILITY"
            if at_a_place
            and not entity.isupper()
            and not set(lower) & common_words()
            and lower[0] not in names().first
            else None
        )
    if label == "FACILITY":
        if lower[0] in names().first:
            return "NAME" if _is_name(entity, words, lower) else None
        return "FACILITY" if FACILITY.fullmatch(entity) else None
    if set(lower) <= WIDE_PLACES or set(lower) <= common_words() or any(c.isdigit() for c in entity):
        return None
    if len(words) == 1 and (
        UNLIKELY_ENDING.search(lower[0]) or (entity.endswith("s") and lower[0][:-1] in common_words())
    ):
        return None
    if len(words) == 1 and entity.isupper() and len(entity) < 5 and entity not in ("NYC", "UAE"):
        return None
    return "LOCATION"


def _is_name(entity: str, words: list[str], lower: list[str]) -> bool:
    if any(character.isdigit() or character in "/@%=<>" for character in entity):
        return False
    first, last, _, _ = names()
    parts = [word for word in lower if word not in TITLES and word not in PARTICLES]
    known = [word for word in parts if (word in first or word in last) and word not in common_words()]
    if not parts or all(word in EPONYMS for word in parts):
        return False
    if len(parts) == 1:
        return bool(known) and len(parts[0]) > 2
    strange = [word for word in parts if word in common_words() or UNLIKELY_ENDING.search(word)]
    return (bool(known) and len(strange) < len(parts)) or (
        not strange and not entity.isupper() and all(word[0].isupper() for word in words)
    )
