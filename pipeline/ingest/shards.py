"""A file's shard: its records and quarantine in row groups of bounded size, and what is known of them.

A shard is an entry of the cache: records.parquet, quarantine.parquet, keys.bin (KEY, one for each
record), facts.json. It depends on the file's bytes and how they are read, on nothing else.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.cache import Cache
from pipeline.digests import canonical_json
from pipeline.errors import PipelineError
from pipeline.ingest import formats, keys, rows
from pipeline.ingest.formats.block import Encoding
from pipeline.ingest.inbox import File
from pipeline.ingest.index import Stamp
from pipeline.ingest.keys import Cell
from pipeline.params import Limits
from pipeline.records import INGESTED_SCHEMA
from pipeline.workers import Here, Workers

RECORDS, QUARANTINE, KEYS, FACTS = "records.parquet", "quarantine.parquet", "keys.bin", "facts.json"

REPEATED = ["task", "task_type", "language", "source", "split", "task_label", "shard", "reason", "field"]
"""Columns whose values stand in a dictionary; it would only cost time for texts, which differ."""


class Work(NamedTuple):
    """A file that is to become the entry ``key``."""

    file: File
    key: str
    limits: Limits


@dataclass(frozen=True)
class Shard:
    """A file that was read: the entry that holds its records."""

    file: File
    key: str
    entry: Path

    @cached_property
    def facts(self) -> dict[str, Any]:
        """``in``, ``out``, ``languages_guessed``, ``duplicates`` (near each other): rows.
        ``quarantine``, ``repaired``: counts by reason.
        ``cells``: [task, split, records] in the order of keys. ``labels``: by task, the first line of
        each spelling of it. ``encoding``: [name, confidence] or None."""
        facts: dict[str, Any] = json.loads((self.entry / FACTS).read_text())
        return facts

    @property
    def cells(self) -> list[Cell]:
        return [(task, split) for task, split, _ in self.facts["cells"]]

    def read_keys(self) -> Iterator[keys.Array]:
        """KEY of its records, some at a time."""
        return keys.read(self.entry / KEYS)

    def tasks(self, kept: npt.NDArray[np.bool_]) -> Counter[str]:
        """Records by task, of those that a mask keeps."""
        sizes = np.array([size for _, _, size in self.facts["cells"]], np.int64)
        if not kept.all():
            sizes = np.zeros_like(sizes)
            start = 0
            for part in self.read_keys():
                of_part = part["cell"][kept[start : start + len(part)]]
                sizes += np.bincount(of_part.astype(np.int64), minlength=len(sizes))
                start += len(part)
        tasks: Counter[str] = Counter()
        for (task, _), size in zip(self.cells, sizes.tolist(), strict=True):
            tasks[task] += size
        return +tasks


def read_all(works: Sequence[Work]) -> int:
    """Read files one after another, in this process; returns how many."""
    with Workers(1) as alone:
        for work in works:
            for _ in read(work, alone):
                pass
    return len(works)


def read(work: Work, workers: Workers) -> Iterator[int]:
    """Read a file into the cache, its lines by all workers at once; says how many rows are done.

    Raises PipelineError where the file changes meanwhile.
    """
    file = work.file
    with Cache("ingest").put(work.key) as folder, _Writer(folder) as writer:
        for block in workers.in_order(_checked(work, workers)):
            yield writer.add(block)
        if Stamp.of(file.path) != file.stamp:
            raise PipelineError(
                f"shard {file.digest}: the file was changed while it was read: run again when it is whole"
            )


class _Block(NamedTuple):
    """A checked part of a file, as it can be sent from one process to another."""

    height: int
    records: pa.Table
    quarantine: pa.Table
    keys: keys.Keys
    labels: list[tuple[str, str, int]]
    counts: dict[str, Counter[str]]
    duplicates: int
    languages_guessed: int
    encoding: Encoding | None


def _checked(work: Work, workers: Workers) -> Iterator[Future[_Block]]:
    file = work.file
    names = rows.field_names(file.source)
    wanted = list(dict.fromkeys(name for alternatives in names.values() for name in alternatives))
    for part in formats.parts(
        file.path, file.kind, wanted, names["answer_choices"], source=file.source, limits=work.limits
    ):
        submit = workers.submit if isinstance(part, formats.Part) else Here().submit
        yield submit(_check, part, file)


def _check(part: formats.Part | formats.Rows, file: File) -> _Block:
    read = part.rows() if isinstance(part, formats.Part) else part
    checked = rows.check(read, file.digest, file.source)
    return _Block(
        read.frame.height,
        _arrow(checked.records),
        _arrow(checked.quarantine),
        checked.keys,
        checked.labels,
        {
            "quarantine": Counter(checked.quarantine["reason"].to_list()),
            "repaired": Counter(read.repaired),
        },
        checked.duplicates,
        checked.languages_guessed,
        read.encoding,
    )


def _arrow(frame: pl.DataFrame) -> pa.Table:
    # Parts as threads happened to make them would show in the bytes of a file.
    return frame.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())


RECORD_COLUMNS = _arrow(INGESTED_SCHEMA.to_frame()).schema
QUARANTINE_COLUMNS = _arrow(rows.QUARANTINE_SCHEMA.to_frame()).schema


class _Writer:
    """Fills an entry block by block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._records = _parquet(folder / RECORDS, RECORD_COLUMNS)
        self._quarantine = _parquet(folder / QUARANTINE, QUARANTINE_COLUMNS)
        self._keys = (folder / KEYS).open("wb")
        self._cells: dict[Cell, int] = {}
        self._sizes: Counter[int] = Counter()
        self._labels: dict[str, dict[str, int]] = {}
        self._counts: dict[str, Counter[str]] = {"quarantine": Counter(), "repaired": Counter()}
        self._rows = Counter({"in": 0, "out": 0, "duplicates": 0, "languages_guessed": 0})
        self._encoding: Encoding | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (self._records, self._quarantine, self._keys):
            file.close()
        if error is None:
            (self._folder / FACTS).write_text(canonical_json(self._facts()))

    def add(self, block: _Block) -> int:
        """Rows of the file so far."""
        for writer, table in ((self._records, block.records), (self._quarantine, block.quarantine)):
            if table.num_rows:
                writer.write_table(table)
        numbers = np.array(
            [self._cells.setdefault(cell, len(self._cells)) for cell in block.keys.cells], dtype=np.uint64
        )
        of_block = block.keys.rows.copy()
        of_block["cell"] = numbers[of_block["cell"]]
        of_block.tofile(self._keys)
        self._sizes.update(dict(zip(*np.unique_counts(of_block["cell"]), strict=True)))
        for task, label, line in block.labels:
            self._labels.setdefault(task, {}).setdefault(label, line)
        for name, counts in block.counts.items():
            self._counts[name].update(counts)
        self._rows.update(
            {
                "in": block.height,
                "out": block.records.num_rows,
                "duplicates": block.duplicates,
                "languages_guessed": block.languages_guessed,
            }
        )
        self._encoding = block.encoding or self._encoding
        return self._rows["in"]

    def _facts(self) -> dict[str, Any]:
        cells = [[*cell, int(self._sizes[number])] for cell, number in self._cells.items()]
        return {
            **self._rows,
            **self._counts,
            "cells": cells,
            "labels": self._labels,
            "encoding": self._encoding,
        }


def write_kept(shard: Shard, key: str, packed: bytes) -> None:
    """Make the entry ``key``: the records of a shard that a mask keeps (numpy.packbits)."""
    kept = np.unpackbits(np.frombuffer(packed, np.uint8)).astype(bool)
    with Cache("ingest").put(key) as folder:
        _filter(shard.entry / RECORDS, folder / RECORDS, kept)


def _filter(source: Path, target: Path, kept: npt.NDArray[np.bool_]) -> None:
    start = 0
    with pq.ParquetFile(source) as file, _parquet(target, RECORD_COLUMNS) as writer:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            stay = table.filter(pa.array(kept[start : start + table.num_rows]))
            start += table.num_rows
            if stay.num_rows:
                writer.write_table(stay)


def _parquet(path: Path, columns: pa.Schema) -> pq.ParquetWriter:
    repeated = [name for name in columns.names if name in REPEATED] + ["answer_choices.list.element"]
    return pq.ParquetWriter(
        path,
        columns,
        compression="snappy",  # zstd takes twice the time, a fifth of the stage's
        use_dictionary=repeated,
        write_statistics=False,
    )
