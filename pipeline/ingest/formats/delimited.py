r"""CSV: a header, then a row a line, or over several lines where a quoted cell holds line ends.

The delimiter (, ; tab |) and the quotes (" ') are those under which the header has most of the
wanted names; a backslash escapes quotes where more of the first rows can be read so; a first line
``sep=;`` says it itself. A row of another width is refused, for nobody knows which cell is which, and
so is the header where it comes again, as in files put together. Rows of empty cells are blank lines.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import polars as pl

from pipeline.ingest.formats.block import (
    BLOCK_BYTES,
    FIELD,
    LINE,
    REASON,
    RECORD,
    SHOWN_CHARACTERS,
    Ask,
    Rows,
    Unreadable,
    faulty,
    schema,
    shown,
    text_fault,
)
from pipeline.ingest.formats.content import Content
from pipeline.ingest.formats.lines import blocks

HEAD_LINES = 200
SEPARATOR = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)


class Dialect(NamedTuple):
    delimiter: str
    quote: str = '"'
    escape: str | None = None

    def reader(self, lines: Iterator[str]) -> Any:
        return csv.reader(
            lines, strict=True, delimiter=self.delimiter, quotechar=self.quote, escapechar=self.escape
        )


class _Lines:
    """Hands out a text's lines and remembers those since ``taken`` was last emptied."""

    def __init__(self, content: Content) -> None:
        self._blocks = blocks(content)
        self._held: list[str] = []
        self._at = 0
        self.number = 0  # of the last line handed out
        self.characters = 0  # handed out, to be set back by who reads them
        self.taken: list[str] = []
        self.clean = True  # False from the first piece on that holds NUL or undecodable bytes
        self.too_long = 0  # number of the last line that was not kept whole
        self._fill()

    def _fill(self) -> bool:
        block = next(self._blocks, None)
        if block is None:
            return False
        text = block.data.decode("utf-8", "surrogateescape")
        self.clean = self.clean and text_fault(text) is None
        if block.too_long:
            self.too_long = block.first
        self._held, self._at = [text] if block.too_long else list(io.StringIO(text, newline="")), 0
        return True

    def head(self) -> list[str]:
        return self._held[self._at : self._at + HEAD_LINES]

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        if self._at >= len(self._held) and not self._fill():
            raise StopIteration
        line = self._held[self._at]
        self._at += 1
        self.number += 1
        self.characters += len(line)
        self.taken.append(line)
        return line


def read(content: Content, ask: Ask) -> Iterator[Rows]:
    """Rows of a CSV file; ``#line`` is where each starts. A quote left open swallows the lines after
    it: each of them is counted, and none is guessed at."""
    csv.field_size_limit(ask.limits.row_bytes)
    lines = _Lines(content)
    dialect = _dialect(lines, ask.wanted)
    reader = dialect.reader(lines)
    header = _names(reader)
    if len(header) > ask.limits.columns:
        raise Unreadable("too_many_columns")
    table = _Table(header, ask)
    while True:
        lines.taken = []
        start, cells, reason = lines.number + 1, None, None
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            too_large = len(lines.taken) == 1 and "limit" in str(error)
            reason = "row_too_large" if too_large else "not_csv"
        if cells is not None:
            if not any(cells) or not "".join(cells).strip():
                continue
            reason = _fault(cells, header, lines, start, ask)
        if cells is not None and reason is None:
            table.rows.append(_Row(start, cells, None, lines.taken))
        else:
            table.rows += [
                _Row(number, None, reason, [line[:SHOWN_CHARACTERS]])
                for number, line in enumerate(lines.taken, start)
                if line.strip()
            ]
        if lines.characters >= BLOCK_BYTES:
            lines.characters = 0
            yield table.block()
    yield table.block()
    if not content.whole:
        yield faulty(lines.number + 1, "unreadable_file", ask.wanted)


class _Row(NamedTuple):
    line: int
    cells: list[str] | None
    reason: str | None
    text: list[str]


class _Table:
    """Rows under a header, until they make a block."""

    def __init__(self, header: Sequence[str], ask: Ask) -> None:
        self._ask = ask
        self._places = {name: [at for at, own in enumerate(header) if own == name] for name in ask.wanted}
        self._twice = {name: at for name, at in self._places.items() if len(at) > 1}
        self.rows: list[_Row] = []

    def block(self) -> Rows:
        rows, self.rows = self.rows, []
        faults = [(row.reason, RECORD) if row.reason else self._differing(row.cells or []) for row in rows]
        columns: dict[str, list[str | int | None]] = {
            LINE: [row.line for row in rows],
            REASON: [reason for reason, _ in faults],
            FIELD: [field for _, field in faults],
        }
        for name, places in self._places.items():
            at = places[0] if places else None
            columns[name] = [None if at is None or row.cells is None else row.cells[at] for row in rows]
        order = schema(self._ask.wanted)
        return Rows(
            pl.DataFrame(columns, schema_overrides=order).select(list(order)),
            lambda indices: shown(rows[index].text for index in indices),
        )

    def _differing(self, cells: Sequence[str]) -> tuple[str | None, str | None]:
        """Whether a name that stands twice in the header has two values here."""
        for name, places in self._twice.items():
            if len({cells[at] for at in places}) > 1:
                return "duplicate_key", name
        return None, None


def _fault(cells: Sequence[str], header: Sequence[str], lines: _Lines, start: int, ask: Ask) -> str | None:
    if lines.too_long >= start or sum(map(len, lines.taken)) > ask.limits.row_bytes:
        return "row_too_large"
    if len(cells) != len(header):
        return "wrong_columns"
    if cells[-1].strip() == header[-1] and [cell.strip("\ufeff ") for cell in cells] == header:
        return "repeated_header"
    return None if lines.clean else text_fault("".join(lines.taken))


def _names(reader: Iterator[list[str]]) -> list[str]:
    try:
        return [name.strip() for name in next(filter(any, reader), [])]
    except csv.Error:
        return []


def _dialect(lines: _Lines, wanted: Sequence[str]) -> Dialect:
    while (head := lines.head()) and not head[0].strip():
        next(lines)
    if head and (said := SEPARATOR.fullmatch(head[0])):
        next(lines)
        head = head[1:]
        found = Dialect(said.group(1))
    else:
        every = [Dialect(delimiter, quote) for quote in "\"'" for delimiter in ",;\t|"]
        found = max(every, key=lambda one: len(set(_names(one.reader(iter(head[:1])))) & set(wanted)))
    escaped = found._replace(escape="\\")
    if any("\\" + found.quote in line for line in head) and _readable(head, escaped) > _readable(head, found):
        return escaped
    return found


def _readable(head: list[str], dialect: Dialect) -> int:
    """How many of the first rows have the header's width."""
    reader = dialect.reader(iter(head))
    width, count = len(_names(reader)), 0
    while True:
        try:
            count += len(next(reader)) == width
        except StopIteration:
            return count
        except csv.Error:
            continue
