"""Surrogates: invented values that stand for what was found, the same for the same value in a group.

Everything is drawn by HMAC-SHA256 from the key, the group, the kind and the normalised value:
without the key nothing links a surrogate to its original, nor two groups of one person. Names
are mapped word by word, so that "Ada Moss", "Moss, Ada" and "Mrs. Moss" stay one person.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from pipeline.deidentify import dates
from pipeline.deidentify.chinese_surrogates import is_chinese, stand_in
from pipeline.deidentify.drawing import Draw
from pipeline.deidentify.eponyms import EPONYM_NOUN
from pipeline.deidentify.facilities import FACILITY
from pipeline.deidentify.lists import words
from pipeline.deidentify.naming import (
    NAME_WORD,
    bare,
    cased,
    company,
    first_names,
    last_name_set,
    last_names,
    map_names,
    name_forms,
    name_words,
)
from pipeline.deidentify.places import ADDRESS, CITY_STATE
from pipeline.deidentify.spans import Span, resolve
from pipeline.deidentify.vocabulary import PARTICLES, STATES, TITLES, common_words, countries

SMALL_ZIP = words(
    """
    036 059 063 102 203 556 692 790 821 823 830 831 878 879 884 890 893
    """
)
"""ZIP prefixes of 20,000 people or fewer in the census of 2000 (HHS guidance on 45 CFR 164.514)."""

OLDEST = "90+"
"""What stands for every age above 89."""

WEEKS = 52
"""Dates move by 1 to this many weeks, either way."""

_WHOLE = re.compile(r"[^\W_]+")
_PLACE_WORD = re.compile(r"[^\W\d_]+(?:['’.-][^\W\d_]+)*")
_KEPT_IN_ADDRESSES = words(
    """
    street st avenue ave road rd lane ln drive dr court ct boulevard blvd place pl way terrace ter circle
    cir parkway pkwy highway hwy square sq trail trl crescent close alley row walk loop plaza pike
    turnpike apartment apt suite ste unit room rm floor fl box po p o psc apo fpo dpo aa ae ap n s e w ne
    nw se sw north south east west the corner of and at
    """
)
_SAINT = re.compile(r"(?:St\.?|Saint)\s+")
_TITLE_BEFORE = (
    r"\b(?:(?i:dr|mr|mrs|ms|mx|prof|rev|capt|sgt)\b[ ]?\.?[ ]*|(?:Doctor|Nurse|Miss|Professor|Sir|Madam|Dame|"
    r"Reverend|Father|Sister)[ ]+)"
)
_INITIAL = r"(?:[^\W\d_]\.?[ ]+)?"
_BEFORE = re.compile(rf"(?:{_TITLE_BEFORE}|\b(?P<word>{NAME_WORD.pattern})(?:,[ ]*|[ ]+{_INITIAL}))$")
_AFTER = re.compile(
    r",[ ]*(?:M\.?D|D\.?O|R\.?N|N\.?P|PA|Ph\.?D|DDS|FNP|LPN)\b"
    rf"|(?:,[ ]*|[ ]+{_INITIAL})(?P<word>{NAME_WORD.pattern})"
)
_NEIGHBOUR = 40
"""Characters in which the word before a name is looked for."""

_SHAPED = ("ID", "PHONE", "EMAIL", "URL", "IP", "ADDRESS", "FACILITY", "LOCATION")


class Replaced(NamedTuple):
    """A text after replacement, and where its surrogates and, in the text before, their originals lie."""

    text: str
    spans: list[Span]
    originals: list[Span]


class Surrogates:
    """The surrogates of one group of records.

    ``found``: what was found anywhere in the group, as (kind, text). ``dates``: ``shift`` or
    ``year``, as in params.yaml.
    """

    def __init__(self, key: bytes, group: str, found: Iterable[tuple[str, str]], dates: str) -> None:
        self._draw_from = Draw(key, group)
        self._known: dict[tuple[str, str], str] = {}
        number = self._draw_from.number("weeks") % (2 * WEEKS)
        self._weeks = None if dates == "year" else number - WEEKS if number < WEEKS else number - WEEKS + 1
        self._taken: dict[str, dict[str, str]] = {}
        values = sorted(set(found))
        persons = [text for kind, text in values if kind == "NAME" and not is_chinese(kind, text)]
        self._names = map_names(persons, self._draw_from)
        self._company = company(persons)
        self.pattern = self._pattern([value for value in values if not is_chinese(*value)])
        self._chinese = _chinese_pattern(values)
        # In this order, so that what a place becomes does not depend on the record that names it first.
        for kind, text in values:
            if kind in ("ADDRESS", "FACILITY", "LOCATION"):
                self.of(kind, text)

    def of(self, kind: str, text: str) -> str:
        """What stands for ``text``; the text itself where nothing in it identifies anybody."""
        if (kind, text) not in self._known:
            self._known[kind, text] = self._draw(kind, text)
        return self._known[kind, text]

    def _draw(self, kind: str, text: str) -> str:
        if kind != "AGE" and is_chinese(kind, text):
            return stand_in(kind, text, self._draw_from, self._weeks)
        if kind == "NAME":
            return self._name(text)
        if kind == "DATE":
            return dates.replaced(text, self._weeks) or self._draw_from.shaped("DATE", text)
        if kind == "AGE":
            return OLDEST
        if kind == "ZIP":
            return _zip(text) if text[:3].isdigit() and len(text) >= 5 else self._draw_from.shaped(kind, text)
        if kind == "ADDRESS":
            return self._address(text)
        if kind == "FACILITY":
            return self._facility(text)
        if kind == "LOCATION":
            return self._location(text)
        if kind == "PHONE":
            return self._draw_from.phone(text)
        if kind == "EMAIL":
            return self._draw_from.email(text, first_names(""), last_names())
        if kind == "URL":
            return self._draw_from.url(text)
        if kind == "IP":
            return self._draw_from.ip(text)
        return self._draw_from.shaped(kind, text)

    def replace(self, fields: Sequence[str], findings: Sequence[Sequence[Span]]) -> list[Replaced]:
        """The fields of one record with everything exchanged that was found in them or in the group.

        ``fields``: the input first. A date with a year that is found in one field is one in all,
        and so is an age that is a whole field. A field that is nothing but a name, or a date
        without year, is one where the input means nothing else by it.
        """
        found = {
            (span.kind, text[span.start : span.end])
            for text, spans in zip(fields, findings, strict=True)
            for span in spans
        }
        # 5/10 may be a day here and a score there.
        dated = sorted(
            (text for kind, text in found if kind == "DATE" and dates.has_year(text)),
            key=lambda text: (-len(text), text),
        )
        again = re.compile(rf"(?<![\w/])(?:{'|'.join(map(re.escape, dated))})(?![\w/])") if dated else None
        replaced: list[Replaced] = []
        in_input: list[Span] = []
        for text, spans in zip(fields, findings, strict=True):
            more = self.matches(text)
            if again:
                more += [Span(*match.span(), "DATE") for match in again.finditer(text)]
            if ("AGE", text.strip()) in found:
                more.append(Span(0, len(text), "AGE"))
            if (
                replaced
                and ("DATE", text.strip()) in found
                and _always(text.strip(), "DATE", fields[0], in_input)
            ):
                more.append(Span(0, len(text), "DATE"))
            if replaced and self._names and self._is_name(text, fields[0], in_input):
                more.append(Span(0, len(text), "NAME"))
            resolved = resolve([*spans, *more], text)
            if not replaced:
                in_input = resolved
            replaced.append(self._exchanged(text, resolved))
        return replaced

    def _is_name(self, text: str, input_text: str, in_input: Sequence[Span]) -> bool:
        """Whether a text is made of capitalised words of names that are nothing else in the input."""
        words = name_words(text)
        return (
            bool(words)
            and all(word in self._names for word in words)
            and all(word[0].isupper() for word in NAME_WORD.findall(text))
            and not NAME_WORD.sub("", text).strip(" .,'’")
            and all(_always(word, "NAME", input_text, in_input) for word in words)
        )

    def _exchanged(self, text: str, spans: Sequence[Span]) -> Replaced:
        pieces: list[str] = []
        surrogates: list[Span] = []
        originals: list[Span] = []
        length = position = 0
        for start, end, kind in spans:
            original = text[start:end]
            surrogate = self.of(kind, original)
            pieces += [text[position:start], surrogate]
            length += start - position
            if surrogate != original:
                surrogates.append(Span(length, length + len(surrogate), kind))
                originals.append(Span(start, end, kind))
            length += len(surrogate)
            position = end
        return Replaced("".join([*pieces, text[position:]]), surrogates, originals)

    def matches(self, text: str) -> list[Span]:
        """Where values found elsewhere in the group stand in ``text``."""
        spans = [
            Span(*match.span(), str(match.lastgroup))
            for match in (self._chinese.finditer(text) if self._chinese else ())
        ]
        for match in self.pattern.finditer(text) if self.pattern else ():
            kind = match.lastgroup or "NAME"
            if kind == "COMMON":
                if not self._is_accompanied(text, match):
                    continue
                kind = "NAME"
            if kind != "NAME" or not EPONYM_NOUN.match(text, match.end()):
                spans.append(Span(match.start(), match.end(), kind))
        return spans

    def _is_accompanied(self, text: str, match: re.Match[str]) -> bool:
        """Whether a name that is a word too stands beside a title or another word of its person's name."""
        others = self._company.get(match[0].lower(), set())
        before = _BEFORE.search(text, max(0, match.start() - _NEIGHBOUR), match.start())
        for beside in (before, _AFTER.match(text, match.end())):
            if beside and (
                beside["word"] is None or (beside["word"][0].isupper() and bare(beside["word"]) in others)
            ):
                return True
        return False

    def _own(self, kind: str, value: str, names: Sequence[str], endings: Sequence[str] = ("",)) -> str:
        """A name with an ending: another one for each value of the group, while there are enough names."""
        taken = self._taken.setdefault(kind, {})
        if value not in taken:
            start = self._draw_from.number(kind, value)
            ending = endings[start // 1000 % len(endings)]
            used = set(taken.values())
            free = (
                name
                for step in range(len(names))
                if (name := names[(start + step) % len(names)] + ending) not in used
            )
            taken[value] = next(free, None) or names[start % len(names)] + ending
        return taken[value]

    # Names.

    def _name(self, text: str) -> str:
        def exchange(match: re.Match[str]) -> str:
            word = match[0]
            lower = bare(word)
            if lower in TITLES or lower in PARTICLES:
                return word
            ending = word[len(lower) :] if len(word) > len(lower) else ""
            if len(lower) == 1:
                return self._initial(word)
            surrogate = (
                self._names.get(lower)
                or last_names()[self._draw_from.number("NAME", lower) % len(last_names())]
            )
            return cased(surrogate, word[: len(lower)]) + ending

        return NAME_WORD.sub(exchange, text)

    def _initial(self, letter: str) -> str:
        """The initial of the one whose name starts so, or another letter."""
        for word in sorted(self._names):
            if word.startswith(letter.lower()) and self._names[word] in last_name_set():
                return cased(self._names[word][0], letter)
        other = chr(ord("A") + self._draw_from.number("INITIAL", letter.lower()) % 26)
        other = other if other != letter.upper() else chr(ord("A") + (ord(other) - ord("A") + 1) % 26)
        return cased(other, letter)

    # Places.

    def _city(self, text: str) -> str:
        place = self._own("CITY", " ".join(text.lower().split()), last_names(), _city_suffixes())
        return place.upper() if text.isupper() and len(text) > 3 else place

    def _street_word(self, word: str) -> str:
        return cased(self._own("STREET", word.lower(), last_names()), word)

    def _location(self, text: str) -> str:
        match = CITY_STATE.fullmatch(text)
        if match:
            return self._in_parts(text, match, {"city": self._city, "zip": _zip})
        for known in (tuple(sorted(STATES.values())), countries()):
            if text in known:
                return self._own("LOCATION", text.lower(), [name for name in known if name != text])
        return self._city(text)

    def _address(self, text: str) -> str:
        match = ADDRESS.fullmatch(text)
        if not match:
            return self._address_words(text)
        shaped = dict.fromkeys(("number", "street", "unit"), self._address_words)
        return self._in_parts(text, match, {**shaped, "city": self._city, "town": self._city, "zip": _zip})

    def _address_words(self, text: str) -> str:
        text = re.sub(r"\d+", lambda digits: self._draw_from.shaped("ADDRESS", digits[0]), text)
        return _PLACE_WORD.sub(
            lambda word: (
                word[0]
                if bare(word[0]).rstrip(".") in _KEPT_IN_ADDRESSES or word[0] in STATES or len(word[0]) == 1
                else self._street_word(word[0])
            ),
            text,
        )

    def _facility(self, text: str) -> str:
        match = FACILITY.fullmatch(text)
        head, kind = (text[: match.start("type")], match["type"]) if match else (text, "Hospital")
        saint = _SAINT.match(head)
        name = self._own("FACILITY", " ".join(head.lower().split()), last_names())
        town = f" of {self._city(match['town'])}" if match and match["town"] else ""
        return f"{saint[0] if saint else ''}{name} {kind}{town}"

    def _in_parts(self, text: str, match: re.Match[str], by: dict[str, Callable[[str], str]]) -> str:
        """``text`` with the groups of its match exchanged, everything else kept."""
        for part in sorted((p for p in by if match[p]), key=match.start, reverse=True):
            text = text[: match.start(part)] + by[part](match[part]) + text[match.end(part) :]
        return text

    # Values found elsewhere in the group.

    def _pattern(self, values: Sequence[tuple[str, str]]) -> re.Pattern[str] | None:
        parts = []
        for kind in _SHAPED:
            texts = {
                text
                for other, text in values
                if other == kind and sum(map(str.isalnum, text)) >= (5 if kind == "LOCATION" else 4)
            }
            if texts:
                choice = "|".join(re.escape(text) for text in sorted(texts, key=lambda t: (-len(t), t)))
                flag = "" if kind in ("LOCATION", "FACILITY") else "?i:"
                parts.append(f"(?P<{kind}>({flag}{choice}))" if flag else f"(?P<{kind}>{choice})")
        # After the longer shapes: an e-mail address holds its owner's name.
        forms = name_forms(text for kind, text in values if kind == "NAME")
        for kind, common in (("NAME", False), ("COMMON", True)):
            words = [word for word in forms if (word in common_words()) == common]
            if words:
                choice = "|".join(forms[word] for word in sorted(words, key=lambda w: (-len(w), w)))
                parts.append(f"(?P<{kind}>{choice})")
        return re.compile(rf"(?<!\w)(?:{'|'.join(parts)})(?!\w)") if parts else None


def _chinese_pattern(values: Sequence[tuple[str, str]]) -> re.Pattern[str] | None:
    """Values in Chinese by kind, wherever they stand: Chinese sets no spaces between words."""
    parts = []
    for kind in ("ADDRESS", "FACILITY", "NAME", "ID", "PHONE"):
        texts = {text for other, text in values if other == kind and len(text) > 1 and is_chinese(kind, text)}
        if texts:
            choice = "|".join(re.escape(text) for text in sorted(texts, key=lambda t: (-len(t), t)))
            parts.append(f"(?P<{kind}>{choice})")
    return re.compile("|".join(parts)) if parts else None


def digit_runs(text: str) -> set[str]:
    """Numbers of six digits and more."""
    return set(re.findall(r"(?<!\d)\d{6,}(?!\d)", text))


def _always(value: str, kind: str, text: str, spans: Sequence[Span]) -> bool:
    """Whether ``value`` stands in the text, in whatever case, and nowhere outside spans of its kind."""
    places = [m.span() for m in re.finditer(rf"(?i)(?<![\w/]){re.escape(value)}(?![\w/])", text)]
    return bool(places) and all(
        any(span.kind == kind and span.start <= start and end <= span.end for span in spans)
        for start, end in places
    )


def _zip(text: str) -> str:
    """Three digits and zeros; all zeros where few people live."""
    prefix = "000" if text[:3] in SMALL_ZIP else text[:3]
    return prefix + "".join("0" if character.isdigit() else character for character in text[3:])


@lru_cache(maxsize=1)
def _city_suffixes() -> tuple[str, ...]:
    from faker.providers.address.en_US import Provider

    return tuple(sorted(set(Provider.city_suffixes)))
