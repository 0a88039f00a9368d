"""Lines of a text in blocks of bounded size, whatever ends them."""

from collections.abc import Iterator
from typing import NamedTuple

from pipeline.ingest.formats.block import BLOCK_BYTES, SHOWN_CHARACTERS
from pipeline.ingest.formats.content import Content


class Lines(NamedTuple):
    """Whole lines with their ends; ``first``, ``after``: numbers of the first and of what follows;
    ``too_long``: it is the start of a single line that was not kept in memory."""

    data: bytes
    first: int
    after: int
    too_long: bool = False


def _ends(data: bytes) -> int:
    r"""How many lines end in ``data``: by \n, \r\n or \r."""
    return data.count(b"\n") + (data.count(b"\r") - data.count(b"\r\n") if b"\r" in data else 0)


def blocks(content: Content) -> Iterator[Lines]:
    """All lines of a text; of one that ends too early, not the last, which is not whole."""
    parts: list[bytes] = []
    size, first, skipping = 0, 1, False
    limit = max(BLOCK_BYTES, content.limits.row_bytes)
    for piece in content.utf8():
        parts.append(piece)
        size += len(piece)
        if size < BLOCK_BYTES and not skipping:
            continue
        held = b"".join(parts)
        if skipping:
            start = _first_end(held)
            skipping = not start
            held = held[start:] if start else held[-1:]
        elif end := _last_end(held):
            block, held = held[:end], held[end:]
            after = first + _ends(block)
            yield Lines(block, first, after)
            first = after
        elif size > limit:
            yield Lines(held[:SHOWN_CHARACTERS], first, first + 1, too_long=True)
            first += 1
            held, skipping = held[-1:], True
        parts, size = [held], len(held)
    rest = b"" if skipping else b"".join(parts)
    if not content.whole:
        rest = rest[: max(rest.rfind(b"\n"), rest.rfind(b"\r")) + 1]
    if rest:
        yield Lines(rest, first, first + _ends(rest))


def _first_end(data: bytes) -> int:
    r"""Where the second line starts, 0 where that is not known: a \r at the end may have its \n to come."""
    ends = [at for at in (data.find(b"\n"), data.find(b"\r", 0, len(data) - 1)) if at >= 0]
    if not ends:
        return 0
    end = min(ends)
    return end + (2 if data[end : end + 2] == b"\r\n" else 1)


def _last_end(data: bytes) -> int:
    """Where the last line starts that has not ended yet, 0 where it is the first."""
    return max(data.rfind(b"\n"), data.rfind(b"\r", 0, len(data) - 1)) + 1
