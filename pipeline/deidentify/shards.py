"""The stage's shards: records as they were ingested, and as they are de-identified."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from pipeline import paths
from pipeline.cache import Cache
from pipeline.digests import code_digest
from pipeline.errors import DataError
from pipeline.files import new_folder
from pipeline.records import INGESTED_SCHEMA, RECORD_SCHEMA

_SPANS = pl.List(pl.Struct({"start": pl.Int64, "end": pl.Int64, "kind": pl.String}))
SCHEMA = pl.Schema(dict(RECORD_SCHEMA) | {"shard": pl.String, "input_spans": _SPANS, "target_spans": _SPANS})
"""Columns of data/deidentified/<shard>.parquet."""

_RECORDS = "records.parquet"

Row = dict[str, Any]


def read() -> dict[Path, list[Row]]:
    """The records (INGESTED_SCHEMA) of each shard of ``data/ingested`` by line. Raises DataError."""
    shards: dict[Path, list[Row]] = {path: [] for path in sorted(paths.INGESTED.glob("*.parquet"))}
    if not shards:
        raise DataError(f"{paths.INGESTED} holds no shard: run ingest first, with files in {paths.INBOX}")
    try:
        records = _scan(list(shards)).collect()
    except (pl.exceptions.PolarsError, OSError):
        raise DataError(
            f"ingested shard {_unreadable(shards)} cannot be read or lacks columns: run ingest again"
        ) from None
    for row in records.sort("shard", "line").iter_rows(named=True):
        shards[paths.INGESTED / f"{row['shard']}.parquet"].append(row)
    return shards


def _scan(shards: list[Path]) -> pl.LazyFrame:
    # All at once: small shards cost as much as large ones where each is read alone.
    return pl.scan_parquet(shards, glob=False, schema=INGESTED_SCHEMA, extra_columns="ignore")


def _unreadable(shards: Iterable[Path]) -> str:
    """The names of shards that cannot be read."""
    names = []
    for path in shards:
        try:
            _scan([path]).collect()
        except (pl.exceptions.PolarsError, OSError):
            names.append(path.stem)
    return ", ".join(names)


def write(shards: Mapping[str, list[Row]]) -> None:
    """``data/deidentified``: the records (SCHEMA) of each shard, by its file's name, sorted by sample_id."""
    with new_folder(paths.DEIDENTIFIED) as folder:
        for name, records in shards.items():
            # No link: DVC would put a copy in its place, file by file.
            shutil.copyfile(_written(records), folder / name)


def _written(records: list[Row]) -> Path:
    """The file of a shard's records: written where the cache does not hold it, for of many shards that
    takes longer than all else."""
    cache = Cache("deidentify")
    content = hashlib.sha256(json.dumps(records).encode()).hexdigest()
    key = cache.key(records=content, code=code_digest([__file__]), polars=pl.__version__)
    if cache.get(key) is None:
        with cache.put(key) as folder:
            pl.DataFrame(records, schema=SCHEMA).sort("sample_id").write_parquet(folder / _RECORDS)
    return cache.folder / key / _RECORDS
