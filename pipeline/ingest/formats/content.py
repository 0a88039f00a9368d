"""The text of a file: which encoding it has is proven by all of it, then it is read as UTF-8.

Two passes, each of bounded memory. ``utf-8``, ``utf-16`` (by its mark; ``utf-16-le``, ``utf-16-be``
without one, by the zeros of its first four bytes), ``gb18030``, ``cp1252``; bytes of an unprovable
encoding stay as they are, and the lines that hold them are refused one by one.
"""

import codecs
import io
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pipeline.ingest.formats.block import Unreadable
from pipeline.ingest.formats.compression import EarlyEnd, opened, pieces
from pipeline.params import Limits

UTF16 = {"utf-16", "utf-16-le", "utf-16-be"}

COMMON_IDEOGRAPHS = (
    "的一是不了在人有我他这中大来上个到说为子和你地出也时年得就"
    "那要下以生会自着去之过家学对可后小心多天能好都没"
)
"""The most frequent of Chinese text: together about a quarter of it."""

USUAL_WESTERN = set("‘’‚“”„–—…•€™°±²³µ·½¼¾×«»‹›£§©®ºª¿¡†‡‰\xa0")
STRAY_WESTERN = set("ÿþÞðÐƒˆ˜")
"""What stray bytes decode to in cp1252."""

LONG_LINE_BYTES = 4 * 2**20
WHOLE_BYTES = (b'"', b",", b" ")
"""Part of no other character in any of the encodings: a long line may be cut there."""


class Survey(NamedTuple):
    encoding: str
    whole: bool  # False where the content ends too early


class Content:
    """A file's content, read from its start as often as asked."""

    def __init__(self, file: Path | bytes, compression: str | None, limits: Limits) -> None:
        self._source = (file, compression, limits)
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
        finder = _Finder()
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
        encoding = self.survey.encoding
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

    def __init__(self) -> None:
        self._start = b""
        self._rest = b""
        self._utf16: codecs.IncrementalDecoder | None = None
        self._name: str | None = None
        self._utf8_lines = False
        self._foreign: list[_Gb18030 | _Cp1252] = []

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

    def encoding(self, whole: bool) -> str:
        if self._name:
            return self._name
        if whole and self._rest:
            self._lines(self._rest)
        if not self._foreign:
            return "utf-8"
        proven = [proof.name for proof in self._foreign if proof.holds()]
        return proven[0] if len(proven) == 1 and not self._utf8_lines else "unknown"

    def _lines(self, data: bytes) -> None:
        if self._name or (self._foreign and self._utf8_lines) or data.isascii():
            return
        if _decodes(data, "utf-8"):
            self._utf8_lines = True
            return
        if not self._foreign:
            self._foreign = [_Gb18030(), _Cp1252()]
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


class _Gb18030:
    """The most common ideographs are common in it, as in no text of another encoding."""

    name = "gb18030"

    def __init__(self) -> None:
        self._decodes = True
        self._ideographs = self._common = 0

    def feed(self, lines: bytes) -> None:
        try:
            text = lines.decode(self.name) if self._decodes else ""
        except UnicodeError:
            self._decodes = False
            return
        ideographs = re.findall(r"[\u4e00-\u9fff]", text)
        self._ideographs += len(ideographs)
        self._common += sum(ideograph in COMMON_IDEOGRAPHS for ideograph in ideographs)

    def holds(self) -> bool:
        return self._decodes and self._common >= 3 and 20 * self._common >= self._ideographs


class _Cp1252:
    """Western letters beyond ASCII stand nearly alone and within words; the rest is punctuation."""

    name = "cp1252"

    def __init__(self) -> None:
        self._usual = True
        self._runs = self._within_words = 0

    def feed(self, lines: bytes) -> None:
        if not self._usual or not _decodes(lines, self.name):
            self._usual = False
            return
        text = lines.decode(self.name)
        runs = re.findall(r"[^\x00-\x7f]+", text)
        self._usual = all(len(run) <= 3 and all(map(_is_western, run)) for run in runs)
        self._runs += len(runs)
        self._within_words += len(re.findall(r"[A-Za-z][^\x00-\x7f]+|[^\x00-\x7f]+[A-Za-z]", text))

    def holds(self) -> bool:
        return self._usual and 2 * self._within_words > self._runs


def _is_western(character: str) -> bool:
    return character in USUAL_WESTERN or (character.isalpha() and character not in STRAY_WESTERN)
