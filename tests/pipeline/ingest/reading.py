"""Reads bytes as ingest does, all blocks of them, for the tests of formats."""

import re
from typing import Any

import polars as pl

from pipeline.ingest import formats
from pipeline.ingest import rows as rows_module
from pipeline.ingest.rows import field_names
from pipeline.params import Limits, Source


def documented() -> set[str]:
    """The reasons that rows.py's docstring names."""
    table = re.findall(r"^(?:[a-z]\S*(?: \S+)*)? {2,}(.+)$", rows_module.__doc__ or "", re.MULTILINE)
    return set(re.findall(r"[a-z0-9_]+", re.sub(r"\([^)]*\)", "", " ".join(table))))


def blocks(
    data: bytes, name: str, source: Source | None = None, limits: Limits | None = None
) -> list[formats.Rows]:
    kind = formats.kind(name, source)
    assert kind is not None
    names = field_names(source)
    wanted = list(dict.fromkeys(name for each in names.values() for name in each))
    return list(formats.read(data, kind, wanted, names["answer_choices"], source=source, limits=limits))


def frame(data: bytes, name: str, **options: Any) -> pl.DataFrame:
    return pl.concat(rows.frame for rows in blocks(data, name, **options))


def values(data: bytes, name: str, field: str = "input", **options: Any) -> list[str | None]:
    """A field's values in the rows that could be read."""
    found = frame(data, name, **options)
    return found.filter(pl.col(formats.REASON).is_null())[field].to_list()


def faults(data: bytes, name: str, **options: Any) -> list[tuple[int, str, str]]:
    """Line, field and reason of the rows that could not be read."""
    found = frame(data, name, **options).filter(pl.col(formats.REASON).is_not_null())
    assert set(found[formats.REASON]) <= documented()
    return found.select(formats.LINE, formats.FIELD, formats.REASON).rows()


def raw(data: bytes, name: str, **options: Any) -> list[str]:
    return [
        text for rows in blocks(data, name, **options) for text in rows.raw(list(range(rows.frame.height)))
    ]


def repaired(data: bytes, name: str, **options: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for rows in blocks(data, name, **options):
        for kind, count in rows.repaired.items():
            counts[kind] = counts.get(kind, 0) + count
    return counts


def encoding(data: bytes, name: str = "a.jsonl") -> str | None:
    found = blocks(data, name)[-1].encoding
    return found and found.name
