"""Names by what introduces them: a title, a label, a greeting, a relation, an occupation."""

import re

from pipeline.deidentify.eponyms import EPONYM_NOUN
from pipeline.deidentify.known_names import PARTICLE, WORD
from pipeline.deidentify.shape import Shape
from pipeline.deidentify.vocabulary import AMBIGUOUS, FUNCTION_WORDS, MEDICAL, TITLES, common_words, names

_TITLE = r"(?:Dr|Mr|Mrs|Ms|Mx|Miss|Prof|Professor|Doctor|Nurse|Sir|Dame|Rev|Reverend|Capt|Sgt)"
_NAME = rf"(?:[^\W\d_a-z]\.|(?!I\b){WORD})"
_NAMES = rf"{_NAME}(?:[ ]{PARTICLE}{_NAME}){{0,2}}"
_NAME_LABEL = (
    r"(?:Patient(?:['’]s)?(?:\s+name)?|Name|Pt|Attending|Physician|Provider|Surgeon|Signed(?:\s+by)?|"
    r"(?:Electronically\s+)?[Ss]igned\s+by|Dictated\s+by|Referred\s+by|Referring|Ordered\s+by|Author|Contact|Emergency\s+contact|"
    r"Guardian|Caregiver|Spouse|Resident|Consultant|Nurse|Cc|CC|Next\s+of\s+kin|PCP)"
)


def _name_words(text: str) -> list[str]:
    """Lower-case words without titles."""
    words = re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", text.lower())
    return [word for word in words if word not in TITLES]


def _is_person(match: re.Match[str]) -> bool:
    words = _name_words(match["phi"])
    if not words or EPONYM_NOUN.match(match.string, match.end("phi")):
        return False
    known = names()
    terms = [word for word in words if word in MEDICAL and word not in known.first and word not in known.last]
    return not terms and any(len(word) > 1 for word in words)


def _is_likely_person(match: re.Match[str]) -> bool:
    """For labels that other words follow too: a known name among the words, and none that is none."""
    words = _name_words(match["phi"])
    known = names().all
    return _is_person(match) and (
        any(word in known and word not in common_words() for word in words) or _is_full_name(words)
    )


def _is_full_name(words: list[str]) -> bool:
    """A first name and a surname, whatever else they mean ("Faith Knight"), in either order."""
    known = names()
    return (
        len(words) > 1
        and not set(words) & (FUNCTION_WORDS | MEDICAL)
        and any(
            given in known.first and family in known.last
            for given, family in ((words[0], words[-1]), (words[-1], words[0]))
        )
    )


def _is_addressed(match: re.Match[str]) -> bool:
    """After a title in small letters: a known name, and an English word only after one like "mr."."""
    title, *words = re.findall(r"[a-z]+(?:-[a-z]+)?", match["phi"])
    known = names().all
    plain = title in ("mr", "mrs", "ms", "miss") or (title == "dr" and "." in match["phi"])
    return all(
        word in known and (word not in common_words() or (plain and word in AMBIGUOUS)) for word in words
    )


def _is_described(match: re.Match[str]) -> bool:
    """Before "is a 56-year-old": words of names alone, whatever else they mean."""
    words = _name_words(match["phi"])
    known = names().all
    return bool(words) and all(
        len(word) > 2 and word in known and word not in FUNCTION_WORDS | MEDICAL for word in words
    )


def _is_hailed(match: re.Match[str]) -> bool:
    """After "Hi": a name as after other labels, or a first name that is a word too ("Summer")."""
    word = match["phi"].lower()
    hailed = word in names().first and word not in FUNCTION_WORDS | MEDICAL | TITLES | {
        "all",
        "there",
        "team",
    }
    return hailed or _is_likely_person(match)


def _is_greeted(match: re.Match[str]) -> bool:
    word = match["phi"].lower()
    return word in names().first and word not in FUNCTION_WORDS | MEDICAL | {"will", "may", "today"}


SHAPES = [
    Shape(
        "",
        "NAME",
        re.compile(rf"\b(?P<phi>(?:{_TITLE}|DR|MR|MRS|MS)\b\s?\.?\s+{PARTICLE}{_NAMES})"),
        _is_person,
    ),
    Shape(
        "",
        "NAME",
        re.compile(r"\b(?P<phi>(?:dr|mr|mrs|ms|doctor|nurse|miss)(?:\s?\.)?\s+[a-z]{3,}(?:-[a-z]+)?)\b"),
        _is_addressed,
    ),
    Shape(
        "year",
        "NAME",
        re.compile(
            r"(?<![\w.@/-])(?P<phi>[^\W\d_]{3,}(?:[ ][^\W\d_]{3,})?)"
            r"(?=[ ](?:is|was)[ ]an?[ ](?:[a-z]+[ ,]+){0,3}?\d{1,3}[ ]?-?[ ]?year)"
        ),
        _is_described,
    ),
    Shape(
        "you",
        "NAME",
        re.compile(
            r"\b(?:nice|good|great|glad)\s+(?:to\s+)?(?:see|seeing|meet|meeting)\s+you\s*,?\s+(?P<phi>[^\W\d_]{3,})\b",
            re.I,
        ),
        _is_greeted,
    ),
    Shape(
        ",",
        "NAME",
        re.compile(
            rf"(?P<phi>{_NAME}(?:[ ]{PARTICLE}{_NAME}){{1,2}}),\s*"
            r"(?:M\.?D\.?|D\.?O\.?|R\.?N\.?|N\.?P\.?|PA-?C?|Ph\.?D\.?|DDS|FNP|LPN|MBBS)\b"
        ),
        _is_person,
    ),
    Shape(
        ":",
        "NAME",
        re.compile(rf"\b{_NAME_LABEL}\s*:\s*(?P<phi>{_NAME}(?:,[ ]|[ ]){_NAME}(?:[ ]{_NAME})?)"),
        _is_likely_person,
    ),
    Shape(
        "",
        "NAME",
        re.compile(
            rf"\b(?i:my\s+name\s+is|name\s+is|named|called|this\s+is|I\s+am|I['’]m)\s+(?P<phi>{_NAMES})"
        ),
        _is_likely_person,
    ),
    Shape(
        "",
        "NAME",
        re.compile(
            rf"\b(?:sister|brother|wife|husband|spouse|partner|son|daughter|mother|father|aunt|uncle|cousin|friend|niece|nephew|"
            rf"girlfriend|boyfriend|fianc[eé]e?|neighbor|neighbour|caregiver|maiden\s+name\s+is),?\s+(?P<phi>{_NAMES})"
        ),
        _is_person,
    ),
    Shape(
        "",
        "NAME",
        re.compile(
            rf"\b(?i:dear|hi|hello|hey|best|regards|sincerely|cheers|thanks|yours)(?:\s*,)?\s+"
            rf"(?P<phi>{_NAME}(?:[ ]{_NAME})?)(?=\s*(?:[,.!?]|$|\n))"
        ),
        _is_hailed,
    ),
]
