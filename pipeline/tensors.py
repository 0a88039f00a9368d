"""safetensors files by their headers: what tensors they hold, without torch and without the values.

Format: eight bytes, the header's length N (little-endian); N bytes of JSON, ``{name: {dtype, shape,
data_offsets}}``; then the values, without gaps (https://github.com/huggingface/safetensors#format).
"""

import json
import math
from pathlib import Path
from typing import Any

LENGTH = 8
"""Bytes before the header that tell its length."""

LIMIT = 100_000_000
"""Bytes of the longest header that the format allows."""

_BITS = {"F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16}
_BITS |= {"I16": 16, "U16": 16, "I8": 8, "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8}

Shapes = dict[str, tuple[int, ...]]
"""Shape of each tensor by its name."""


def header_length(start: bytes) -> int:
    """Bytes of the header, from the file's first eight. Raises ValueError."""
    length = int.from_bytes(start[:LENGTH], "little")
    if len(start) < LENGTH or not 2 <= length <= LIMIT:
        raise ValueError("it does not begin with the length of a header")
    return length


def shapes(start: bytes, size: int) -> Shapes:
    """The tensors of a file of ``size`` bytes, from its length and header in ``start``.

    Raises ValueError, which says what no safetensors file has.
    """
    end = LENGTH + header_length(start)
    try:
        header: dict[str, Any] = json.loads(start[LENGTH:end])
        named = {name: each for name, each in header.items() if name != "__metadata__"}
        found = {name: tuple(each["shape"]) for name, each in named.items()}
        spans = sorted((*each["data_offsets"], name) for name, each in named.items())
        widths = {name: _BITS[each["dtype"]] * math.prod(found[name]) for name, each in named.items()}
        if any(type(place) is not int for begin, stop, _ in spans for place in (begin, stop)):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("its header is damaged") from None
    at = 0
    for begin, stop, name in spans:
        if begin != at or 8 * (stop - begin) != widths[name]:
            raise ValueError(f"the place of {name} does not fit its shape")
        at = stop
    if end + at != size:
        raise ValueError(f"it has {size} bytes, and its header speaks of {end + at}")
    return found


def read_shapes(path: Path) -> Shapes:
    """``shapes`` of a file on this disk. Raises ValueError."""
    with path.open("rb") as file:
        start = file.read(LENGTH)
        start += file.read(header_length(start))
    return shapes(start, path.stat().st_size)
