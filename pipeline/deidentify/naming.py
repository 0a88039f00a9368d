"""Names of people word by word: what of them identifies, how they are written, what stands for them."""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from pipeline.deidentify.drawing import Draw
from pipeline.deidentify.vocabulary import PARTICLES, TITLES, names

NAME_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_POSSESSIVE = re.compile(r"['’]s?$", re.IGNORECASE)
_FEMALE_TITLES = frozenset(("mrs", "ms", "miss", "madam", "dame", "sister"))
_MALE_TITLES = frozenset(("mr", "sir", "father"))


def name_words(text: str) -> list[str]:
    """Words of a name that identify, lower-case: no titles, particles, initials."""
    words = (bare(word) for word in NAME_WORD.findall(text))
    return [word for word in words if len(word) > 1 and word not in TITLES and word not in PARTICLES]


def name_forms(found: Iterable[str]) -> dict[str, str]:
    """Lower-case word of the names: a regular expression of the forms in which it means the person.

    These are the word as it was written and in capitals ("Sharp" is a name where "sharp" is a
    pain), capitalised where only capitals were seen, and any case where small letters were.
    """
    written: dict[str, set[str]] = {}
    for text in found:
        for part in NAME_WORD.findall(text):
            if len(bare(part)) > 2 and bare(part) in name_words(part):
                written.setdefault(bare(part), set()).add(_POSSESSIVE.sub("", part))
    forms = {}
    for word, parts in sorted(written.items()):
        alike = {*parts, *(part.upper() for part in parts)}
        alike |= {part.capitalize() for part in parts if part.isupper()}
        choice = "|".join(re.escape(form) for form in sorted(alike))
        forms[word] = f"(?i:{choice})" if word in parts else f"(?:{choice})"
    return forms


def company(found: Iterable[str]) -> dict[str, set[str]]:
    """Lower-case word of the names: the other words of the names that it stands in."""
    company: dict[str, set[str]] = {}
    for text in found:
        words = set(name_words(text))
        for word in words:
            company.setdefault(word, set()).update(words - {word})
    return company


def map_names(found: Sequence[str], draw: Draw) -> dict[str, str]:
    """Lower-case word of a name: the word that stands for it."""
    roles: dict[str, set[str]] = {}
    sexes: dict[str, set[str]] = {}
    for text in found:
        before, comma, after = text.partition(",")
        titles = {word.lower() for word in NAME_WORD.findall(text)} & TITLES
        words, given = name_words(text), set(name_words(after) if comma else [])
        if comma and given:
            words = [*given, *name_words(before)]
        for place, word in enumerate(words):
            role = "last" if place == len(words) - 1 else "first"
            if comma and given:
                role = "first" if word in given else "last"
            elif len(words) == 1:
                role = "last?" if titles or word not in names().first else "first?"
            roles.setdefault(word, set()).add(role)
            sexes.setdefault(word, set()).update(
                {"female"} if titles & _FEMALE_TITLES else {"male"} if titles & _MALE_TITLES else ()
            )
    mapped: dict[str, str] = {}
    taken = set(roles)
    for word in sorted(roles):
        seen = roles[word]
        is_first = "first" in seen or ("last" not in seen and "last?" not in seen)
        pool = first_names(_sex(word, sexes[word])) if is_first and "last" not in seen else last_names()
        start = draw.number("NAME", word)
        free = (
            name
            for step in range(len(pool))
            if (name := pool[(start + step) % len(pool)]).lower() not in taken
        )
        # A group with more names than the list gets double names.
        choice = next(free, None) or f"{pool[start % len(pool)]}-{pool[len(taken) % len(pool)]}"
        taken.add(choice.lower())
        mapped[word] = choice
    return mapped


def bare(word: str) -> str:
    """Lower-case, without a possessive ending."""
    return _POSSESSIVE.sub("", word.lower())


def _sex(word: str, titled: set[str]) -> str:
    if len(titled) == 1:
        return next(iter(titled))
    return "female" if word in names().female else "male" if word in names().male else ""


def cased(surrogate: str, original: str) -> str:
    if original.isupper() and (len(original) > 1 or len(surrogate) == 1):
        return surrogate.upper()
    return surrogate.lower() if original.islower() else surrogate


@lru_cache
def first_names(sex: str) -> tuple[str, ...]:
    """First names of the United States: ``female``, ``male``, or both together."""
    from faker.providers.person.en_US import Provider

    chosen = {"female": [Provider.first_names_female], "male": [Provider.first_names_male]}
    lists = chosen.get(sex, [Provider.first_names_female, Provider.first_names_male])
    return tuple(sorted({str(name) for names_of in lists for name in names_of}))


@lru_cache(maxsize=1)
def last_names() -> tuple[str, ...]:
    from faker.providers.person.en_US import Provider

    return tuple(sorted({str(name) for name in Provider.last_names if str(name).isalpha()}))


@lru_cache(maxsize=1)
def last_name_set() -> frozenset[str]:
    return frozenset(last_names())
