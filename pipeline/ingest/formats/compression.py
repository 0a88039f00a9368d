"""A file's bytes inflated in pieces of bounded size, whatever it claims to hold.

The first bytes say how a file is compressed; its name may be wrong. Members (gzip) and frames
(zstd) may follow each other. What precedes an early end is exact; what lies around any other
damage is not, and the file is refused.
"""

import io
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import BinaryIO

import zstandard

from pipeline.ingest.formats.block import Unreadable
from pipeline.params import Limits

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
MAGIC = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}
_STARTS = {
    "gzip": (MAGIC["gzip"],),
    "zstd": (MAGIC["zstd"], *(bytes([0x50 + n]) + b"\x2a\x4d\x18" for n in range(16))),  # skippable frames
}

PIECE_BYTES = 2**22
GZIP_INPUT_BYTES = 64 * 2**10
ZSTD_INPUT_BYTES = 2 * 2**10
"""Read at once: four bytes may inflate to 128 KiB, and zstandard knows no limit for what it returns."""

SMALL_BYTES = 64 * 2**20
"""Below this size no ratio is too high: short texts that repeat themselves are no bombs."""


class EarlyEnd(Exception):
    """The content ends too early; what came before it is exact."""


def opened(file: Path | bytes) -> BinaryIO:
    return io.BytesIO(file) if isinstance(file, bytes) else file.open("rb")


def pieces(file: Path | bytes, compression: str | None, limits: Limits) -> Iterator[bytes]:
    """Content in pieces, none empty. Raises Unreadable, or EarlyEnd after the last whole piece."""
    with opened(file) as stream:
        start = stream.read(4)
        found = next((name for name, magic in MAGIC.items() if start.startswith(magic)), compression)
        stream.seek(0)
        size = 0
        for piece in _inflated(stream, found) if found else iter(lambda: stream.read(PIECE_BYTES), b""):
            size += len(piece)
            if size > limits.file_bytes:
                raise Unreadable("file_too_large")
            if found and size > SMALL_BYTES and size > limits.ratio * stream.tell():
                raise Unreadable("zip_bomb")
            yield piece


def _inflated(stream: BinaryIO, compression: str) -> Iterator[bytes]:
    member = _gzip_member if compression == "gzip" else _zstd_frame
    data = stream.read(ZSTD_INPUT_BYTES)
    while data:
        try:
            data = yield from member(stream, data)
        except (zlib.error, zstandard.ZstdError):
            raise Unreadable("unreadable_file") from None
        data = _next_member(stream, data, compression)
        if data and not data.startswith(_STARTS[compression]):
            raise EarlyEnd


def _gzip_member(stream: BinaryIO, data: bytes) -> Generator[bytes, None, bytes]:
    """Yields content, returns what was read behind it."""
    inflate = zlib.decompressobj(wbits=31)
    while True:
        if piece := inflate.decompress(data, PIECE_BYTES):
            yield piece
        if inflate.eof:
            return inflate.unused_data
        data = inflate.unconsumed_tail or stream.read(GZIP_INPUT_BYTES)
        if not data:
            raise EarlyEnd


def _zstd_frame(stream: BinaryIO, data: bytes) -> Generator[bytes, None, bytes]:
    """Yields content, returns what was read behind it."""
    inflate = zstandard.ZstdDecompressor().decompressobj()
    while True:
        if piece := inflate.decompress(data):
            yield piece
        if inflate.eof:
            return inflate.unused_data
        data = stream.read(ZSTD_INPUT_BYTES)
        if not data:
            raise EarlyEnd


def _next_member(stream: BinaryIO, data: bytes, compression: str) -> bytes:
    """Bytes from the next member on; zeros after a gzip member are padding."""
    while True:
        if compression == "gzip":
            data = data.lstrip(b"\0")
        more = b"" if len(data) >= 4 else stream.read(ZSTD_INPUT_BYTES)
        if not more:
            return data
        data += more
