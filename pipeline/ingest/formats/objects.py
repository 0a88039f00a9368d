"""Rows of lines that each hold a JSON object.

Polars reads whole blocks; only lines that it refuses, or whose values look odd, are looked at one
by one. What is no JSON but can mean one thing only is read: NaN and Infinity (as null), control
characters within strings, numbers of any length. A name that stands twice with different values
(null after one says nothing) is refused, and so is an object nested deeper than ``limits.depth``.
"""

import codecs
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from pipeline.ingest.formats.block import (
    FIELD,
    LINE,
    REASON,
    RECORD,
    SHOWN_CHARACTERS,
    Ask,
    Rows,
    faulty,
    text_fault,
)
from pipeline.ingest.formats.documents import STRING
from pipeline.ingest.formats.lines import Lines

RAW_CONTROL = re.compile(r"[\x00-\x1f]")
MARK = codecs.BOM_UTF8
NESTING = r"[\[{]"
GIVEN = r"\s*[^n\s]"
"""A value that is not null."""
UNUSUAL = [r"\u", r"\b", "&amp;", "\0"]
"""Where ASCII text holds none of these, there is nothing that ``repair`` could change, and no NUL."""
LONG_NUMBER = 18
"""Digits from which on a number is handed on as text: polars holds no integer above 128 bits."""


class Fault(NamedTuple):
    reason: str
    field: str = RECORD


def of_lines(block: Lines, ask: Ask) -> Rows:
    """Rows of lines that each hold an object."""
    data, first, _, too_long = block
    if too_long:
        return faulty(first, "row_too_large", ask.wanted, data.decode("utf-8", "replace"))
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if not data.isascii() and MARK in data:  # files put together
        data = data.replace(b"\n" + MARK, b"\n").removeprefix(MARK)
    if (rows := _plain(data, first, ask)) is not None:
        return rows
    lines = data.removesuffix(b"\n").split(b"\n")
    return parsed(lines, range(first, first + len(lines)), ask)


def _plain(data: bytes, first: int, ask: Ask) -> Rows | None:
    """What ``parsed`` gives for lines of which none has a fault or is blank; None where one may."""
    data = data if data.endswith(b"\n") else data + b"\n"
    try:
        texts = _cut(data)
        values = pl.read_ndjson(data, schema=_columns(ask))
    except (UnicodeDecodeError, pl.exceptions.PolarsError):
        return None
    if values.height != len(texts):
        return None
    values = _with_paths(values, ask)
    odd = texts.str.contains_any(UNUSUAL).any()
    marks = texts.str.count_matches(NESTING)
    unsure = _may_be_suspect(values, texts, marks, ask) | odd
    if (
        bool((texts.str.len_bytes() > ask.limits.row_bytes).any())
        or bool((marks > ask.limits.depth).any())
        or (unsure.any() and _suspects(values.filter(unsure), texts.filter(unsure), ask, odd).any())
    ):
        return None
    return _rows(
        values,
        range(first, first + len(texts)),
        ask,
        lambda indices: texts.gather(list(indices)).str.strip_suffix("\n"),
        plain=not odd and data.isascii(),
    )


def _cut(data: bytes) -> pl.Series:
    """Lines of UTF-8, each with its end. Raises UnicodeDecodeError."""
    if not data.isascii():
        data.decode()
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))
    starts = np.concatenate([[0], ends + 1]).astype(np.int64)
    texts = pa.LargeStringArray.from_buffers(len(ends), pa.py_buffer(starts), pa.py_buffer(data))
    return pl.Series(texts, dtype=pl.String)


def _columns(ask: Ask) -> pl.Schema:
    """What is read of an object: also what holds values that are wanted from within."""
    return pl.Schema(dict.fromkeys((*ask.wanted, *_heads(ask)), pl.String))


def _heads(ask: Ask) -> dict[str, None]:
    return dict.fromkeys(name.split(".")[0] for name in ask.wanted if "." in name)


def parsed(
    lines: Sequence[bytes],
    numbers: Sequence[int],
    ask: Ask,
    unread: Mapping[int, Fault] | None = None,
    by_line: bool = True,
) -> Rows:
    """Rows of lines that each hold an object; blank ones are none.

    unread: lines by their index of which it is known already that they cannot be read.
    """
    faults = dict(unread or {})
    blank = {
        at for at, line in enumerate(lines) if line[:1] != b"{" and at not in faults and not line.strip()
    }
    if blank:
        kept = [at for at in range(len(lines)) if at not in blank]
        faults = {new: faults[at] for new, at in enumerate(kept) if at in faults}
        lines, numbers = [lines[at] for at in kept], [numbers[at] for at in kept]
    texts = _texts(lines)
    _find_absurd(texts, faults, ask)
    values, more, lenient = _values(lines, texts, faults, ask)
    faults |= more
    rows = _rows(
        values,
        numbers,
        ask,
        lambda indices: [_shown(lines[at], faults.get(at)) for at in indices],
        faults,
    )
    return replace(rows, repaired={"json": lenient} if lenient else {}, by_line=by_line)


