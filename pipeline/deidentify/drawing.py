"""What is drawn from the key: numbers, and values of the same shape as others.

Everything is drawn by HMAC-SHA256 from the key, the group, the kind and the normalised value:
without the key nothing links a surrogate to its original, nor two groups of one person.
"""

import hmac
import re
from collections.abc import Iterator, Sequence

_EXTENSION = re.compile(r"\s*(?:x|ext\.?|extension)\s*\d{1,6}$", re.IGNORECASE)
_EXTENSION_DIGITS = re.compile(r"\d+")
_WHOLE = re.compile(r"[^\W_]+")


def pseudonym(key: bytes, kind: str, *values: str, digits: int = 20) -> str:
    """Hex digits that stand for an id everywhere in the data set."""
    return _mac(key, kind, *values).hex()[:digits]


def _mac(key: bytes, *parts: str) -> bytes:
    # Each part is preceded by its length, so that no two lists of parts are one message.
    message = b"".join(len(part.encode()).to_bytes(8) + part.encode() for part in parts)
    return hmac.digest(key, message, "sha256")


class Draw:
    """The draws of one group of records."""

    def __init__(self, key: bytes, group: str) -> None:
        self._key = key
        self._group = group

    def number(self, *parts: str) -> int:
        """A number of 256 bits, the same for the same parts."""
        return int.from_bytes(_mac(self._key, self._group, *parts))

    def _digits(self, *parts: str) -> Iterator[int]:
        """An endless stream of numbers below 256."""
        block = 0
        while True:
            yield from _mac(self._key, self._group, *parts, str(block))
            block += 1

    def shaped(self, kind: str, text: str) -> str:
        """Digits for digits, letters for letters; a first digit other than 0 stays other than 0."""
        normal = "".join(_WHOLE.findall(text)).lower()
        for attempt in range(100):
            stream = iter(self._digits(kind, normal, str(attempt)))
            first, characters = True, []
            for character in text:
                if character.isdigit():
                    number = next(stream)
                    characters.append(str(1 + number % 9 if first and character != "0" else number % 10))
                elif character.isalpha():
                    letter = chr(ord("a") + next(stream) % 26)
                    characters.append(letter.upper() if character.isupper() else letter)
                else:
                    characters.append(character)
                first = first and not character.isalnum()
            shaped = "".join(characters)
            if shaped.lower() != text.lower():
                return shaped
        return text

    def phone(self, text: str) -> str:
        """The shape kept; a North American number gets the exchange 555, which is nobody's."""
        extension = _EXTENSION.search(text)
        number = text[: extension.start()] if extension else text
        digits = [character for character in number if character.isdigit()]
        shaped = self.shaped("PHONE", number)
        local = 7 if len(digits) == 7 else 10 if len(digits) in (10, 11) else 0
        if local and (not number.startswith("+") or number.startswith("+1")):
            new = [character for character in shaped if character.isdigit()]
            new[-7:-4] = "555"
            if len(digits) == 11:
                new[0] = digits[0]
            if new == digits:
                new[-1] = str((int(new[-1]) + 1) % 10)
            stream = iter(new)
            shaped = "".join(next(stream) if character.isdigit() else character for character in number)
        return shaped + (
            _EXTENSION_DIGITS.sub(lambda m: self.shaped("PHONE", m[0]), extension[0]) if extension else ""
        )

    def email(self, text: str, first: Sequence[str], last: Sequence[str]) -> str:
        """An address at example.com, .org or .net, of a first name and a surname of the lists."""
        address = text.lower()
        given = first[self.number("EMAIL", address, "first") % len(first)]
        family = last[self.number("EMAIL", address, "last") % len(last)]
        domain = ("com", "org", "net")[self.number("EMAIL", address, "domain") % 3]
        return f"{given}.{family}@example.{domain}".lower()

    def url(self, text: str) -> str:
        scheme = re.match(r"[a-z]+://", text, re.IGNORECASE)
        host = "www.example.org" if not scheme and text.lower().startswith("www.") else "example.org"
        return (
            scheme[0] if scheme else ""
        ) + f"{host}/{pseudonym(self._key, self._group, 'URL', text.lower(), digits=8)}"

    def ip(self, text: str) -> str:
        number = self.number("IP", text.lower())
        if ":" in text:
            return f"2001:db8::{number % 65536:x}:{number // 65536 % 65536:x}"
        return f"{('192.0.2', '198.51.100', '203.0.113')[number % 3]}.{number // 3 % 256}"
