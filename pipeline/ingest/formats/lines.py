"""Lines of a text in blocks of bounded size, whatever ends them."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

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
    # bytes.count takes three times as long.
    count = int(np.count_nonzero(np.frombuffer(data, np.uint8) == ord("\n")))
    return count + (data.count(b"\r") - data.count(b"\r\n") if b"\r" in data else 0)


def blocks(content: Content) -> Iterator[Lines]:
    """All lines of a text; of one that ends too early, not the last, which is not whole."""
    parts: list[bytes] = []
    size, first, skipping = 0, 1, False
    limit = max(BLOCK_BYTES, content.limits.row_bytes)
    for piece in content.utf8():
        parts.append(piece)
        size += len(piece)
        block = b""
        if skipping:
            held = b"".join(parts)
            start = _first_end(held)
            skipping = not start
            parts = [held[start:] if start else held[-1:]]
        elif size < BLOCK_BYTES:
            continue
        elif end := _last_end(piece):  # joined and cut here, a block is copied once
            block = b"".join([*parts[:-1], memoryview(piece)[:end]])
            parts = [piece[end:]]
        elif size > limit:
            held = b"".join(parts)
            if end := _last_end(held):
                block, parts = held[:end], [held[end:]]
            else:
                yield Lines(held[:SHOWN_CHARACTERS], first, first + 1, too_long=True)
                first += 1
                parts, skipping = [held[-1:]], True
        if block:
            after = first + _ends(block)
            yield Lines(block, first, after)
            first = after
        size = sum(map(len, parts))
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