def _rows(
    values: pl.DataFrame,
    numbers: Sequence[int],
    ask: Ask,
    raw: Callable[[Sequence[int]], Iterable[str]],
    faults: Mapping[int, Fault] | None = None,
    plain: bool = False,
) -> Rows:
    found = [faults.get(at) for at in range(values.height)] if faults else []
    reasons, fields = ([fault and fault[part] for fault in found] for part in range(2))
    return Rows(
        values.select(
            pl.Series(LINE, numbers, dtype=pl.Int64),
            *ask.wanted,
            pl.Series(REASON, reasons, dtype=pl.String) if found else pl.lit(None, pl.String).alias(REASON),
            pl.Series(FIELD, fields, dtype=pl.String) if found else pl.lit(None, pl.String).alias(FIELD),
        ),
        lambda indices: list(raw(indices)),
        plain=plain,
    )


def _find_absurd(texts: pl.Series, faults: dict[int, Fault], ask: Ask) -> None:
    """Add the lines that are no text, too long, or nested too deep."""
    for at in texts.is_null().arg_true():
        faults.setdefault(at, Fault("encoding"))
    for at in (texts.str.len_bytes() > ask.limits.row_bytes).arg_true():
        faults.setdefault(at, Fault("row_too_large"))
    for at in (texts.str.count_matches(NESTING) > ask.limits.depth).arg_true():
        if at not in faults and depth(texts[at]) > ask.limits.depth:
            faults[at] = Fault("too_deep")


def _shown(line: bytes, fault: Fault | None) -> str:
    if fault and fault.reason == "row_too_large":
        line = line[:SHOWN_CHARACTERS]
    return line.decode("utf-8", "replace")


def _texts(lines: Sequence[bytes]) -> pl.Series:
    """Lines as text, null where they are none."""
    try:
        return pl.Series(lines, dtype=pl.Binary).cast(pl.String)
    except pl.exceptions.ComputeError:
        return pl.Series([_decoded(line) for line in lines], dtype=pl.String)


def _decoded(line: bytes) -> str | None:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return None


def depth(text: str) -> int:
    """How deep arrays and objects lie within each other, in a text that may be no JSON."""
    now = deepest = 0
    for mark in re.findall(r"[\[\]{}]", STRING.sub("", text)):
        now += 1 if mark in "[{" else -1
        deepest = max(deepest, now)
    return deepest


def _values(
    lines: Sequence[bytes], texts: pl.Series, unread: Mapping[int, Fault], ask: Ask
) -> tuple[pl.DataFrame, dict[int, Fault], int]:
    """The values of lines, row for row, what else is wrong with some, and how many only a lenient
    reader can read.

    It is always polars that reads a value, so that a bad line never changes how another is read:
    where it refuses a block, the lines that Python can read are given to it, written anew if
    need be; and where it refuses those they are halved until the bad ones stand alone.
    """
    columns = _columns(ask)
    readable = [at for at in range(len(lines)) if at not in unread] if unread else range(len(lines))
    whole = _parse([lines[at] for at in readable] if unread else lines, columns)
    faults: dict[int, Fault] = {}
    renewed: dict[int, bytes] = {}
    frame = None
    if whole is not None:
        frame = whole if not unread else _aligned([(tuple(readable), whole)], columns, len(lines))
        frame = _with_paths(frame, ask)
        suspects: Iterable[int] = _suspects(frame, texts, ask).arg_true()
    else:
        suspects = readable
    for at in suspects:
        if at in unread:
            continue
        seen = look(texts[at], ask)
        if isinstance(seen, Fault):
            faults[at] = seen
        elif seen is not None:
            renewed[at] = seen
    if frame is None:
        likely = [(at, renewed.get(at) or lines[at]) for at in readable if at not in faults]
        read = list(_parse_by_halves(likely, columns))
        frame = _with_paths(_aligned(read, columns, len(lines)), ask)
        good = {at for indices, _ in read for at in indices}
        faults |= {at: Fault("not_json") for at, _ in likely if at not in good}
    else:
        renewed = {}
    return frame, faults, len(renewed.keys() - faults.keys())


def _with_paths(frame: pl.DataFrame, ask: Ask) -> pl.DataFrame:
    """Columns named ``a.b`` from what the JSON in column ``a`` holds under ``b``."""
    if not _heads(ask):
        return frame
    within = [(name, *name.split(".", 1)) for name in ask.wanted if "." in name]
    return frame.with_columns(
        pl.coalesce(
            name,
            pl.when(pl.col(head).str.starts_with("{")).then(pl.col(head)).str.json_path_match(f"$.{path}"),
        ).alias(name)
        for name, head, path in within
    )


