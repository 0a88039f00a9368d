"""The text of a file: which encoding it has is decided by all of it, then it is read as UTF-8.

Two passes, each of bounded memory. Proven: ``utf-8``, ``utf-16`` (by its mark; ``utf-16-le``,
``utf-16-be`` without one, by the zeros of its first four bytes). Else what ``ingest.sources`` says.
Guessed: ``gb18030`` and ``cp1252``, where nearly all characters beyond ASCII (CONFIDENT) are what
such text holds. Bytes of any other encoding stay as they are (``unknown``), and the lines that hold
them are refused one by one.
"""

import codecs
import io
import re
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pipeline.ingest.formats.block import Encoding, Unreadable
from pipeline.ingest.formats.compression import EarlyEnd, opened, pieces
from pipeline.params import Limits

UTF16 = {"utf-16", "utf-16-le", "utf-16-be"}

COMMON_IDEOGRAPHS = (
    "的一是不了在人有我他这中大来上个到说为子和你地出也时年得就"
    "那要下以生会自着去之过家学对可后小心多天能好都没"
)
"""The most frequent of Chinese text: together about a quarter of it."""

CONFIDENT = 0.98

ALPHABETS = [
    set("àâæçèéêëîïôœùûüÿìòäöß"),  # French, German and Italian, as in Switzerland
    set("áàâãçèéêëíïóòôõúüñ"),  # of the Iberian peninsula
    set("åäöæøéèàüßóô"),  # Nordic
    set("áàäçèéêëíïóöúü"),  # Dutch
]
"""Letters beyond ASCII that stand in one text. Text of central Europe (cp1250) or of DOS (cp850), read
as cp1252, has those of no one of them."""

USUAL_WESTERN = set("‘’‚“”„–—…•€™°±²³µ·½¼¾×«»‹›£§©®ºª¿¡†‡‰\xa0")
STRAY_WESTERN = set("ÿþÞðÐƒˆ˜")
"""What stray bytes decode to in cp1252."""

ODD = re.compile(r"[a-z][^\x00-\x7fa-zà-öø-ÿœ’–—…·\xad](?=[a-z])")
"""A capital or a mark between small letters."""

LONG_LINE_BYTES = 4 * 2**20
WHOLE_BYTES = (b'"', b",", b" ")
"""Part of no other character in any of the encodings: a long line may be cut there."""


class Survey(NamedTuple):
    encoding: Encoding
    whole: bool  # False where the content ends too early


class Content:
    """A file's content, read from its start as often as asked."""

    def __init__(
        self, file: Path | bytes, compression: str | None, limits: Limits, said: str | None = None
    ) -> None:
        """said: its encoding, where somebody says it."""
        self._source = (file, compression, limits)
        self._said = said
        self.limits = limits

    def pieces(self) -> Iterator[bytes]:
        """Inflated bytes; they merely stop where the content ends too early.

        Raises Unreadable where the file is damaged, or larger than the limits allow.
        """
        try:
            yield from pieces(*self._source)
        except EarlyEnd:
            return

    def file(self) -> BinaryIO:
        """All of a binary file, to be read at any place; one that is compressed is held in memory.

        Raises Unreadable where it is damaged or ends too early.
        """
        file, compression, _ = self._source
        if compression is None:
            return opened(file)
        try:
            return io.BytesIO(b"".join(pieces(*self._source)))
        except EarlyEnd:
            raise Unreadable("unreadable_file") from None

    @cached_property
    def survey(self) -> Survey:
        """Encoding, and whether the content is whole; reads all of it."""
        finder = _Finder(self._said)
        try:
            for piece in pieces(*self._source):
                finder.feed(piece)
        except EarlyEnd:
            return Survey(finder.encoding(whole=False), False)
        return Survey(finder.encoding(whole=True), True)

    @property
    def whole(self) -> bool:
        return self.survey.whole

    def utf8(self) -> Iterator[bytes]:
        """The text as UTF-8 without a mark, in pieces that may end within a character."""
        encoding = self.survey.encoding.name
        if encoding in ("utf-8", "unknown"):
            return _without_mark(self.pieces())
        return self._transcoded(encoding)

    def _transcoded(self, encoding: str) -> Iterator[bytes]:
        errors = "surrogatepass" if encoding in UTF16 else "strict"
        decoder = codecs.getincrementaldecoder(encoding)(errors)
        for piece in self.pieces():
            yield decoder.decode(piece).encode("utf-8", errors)
        try:
            yield decoder.decode(b"", final=True).encode("utf-8", errors)
        except UnicodeDecodeError:
            yield b"\xff"  # half a character at the end: its line is no text


def _without_mark(pieces: Iterator[bytes]) -> Iterator[bytes]:
    start = b""
    for piece in pieces:
        start += piece
        if len(start) >= len(codecs.BOM_UTF8):
            break
    yield start.removeprefix(codecs.BOM_UTF8)
    yield from pieces


