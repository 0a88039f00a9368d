"""Rows, as every format gives them: a block of a file's records as text."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import polars as pl

from pipeline.params import Limits, Source

RECORD = "record"
"""Stands for the field where a fault concerns the row as a whole."""

LINE, REASON, FIELD = "#line", "#reason", "#field"
"""Columns of Rows.frame beside the file's own."""

BLOCK_BYTES = 8 * 2**20
"""Text from which on a block ends; with one row of ``limits.row_bytes`` more it is still bounded."""

SHOWN_CHARACTERS = 64 * 2**10
"""What ``raw`` keeps of a row that is too large."""


SURROGATE = re.compile(r"[\ud800-\udfff]")


class Encoding(NamedTuple):
    """``unknown`` where none can be told. ``confidence``: of a guess, from CONFIDENT to 1."""

    name: str
    confidence: float | None = None


class Unreadable(Exception):
    """A file of which nothing can be trusted; its only argument is the reason."""


@dataclass(frozen=True)
class Ask:
    """What is read of a file.

    ``wanted``: field names, others are left out; ``a.b`` is ``b`` within ``a``. ``lists``: those of
    them that may hold a list. ``source``: the mapping of params.yaml that the file falls under.
    """

    wanted: Sequence[str]
    lists: Sequence[str]
    limits: Limits
    source: Source | None = None

    @property
    def texts(self) -> list[str]:
        return [name for name in self.wanted if name not in self.lists]


@dataclass(frozen=True)
class Rows:
    """A block of one file's rows, in the file's order.

    ``frame``: ``#line`` (i64, 1-based, unique and rising: the line of the file where the row starts
    if ``by_line``, else the record's number; 0 for the file as a whole), a String column for each
    wanted field name, lists as JSON; ``#reason`` and ``#field`` (String), null where the row was read.
    ``raw``: the text of rows by their index in ``frame``.
    ``encoding``: of a text file.
    ``repaired``: values changed, by what was wrong with them (see ``repair``). ``plain``: it is known
    that nothing is.
    """

    frame: pl.DataFrame
    raw: Callable[[Sequence[int]], list[str]]
    encoding: Encoding | None = None
    repaired: Mapping[str, int] = field(default_factory=dict)
    by_line: bool = True
    plain: bool = False


def schema(wanted: Sequence[str]) -> pl.Schema:
    return pl.Schema([(LINE, pl.Int64), *((name, pl.String) for name in (*wanted, REASON, FIELD))])


def faulty(line: int, reason: str, wanted: Sequence[str], raw: str = "", **of: Any) -> Rows:
    """One row that could not be read."""
    values = dict.fromkeys(wanted) | {LINE: line, REASON: reason, FIELD: RECORD}
    return Rows(
        pl.DataFrame([values], schema=schema(wanted)),
        lambda indices: [raw[:SHOWN_CHARACTERS]] * len(indices),
        **of,
    )


class Collected:
    """Rows that a format gives record by record, until they make a block."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._clear()

    def _clear(self) -> None:
        self._columns: dict[str, list[Any]] = {name: [] for name in schema(self._ask.wanted)}
        self._raw: list[str | Sequence[str]] = []
        self.size = 0

    def add(
        self,
        line: int,
        values: Mapping[str, str | None],
        raw: str | Sequence[str],
        fault: tuple[str, str] | None = None,
    ) -> None:
        """A row; ``fault``: reason and field; ``raw``: its text, or the lines of it."""
        self._columns[LINE].append(line)
        for name in self._ask.wanted:
            self._columns[name].append(None if fault else values.get(name))
        self._columns[REASON].append(fault[0] if fault else None)
        self._columns[FIELD].append(fault[1] if fault else None)
        self._raw.append(raw)
        self.size += len(raw) if isinstance(raw, str) else sum(map(len, raw))

    @property
    def full(self) -> bool:
        return self.size >= BLOCK_BYTES

    def block(self) -> Rows:
        """What was added since the last block."""
        kept = self._raw
        frame = pl.DataFrame(self._columns, schema=schema(self._ask.wanted))
        self._clear()
        return Rows(frame, lambda indices: shown(kept[index] for index in indices), by_line=False)


def shown(texts: Iterable[str | Sequence[str]]) -> list[str]:
    """Texts as quarantine keeps them: lone surrogates, as undecodable bytes are, become U+FFFD."""
    joined = (text if isinstance(text, str) else "".join(text) for text in texts)
    return [SURROGATE.sub("\ufffd", text) for text in joined]


def text_fault(value: str) -> str | None:
    """Why a string is no text: it holds undecodable bytes (as lone surrogates) or NUL."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return "encoding"
    return "not_text" if "\0" in value else None