def _suspects(frame: pl.DataFrame, texts: pl.Series, ask: Ask, escapes: bool = True) -> pl.Series:
    """Rows to be looked at: polars writes a nested value as JSON text and a lone surrogate as NUL,
    and takes the first of two values of one name. ``escapes``: there may be NUL."""
    text = pl.col(ask.texts).str
    # Searches for what is plain take a third of the time of one regular expression.
    nested = text.starts_with("[") | text.starts_with("{")
    if escapes:
        nested = nested | text.contains("\0", literal=True)
    names = "|".join(re.escape(name) for name in ask.wanted)
    given = pl.col("#text").str.count_matches(rf'"(?:{names})"\s*:{GIVEN}')
    return (
        frame.with_columns(texts.alias("#text"))
        .select(
            pl.any_horizontal(nested.fill_null(False))
            | (given > pl.sum_horizontal(pl.col(ask.wanted).is_not_null())).fill_null(False).alias("suspect")
        )
        .to_series()
    )


def _may_be_suspect(values: pl.DataFrame, texts: pl.Series, marks: pl.Series, ask: Ask) -> pl.Series:
    """All rows that ``_suspects`` finds in texts without escapes, and others, in half its time: an object
    needs one mark and each list one more, and each value a colon."""
    given = pl.sum_horizontal(pl.col(ask.wanted).is_not_null())
    needed = pl.sum_horizontal(pl.lit(1), *(pl.col(name).str.starts_with("[") for name in ask.lists))
    colons = texts.str.count_matches(rf":{GIVEN}")
    return values.select((marks > needed) | (colons > given)).to_series()


def _parse(lines: Sequence[bytes], columns: pl.Schema) -> pl.DataFrame | None:
    if not lines:
        return columns.to_frame()
    try:
        frame = pl.read_ndjson(b"\n".join(lines), schema=columns)
    except pl.exceptions.PolarsError:
        return None
    return frame if frame.height == len(lines) else None


def _parse_by_halves(
    lines: list[tuple[int, bytes]], columns: pl.Schema
) -> Iterator[tuple[tuple[int, ...], pl.DataFrame]]:
    """Indices and values of the numbered lines that can be read."""
    frame = _parse([line for _, line in lines], columns)
    if frame is not None:
        yield tuple(at for at, _ in lines), frame
    elif len(lines) > 1:
        middle = len(lines) // 2
        yield from _parse_by_halves(lines[:middle], columns)
        yield from _parse_by_halves(lines[middle:], columns)


def _aligned(
    read: list[tuple[tuple[int, ...], pl.DataFrame]], columns: pl.Schema, height: int
) -> pl.DataFrame:
    """Values by their index, null where there are none."""
    rows = pl.concat([columns.to_frame(), *(frame for _, frame in read)]).with_columns(
        pl.Series("#at", [at for indices, _ in read for at in indices], dtype=pl.Int64)
    )
    every = pl.DataFrame({"#at": range(height)}, schema={"#at": pl.Int64})
    return every.join(rows, on="#at", how="left", maintain_order="left").select(list(columns))


def look(line: str, ask: Ask) -> Fault | bytes | None:
    """What is wrong with a line; or the same as JSON, where only a lenient reader can read it."""
    lenient = RAW_CONTROL.search(line) is not None
    top: list[tuple[str, Any]] = []

    def unusual(value: Any) -> Any:
        nonlocal lenient
        lenient = True
        return value

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal top
        top = found  # the outermost object is the last to end
        return dict(reversed(found))  # of two the first, as polars has it

    def real(token: str) -> float | str:
        value = float(token)
        return value if math.isfinite(value) else unusual(token)

    try:
        value = json.loads(
            line,
            strict=False,
            object_pairs_hook=pairs,
            parse_constant=lambda _: unusual(None),
            parse_int=lambda token: int(token) if len(token) <= LONG_NUMBER else unusual(token),
            parse_float=real,
        )
    except RecursionError:
        return Fault("too_deep")
    except ValueError:
        return Fault("not_json")
    if not isinstance(value, dict):
        return Fault("not_an_object")
    return _fault_within(value, top, ask) or (json.dumps(value).encode() if lenient else None)


def _fault_within(value: dict[str, Any], top: list[tuple[str, Any]], ask: Ask) -> Fault | None:
    if len(top) > len(value):
        for name in ask.wanted:
            given = [each for own, each in top if own == name]
            if any(each is not None and each != given[0] for each in given):
                return Fault("duplicate_key", name)
    for name in ask.texts:
        found = value.get(name)
        if found is None and "." in name:
            found = _at(value, name)
        if isinstance(found, dict | list) or (isinstance(found, str) and text_fault(found)):
            return Fault("not_text", name)
    return None


def _at(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value
