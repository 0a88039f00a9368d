"""A file's bytes as rows of text: JSONL, CSV and Parquet, plain, gzip or zstd.

Every reader gives one row for each record of the file, good or not. A row that cannot be read
carries the reason and costs none of its neighbours. Numbers and booleans are taken as text.
"""

import codecs
import csv
import io
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import polars as pl
import zstandard

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".parquet": "parquet"}

RECORD = "record"
"""Stands for the field where a fault concerns the row as a whole."""

LINE, REASON, FIELD = "#line", "#reason", "#field"
"""Columns of Rows.frame beside the file's own."""


class Unreadable(Exception):
    """A file of which nothing can be trusted; its only argument is the reason."""


@dataclass(frozen=True)
class Rows:
    """The rows of one file.

    ``frame``: ``#line`` (i64, 1-based line of the file where the row starts; for Parquet the
    row's number; 0 for the file as a whole), a String column for each wanted field name, lists
    as JSON; ``#reason`` and ``#field`` (String), null where the row was read.
    ``raw``: the text of rows by their index in ``frame``.
    ``encoding``: of a text file, ``unknown`` where none can be proven.
    """

    frame: pl.DataFrame
    raw: Callable[[Sequence[int]], list[str]]
    encoding: str | None = None


def kind(name: str) -> tuple[str, str | None] | None:
    """Format and compression that a file's name says, or None for a type that is not read."""
    name = name.lower()
    for suffix, compression in COMPRESSIONS.items():
        if name.endswith(suffix):
            inner = FORMATS.get(Path(name.removesuffix(suffix)).suffix)
            return (inner, compression) if inner else None
    plain = FORMATS.get(Path(name).suffix)
    return (plain, None) if plain else None


def read(
    data: bytes, file_format: str, compression: str | None, wanted: Sequence[str], lists: Sequence[str]
) -> Rows:
    """Rows of a file's bytes.

    wanted: field names to read, others are left out. lists: those of them that may hold a list.
    A file damaged beyond trust becomes one row at line 0; a compressed text file that merely
    ends too early keeps its whole lines and gets one faulty row after them.
    """
    try:
        data, whole = _decompress(data, compression)
        if file_format == "parquet":
            if not whole:
                raise Unreadable("unreadable_file")
            return _parquet(data, wanted, lists)
        data, encoding = _utf8(data, whole)
        if not whole:
            data = data[: data.rfind(b"\n") + 1]
        rows = _csv(data, wanted) if file_format == "csv" else _jsonl(data, wanted, lists)
    except Unreadable as error:
        return Rows(_faulty(0, str(error.args[0]), wanted), lambda indices: [""] * len(indices))
    if whole:
        return Rows(rows.frame, rows.raw, encoding)
    end = rows.frame.height
    damage = _faulty(data.count(b"\n") + 1, "unreadable_file", wanted)
    return Rows(
        pl.concat([rows.frame, damage]),
        lambda indices: ["" if index == end else rows.raw([index])[0] for index in indices],
        encoding,
    )


def _faulty(line: int, reason: str, wanted: Sequence[str]) -> pl.DataFrame:
    values = dict.fromkeys(wanted) | {LINE: line, REASON: reason, FIELD: RECORD}
    return pl.DataFrame([values], schema=_schema(wanted))


def _schema(wanted: Sequence[str]) -> pl.Schema:
    return pl.Schema([(LINE, pl.Int64), *((name, pl.String) for name in (*wanted, REASON, FIELD))])


# -- compression and encoding ------------------------------------------------------------------


def _decompress(data: bytes, compression: str | None) -> tuple[bytes, bool]:
    """Content, and whether it is all there: what precedes an early end is exact, what lies
    around any other damage is not."""
    if compression is None:
        return data, True
    parts = []
    try:
        while data:
            if compression == "gzip":
                inflate = zlib.decompressobj(wbits=31)
                parts.append(inflate.decompress(data))
                finished, data = inflate.eof, inflate.unused_data.lstrip(b"\0")  # padding is allowed
            else:
                frame = zstandard.ZstdDecompressor().decompressobj()
                parts.append(frame.decompress(data))
                finished, data = frame.eof, frame.unused_data
            if not finished:
                return b"".join(parts), False
    except (zlib.error, zstandard.ZstdError):
        raise Unreadable("unreadable_file") from None
    return b"".join(parts), True


