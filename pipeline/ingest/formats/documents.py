"""JSON values that are no lines: arrays, values one after the other, printed over many lines.

A value is found by decoding it, so that only one is held at a time. After a broken one, reading
goes on at the next object; what lies between is one faulty element.
"""

import json
import re
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

from pipeline.ingest.formats.block import SHOWN_CHARACTERS

SPACE = re.compile(r"[\s\ufeff\x1e]*")  # also the marks of joined files and of JSON text sequences
NEXT_OBJECT = re.compile(r"[,\[\]}\n]\s*(?=\{)")
MARK, QUOTED_MARK = re.compile(r'["\[\]{}]'), re.compile(r'["\\]')
STRING, CONTROL = re.compile(r'"(?:[^"\\]|\\.)*"'), re.compile(r"[\x00-\x1f]")
RAN_OUT = 16
"""An error this near to the end of what is held may be a word or an escape that was cut."""

# Numbers stay text: only where a value ends is asked, and Python refuses integers of 5,000 digits.
STRICT = json.JSONDecoder(parse_int=str, parse_float=str)
LENIENT = json.JSONDecoder(parse_int=str, parse_float=str, strict=False)


class Element(NamedTuple):
    text: str
    value: Any = None
    reason: str | None = None


class Reader:
    """Reads values from pieces of text; no value may be longer than ``limit`` characters."""

    def __init__(self, pieces: Iterator[str], limit: int) -> None:
        self._pieces = pieces
        self._limit = limit
        self._text, self._at = "", 0

    def elements(self, within: str | None = None) -> Iterator[Element]:
        """Every value that is no array, and every item of those that are, however they are separated.

        within: of an object outside any array, the items of its member of this name come first,
        and the object with their number in their place is the last element.
        """
        arrays = 0
        while mark := self._peek():
            if mark == "[":
                arrays += 1
            elif mark == "]":
                arrays -= 1
            if mark in ",[]":
                self._at += 1
            elif mark == "{" and within and arrays <= 0:
                yield from self._members(within)
            else:
                yield self._element()
        if arrays > 0:
            yield Element("", reason="not_json")  # the array is cut short

    def _members(self, within: str) -> Iterator[Element]:
        self._at += 1
        rest: dict[str, Any] = {}
        while (mark := self._peek()) not in ("}", ""):
            if mark == ",":
                self._at += 1
                continue
            name = self._element()
            if not isinstance(name.value, str) or self._peek() != ":":
                yield (
                    name if name.reason or isinstance(name.value, dict) else name._replace(reason="not_json")
                )
                continue
            self._at += 1
            if name.value == within and self._peek() == "[":
                rest[within] = yield from self._items()
            else:
                member = self._element()
                rest[name.value] = member.value
                if member.reason:
                    yield member
        if not mark:
            yield Element("", reason="not_json")
        self._at += 1
        yield Element(json.dumps(rest, ensure_ascii=False), rest)

    def _items(self) -> Generator[Element, None, int]:
        """Yields items, returns their number."""
        self._at += 1
        count = 0
        while (mark := self._peek()) not in ("]", ""):
            if mark == ",":
                self._at += 1
            else:
                yield self._element()
                count += 1
        self._at += 1
        return count

    def _peek(self) -> str:
        while True:
            found = SPACE.match(self._text, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _more(self) -> bool:
        """Hold twice as much as is left, or all; False where there is no more."""
        held = [self._text[self._at :]]
        size, wanted = 0, len(held[0]) + 1
        while size < wanted and (piece := next(self._pieces, "")):
            held.append(piece)
            size += len(piece)
        self._text, self._at = "".join(held), 0
        return size > 0

    def _element(self) -> Element:
        self._peek()
        while True:
            try:
                value, end, strict = self._decoded()
            except RecursionError:
                return self._skipped("too_deep")
            except json.JSONDecodeError as error:
                if not _ran_out(error, len(self._text)):
                    return self._broken(error.pos)
                if len(self._text) - self._at > self._limit:
                    return self._skipped("row_too_large")
                if not self._more():
                    return self._broken(len(self._text))
                continue
            if end == len(self._text) and not isinstance(value, dict | list) and self._more():
                continue  # 12 may go on as 123
            text = self._text[self._at : end]
            self._at = end
            if not strict:  # line ends within its strings are text
                text = STRING.sub(lambda found: CONTROL.sub(_escaped, found.group()), text)
            if len(text) > self._limit:
                return Element(text[:SHOWN_CHARACTERS], reason="row_too_large")
            return Element(text, value)

    def _decoded(self) -> tuple[Any, int, bool]:
        """The value, where it ends, and whether it is JSON as it should be."""
        try:
            return *STRICT.raw_decode(self._text, self._at), True
        except json.JSONDecodeError as error:
            if not error.msg.startswith("Invalid control character"):
                raise
        return *LENIENT.raw_decode(self._text, self._at), False

    def _broken(self, position: int) -> Element:
        """From here to the next object behind the error, which is where reading goes on."""
        text = self._text[self._at : self._at + SHOWN_CHARACTERS]
        before = len(self._text[self._at : position].rstrip())
        self._at += max(before - 1, 0)
        while not (found := NEXT_OBJECT.search(self._text, self._at)):
            self._at = max(self._at, len(self._text.rstrip()) - 1)
            if not self._more():
                self._at = len(self._text)
                break
        else:
            self._at = found.end()
        return Element(text, reason="not_json")

    def _skipped(self, reason: str) -> Element:
        """The value that begins here, without being decoded or kept."""
        text = self._text[self._at : self._at + SHOWN_CHARACTERS]
        depth, quoted = 0, False
        while True:
            found = (QUOTED_MARK if quoted else MARK).search(self._text, self._at)
            self._at = found.end() if found else len(self._text)
            if self._at == len(self._text) and not self._more() and not found:
                break
            mark = found.group() if found else ""
            if mark == "\\":
                self._at += 1
            elif mark == '"':
                quoted = not quoted
            elif mark:
                depth += 1 if mark in "[{" else -1
            if mark and depth <= 0 and not quoted:
                break
        return Element(text, reason=reason)


def _escaped(control: re.Match[str]) -> str:
    return f"\\u{ord(control.group()):04x}"


def _ran_out(error: json.JSONDecodeError, length: int) -> bool:
    return error.pos >= length - RAN_OUT or error.msg.startswith("Unterminated string")


def is_document(head: str, whole: bool) -> bool:
    """Whether a text is read value by value, not line by line. head: its start, ``whole`` if all of it.

    Lines it is wherever one of the first two is an object of its own: a broken line among good
    ones then costs none of them.
    """
    text = head.strip("\ufeff \t\r\n")
    lines = [line for line in re.split(r"[\r\n]+", text, maxsplit=4) if line.strip()]
    ended = lines if whole else lines[:-1]
    if text.startswith("\x1e"):
        return True
    if text.startswith("["):
        return text[1:].lstrip()[:1] in ("{", "]") and not (
            len(lines) > 1 and _is_json(lines[0]) and _is_object(lines[1])
        )
    if not text.startswith("{") or any(map(_is_object, ended[:2])):
        return False
    try:
        STRICT.raw_decode(text)
    except json.JSONDecodeError as error:
        # What the second line goes on with belongs to the first.
        second = len(text) if len(lines) < 2 else text.index(lines[1], len(lines[0])) + 1
        return error.pos >= second or (not whole and _ran_out(error, len(text)))
    except RecursionError:
        return False
    return True


def _is_json(line: str) -> bool:
    try:
        LENIENT.decode(line)
    except (ValueError, RecursionError):
        return False
    return True


def _is_object(line: str) -> bool:
    return line.lstrip().startswith("{") and _is_json(line)
