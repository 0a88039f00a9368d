"""JSON: an object a line (JSONL), or arrays, objects after each other, objects over many lines.

What the objects hold is read by ``objects``.
"""

import codecs
import re
from collections.abc import Iterator
from itertools import chain

from pipeline.ingest.formats import lines as text_lines
from pipeline.ingest.formats.block import BLOCK_BYTES, Ask, Rows, faulty
from pipeline.ingest.formats.content import Content
from pipeline.ingest.formats.documents import Element, Reader, is_document
from pipeline.ingest.formats.lines import Lines
from pipeline.ingest.formats.objects import Fault, parsed

HEAD_BYTES = 2**18


def read(content: Content, ask: Ask) -> Iterator[Rows | Lines]:
    """Rows of a file of JSON, or its lines for ``of_lines``; see the module's docstring."""
    head, whole = start_of(content)
    return _elements(content, ask) if is_document(head, whole) else _lines(content, ask)


def start_of(content: Content) -> tuple[str, bool]:
    """The first characters of a text, and whether they are all."""
    head = b""
    for piece in content.utf8():
        head += piece
        if len(head) > HEAD_BYTES:
            return head.decode("utf-8", "replace"), False
    return head.decode("utf-8", "replace"), content.whole


def _lines(content: Content, ask: Ask) -> Iterator[Rows | Lines]:
    number = 1
    for lines in text_lines.blocks(content):
        number = lines.after
        yield lines
    if not content.whole:
        yield faulty(number, "unreadable_file", ask.wanted)


def _elements(content: Content, ask: Ask) -> Iterator[Rows | Lines]:
    number, size = 1, 0
    held: list[Element] = []

    def block() -> Rows:
        lines = [re.sub(r"[\r\n]", " ", each.text).encode("utf-8", "surrogateescape") for each in held]
        unread = {at: Fault(each.reason) for at, each in enumerate(held) if each.reason}
        return parsed(lines, range(number, number + len(lines)), ask, unread, by_line=False)

    for element in Reader(characters(content), ask.limits.row_bytes).elements():
        held.append(element._replace(value=None))
        size += len(element.text)
        if size >= BLOCK_BYTES // 4:  # a character has up to four bytes
            yield block()
            number, size = number + len(held), 0
            held.clear()
    if not content.whole:
        if held and not held[-1].text:
            held.pop()  # that the array did not end
        if held and held[-1].reason:
            held.pop()  # the element that was cut
    yield block()
    if not content.whole:
        yield faulty(number + len(held), "unreadable_file", ask.wanted, by_line=False)


def characters(content: Content) -> Iterator[str]:
    """A text in pieces, none empty; undecodable bytes become lone surrogates."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    pieces = (decoder.decode(piece) for piece in content.utf8())
    return (piece for piece in chain(pieces, (decoder.decode(b"", final=True) for _ in "1")) if piece)