def _utf8(data: bytes, whole: bool) -> tuple[bytes, str]:
    """Content in UTF-8 and the encoding it had; bytes of an unprovable encoding stay as they are."""
    if data.startswith(codecs.BOM_UTF8):
        return data.removeprefix(codecs.BOM_UTF8), "utf-8"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return codecs.getincrementaldecoder("utf-16")().decode(data, final=whole).encode(), "utf-16"
        except UnicodeError:
            raise Unreadable("encoding") from None
    if _decodes(data, "utf-8"):
        return data, "utf-8"
    foreign = [line for line in data.split(b"\n") if not line.isascii()]
    if any(_decodes(line, "utf-8") for line in foreign):
        return data, "unknown"  # UTF-8 with damaged lines: only those are lost
    proven = [name for name, proof in (("gb18030", _is_gb18030), ("cp1252", _is_cp1252)) if proof(data)]
    if len(proven) != 1:
        return data, "unknown"
    return data.decode(proven[0]).encode(), proven[0]


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeError:
        return False
    return True


COMMON_IDEOGRAPHS = (
    "的一是不了在人有我他这中大来上个到说为子和你地出也时年得就"
    "那要下以生会自着去之过家学对可后小心多天能好都没"
)
"""The most frequent of Chinese text: together about a quarter of it."""


def _is_gb18030(data: bytes) -> bool:
    """The most common ideographs are common in it, as in no text of another encoding."""
    if not _decodes(data, "gb18030"):
        return False
    ideographs = re.findall(r"[\u4e00-\u9fff]", data.decode("gb18030"))
    common = sum(ideograph in COMMON_IDEOGRAPHS for ideograph in ideographs)
    return common >= 3 and 20 * common >= len(ideographs)


def _is_cp1252(data: bytes) -> bool:
    """Western letters beyond ASCII stand nearly alone and within words; the rest is punctuation."""
    if not _decodes(data, "cp1252"):
        return False
    text = data.decode("cp1252")
    runs = re.findall(r"[^\x00-\x7f]+", text)
    usual = set("‘’‚“”„–—…•€™°±²³µ·½¼¾×«»‹›£§©®ºª¿¡†‡‰\xa0")
    rare = set("ÿþÞðÐƒˆ˜")  # what stray bytes decode to
    if not all(
        len(run) <= 3 and all(c in usual or (c.isalpha() and c not in rare) for c in run) for run in runs
    ):
        return False
    within_words = re.findall(r"[A-Za-z][^\x00-\x7f]+|[^\x00-\x7f]+[A-Za-z]", text)
    return 2 * len(within_words) > len(runs)


# -- JSONL -------------------------------------------------------------------------------------


def _jsonl(data: bytes, wanted: Sequence[str], lists: Sequence[str]) -> Rows:
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    numbered = [(number, line) for number, line in enumerate(data.split(b"\n"), 1) if line.strip()]
    lines = [line for _, line in numbered]
    frame, good = _parse_lines(lines, pl.Schema(dict.fromkeys(wanted, pl.String)))

    # Polars writes a nested value as JSON text and a lone surrogate as NUL: such rows are looked
    # at one by one.
    texts = [name for name in wanted if name not in lists]
    nested = frame.select(pl.any_horizontal(pl.col(texts).str.contains(r"^[\[{]|\x00").fill_null(False)))
    suspect = ~good | nested.to_series()
    faults: dict[int, tuple[str, str]] = {}
    for index in suspect.arg_true():
        fault = _json_fault(lines[index], texts, read=bool(good[index]))
        if fault:
            faults[index] = fault
    found = [faults.get(index, (None, None)) for index in range(len(lines))]
    return Rows(
        frame.with_columns(
            pl.Series(LINE, [number for number, _ in numbered], dtype=pl.Int64),
            pl.Series(REASON, [reason for reason, _ in found], dtype=pl.String),
            pl.Series(FIELD, [field for _, field in found], dtype=pl.String),
        ).select(list(_schema(wanted))),
        lambda indices: [lines[index].decode("utf-8", "replace") for index in indices],
    )