class _Finder:
    """Finds the encoding of pieces fed to it; a piece counts once its last line has ended."""

    def __init__(self, said: str | None) -> None:
        self._said = said
        self._start = b""
        self._rest = b""
        self._utf16: codecs.IncrementalDecoder | None = None
        self._name: str | None = None
        self._utf8_lines = False
        self._foreign: list[_Said | _Gb18030 | _Cp1252] = []

    def feed(self, piece: bytes) -> None:
        if len(self._start) < 4:
            self._start += piece[:4]
            self._name, self._utf16 = _by_start(self._start)
        if self._utf16:
            try:
                self._utf16.decode(piece)
            except UnicodeError:
                self._name = self._utf16 = None
        if not self._rest and piece.isascii():
            return  # which says nothing, wherever its last line ends
        self._rest += piece
        end = self._rest.rfind(b"\n") + 1
        if not end and len(self._rest) > LONG_LINE_BYTES:
            end = max(map(self._rest.rfind, WHOLE_BYTES)) + 1 or len(self._rest)
        self._lines(self._rest[:end])
        self._rest = self._rest[end:]

    def encoding(self, whole: bool) -> Encoding:
        if self._name:
            return Encoding(self._name)
        if whole and self._rest:
            self._lines(self._rest)
        if not self._foreign:
            return Encoding("utf-8")
        found = {each.name: each.confidence() for each in self._foreign}
        likely = [name for name, confidence in found.items() if confidence >= CONFIDENT]
        if len(likely) != 1 or self._utf8_lines:
            return Encoding("unknown")
        return Encoding(likely[0], None if self._said else round(found[likely[0]], 3))

    def _lines(self, data: bytes) -> None:
        if self._name or (self._foreign and self._utf8_lines) or data.isascii():
            return
        if _decodes(data, "utf-8"):
            self._utf8_lines = True
            return
        if not self._foreign:
            self._foreign = [_Said(self._said)] if self._said else [_Gb18030(), _Cp1252()]
        lines = (line for line in data.split(b"\n") if not line.isascii())
        # UTF-8 with damaged lines: only those are lost.
        self._utf8_lines = self._utf8_lines or any(_decodes(line, "utf-8") for line in lines)
        for proof in self._foreign:
            proof.feed(data)


def _by_start(start: bytes) -> tuple[str | None, codecs.IncrementalDecoder | None]:
    """UTF-16 by the first bytes; without a mark, all that follows must decode as well."""
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16", None
    zeros = "".join("0" if byte == 0 else "x" for byte in start)
    name = {"x0x0": "utf-16-le", "0x0x": "utf-16-be"}.get(zeros)
    return name, codecs.getincrementaldecoder(name)() if name else None


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeError:
        return False
    return True


class _Said:
    """An encoding that somebody says: it only has to decode."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._decodes = True

    def feed(self, lines: bytes) -> None:
        self._decodes = self._decodes and _decodes(lines, self.name)

    def confidence(self) -> float:
        return float(self._decodes)


class _Gb18030:
    """The most common ideographs are common in it, as in no text of another encoding."""

    name = "gb18030"

    def __init__(self) -> None:
        self._decodes = True
        self._foreign = self._plain = self._ideographs = self._common = 0

    def feed(self, lines: bytes) -> None:
        try:
            text = lines.decode(self.name) if self._decodes else ""
        except UnicodeError:
            self._decodes = False
            return
        foreign = re.sub(r"[\x00-\x7f]", "", text)
        self._foreign += len(foreign)
        self._plain += len(foreign.encode("gb2312", "ignore")) // 2
        ideographs = re.findall(r"[\u4e00-\u9fff]", text)
        self._ideographs += len(ideographs)
        self._common += sum(ideograph in COMMON_IDEOGRAPHS for ideograph in ideographs)

    def confidence(self) -> float:
        """Share of characters that are in everyday use (GB 2312)."""
        holds = self._decodes and self._common >= 3 and 20 * self._common >= self._ideographs
        return self._plain / self._foreign if holds else 0.0


class _Cp1252:
    """Western letters beyond ASCII stand nearly alone and within words; the rest is punctuation."""

    name = "cp1252"

    def __init__(self) -> None:
        self._usual = True
        self._runs = self._within_words = self._odd = 0
        self._characters: Counter[str] = Counter()

    def feed(self, lines: bytes) -> None:
        if not self._usual or not _decodes(lines, self.name):
            self._usual = False
            return
        text = lines.decode(self.name)
        runs = re.findall(r"[^\x00-\x7f]+", text)
        self._usual = all(len(run) <= 3 and all(map(_is_western, run)) for run in runs)
        self._runs += len(runs)
        self._within_words += len(re.findall(r"(?<=[A-Za-z])[^\x00-\x7f]+|[^\x00-\x7f]+(?=[A-Za-z])", text))
        self._odd += len(ODD.findall(text))
        self._characters.update("".join(runs).lower())

    def confidence(self) -> float:
        """Share of characters that are letters of neighbouring languages or marks, in their places."""
        if not self._usual or 2 * self._within_words <= self._runs:
            return 0.0
        letters = {letter: count for letter, count in self._characters.items() if letter.isalpha()}
        foreign = min(
            sum(count for letter, count in letters.items() if letter not in alphabet)
            for alphabet in ALPHABETS
        )
        return 1 - (foreign + self._odd) / self._characters.total()


def _is_western(character: str) -> bool:
    return character in USUAL_WESTERN or (character.isalpha() and character not in STRAY_WESTERN)