def _parse_lines(lines: list[bytes], schema: pl.Schema) -> tuple[pl.DataFrame, pl.Series]:
    """The lines' values, row for row, and which lines could be read.

    All lines are parsed at once. Where that fails, the lines that Python takes for JSON are; and
    where that fails too they are halved until the bad ones stand alone. It is always polars that
    reads a line, so that a bad one never changes how another is read.
    """
    whole = _parse(lines, schema)
    if whole is not None:
        return whole, pl.repeat(True, len(lines), dtype=pl.Boolean, eager=True)
    likely = [index for index, line in enumerate(lines) if _json_fault(line, (), read=True) is None]
    read = dict(_parse_by_halves([(index, lines[index]) for index in likely], schema))
    rows = pl.concat([schema.to_frame(), *read.values()]).with_columns(
        pl.Series("#index", [index for indices in read for index in indices], dtype=pl.Int64)
    )
    every = pl.DataFrame({"#index": range(len(lines))}, schema={"#index": pl.Int64})
    aligned = every.join(
        rows.with_columns(pl.lit(True).alias("#good")), on="#index", how="left", maintain_order="left"
    )
    return aligned.select(list(schema)), aligned["#good"].fill_null(False)


def _parse(lines: list[bytes], schema: pl.Schema) -> pl.DataFrame | None:
    if not lines:
        return schema.to_frame()
    try:
        frame = pl.read_ndjson(b"\n".join(lines), schema=schema)
    except pl.exceptions.PolarsError:
        return None
    return frame if frame.height == len(lines) else None


def _parse_by_halves(
    lines: list[tuple[int, bytes]], schema: pl.Schema
) -> Iterator[tuple[tuple[int, ...], pl.DataFrame]]:
    """Indices and values of the numbered lines that can be read."""
    frame = _parse([line for _, line in lines], schema)
    if frame is not None:
        yield tuple(index for index, _ in lines), frame
    elif len(lines) > 1:
        middle = len(lines) // 2
        yield from _parse_by_halves(lines[:middle], schema)
        yield from _parse_by_halves(lines[middle:], schema)


def _json_fault(line: bytes, texts: Sequence[str], read: bool) -> tuple[str, str] | None:
    """Reason and field of what is wrong with one line; ``read``: whether polars could read it."""
    if not _decodes(line, "utf-8"):
        return "encoding", RECORD
    try:
        value = json.loads(line, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return "not_json", RECORD
    if not isinstance(value, dict):
        return "not_an_object", RECORD
    if not read:
        return "not_json", RECORD
    for name in texts:
        found = value.get(name)
        if isinstance(found, dict | list) or (isinstance(found, str) and text_fault(found)):
            return "not_text", name
    return None


def _no_constant(name: str) -> None:
    raise ValueError(f"JSON knows no {name}")


def text_fault(value: str) -> str | None:
    """Why a string is no text: it holds undecodable bytes (as lone surrogates) or NUL."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return "encoding"
    return "not_text" if "\0" in value else None


# -- CSV ---------------------------------------------------------------------------------------


class _CsvRow(NamedTuple):
    start: int  # index of its first line
    end: int
    cells: list[str] | None
    reason: str | None


def _csv(data: bytes, wanted: Sequence[str]) -> Rows:
    csv.field_size_limit(sys.maxsize)
    lines = list(io.StringIO(data.decode("utf-8", "surrogateescape"), newline=""))
    delimiter = max(",;\t|", key=lambda mark: len(set(_header(lines, mark)) & set(wanted)))
    header = _header(lines, delimiter)
    rows = list(_csv_rows(lines, delimiter, len(header)))
    columns: dict[str, list[str | int | None]] = {
        LINE: [row.start + 1 for row in rows],
        REASON: [row.reason for row in rows],
        FIELD: [RECORD if row.reason else None for row in rows],
    }
    for name in wanted:
        at = header.index(name) if name in header else None
        columns[name] = [None if at is None or row.cells is None else row.cells[at] for row in rows]

    def raw(indices: Sequence[int]) -> list[str]:
        texts = ("".join(lines[rows[index].start : rows[index].end]) for index in indices)
        return [text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for text in texts]

    return Rows(pl.DataFrame(columns, schema_overrides=_schema(wanted)).select(list(_schema(wanted))), raw)


def _header(lines: list[str], delimiter: str) -> list[str]:
    try:
        return [name.strip() for name in next(csv.reader(lines[:1], delimiter=delimiter), [])]
    except csv.Error:
        return []


def _csv_rows(lines: list[str], delimiter: str, width: int) -> Iterator[_CsvRow]:
    """Rows below the header. A quote left open swallows the lines after it: each of them is
    counted, and none is guessed at."""
    clean = text_fault("".join(lines)) is None
    reader = csv.reader(iter(lines), strict=True, delimiter=delimiter)
    header = True
    while True:
        start, cells, reason = reader.line_num, None, None
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            reason = "not_csv"
        if header:
            header = False
            continue
        end = reader.line_num
        if cells is not None:
            if not "".join(cells).strip():
                continue
            if len(cells) != width:
                reason = "wrong_columns"
            elif not clean:
                reason = text_fault("".join(lines[start:end]))
        if reason is None:
            yield _CsvRow(start, end, cells, None)
        else:
            yield from (_CsvRow(at, at + 1, None, reason) for at in range(start, end) if lines[at].strip())


# -- Parquet -----------------------------------------------------------------------------------


def _parquet(data: bytes, wanted: Sequence[str], lists: Sequence[str]) -> Rows:
    # pyarrow says what is wrong with a damaged file; polars' own reader panics, loudly.
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(io.BytesIO(data))
        present = [name for name in wanted if name in file.schema_arrow.names]
        table = file.read(columns=present or None)
        table.validate(full=True)
        frame = pl.DataFrame(pl.from_arrow(table)).select(present)
    except (pyarrow.ArrowException, pl.exceptions.PolarsError, OSError, ValueError):
        raise Unreadable("unreadable_file") from None
    found, height = frame.schema, table.num_rows
    texts = frame.select(
        _as_json(frame[name]) if found[name].is_nested() else pl.col(name).cast(pl.String, strict=False)
        for name in present
    )
    no_text = [
        pl.when(
            pl.Series(frame[name].is_not_null())
            & (found[name].is_nested() | texts[name].is_null() | texts[name].str.contains("\0", literal=True))
        ).then(pl.lit(name))
        for name in present
        if name not in lists
    ]
    numbers = pl.DataFrame({LINE: range(1, height + 1)}, schema={LINE: pl.Int64})
    rows = numbers.hstack(texts)
    return Rows(
        rows.with_columns(
            *(pl.lit(None, pl.String).alias(name) for name in wanted if name not in found),
            pl.coalesce(*no_text, pl.lit(None, pl.String)).alias(FIELD),
        )
        .with_columns(pl.when(pl.col(FIELD).is_not_null()).then(pl.lit("not_text")).alias(REASON))
        .select(list(_schema(wanted))),
        lambda indices: [json.dumps(row, ensure_ascii=False) for row in rows[indices].drop(LINE).to_dicts()],
    )


def _as_json(values: pl.Series) -> pl.Series:
    texts = [
        None if value is None else json.dumps(value, ensure_ascii=False, default=lambda _: None)
        for value in values.to_list()
    ]
    return pl.Series(values.name, texts, dtype=pl.String)
