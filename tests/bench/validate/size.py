"""What the stage costs: memory of shards of any size, seconds, and what a new file costs."""

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from pipeline import paths
from pipeline.records import INGESTED_SCHEMA
from tests.bench.table import Row
from tests.conftest import ROOT

KINDS = ("classification", "ner", "summarization")
CHARACTERS = (600, 1400)
"""Least and most of an input: a record is about a kilobyte."""

FILES = 100
"""Of which one is new."""


class Cost(NamedTuple):
    seconds: float
    processor: float
    megabytes: float


def shard(folder: Path, number: int, rows: int) -> None:
    """Write a shard of records of three kinds, three to a patient."""
    rng = np.random.default_rng(number)
    letters = rng.integers(97, 123, 4_000_000, dtype=np.uint8)
    letters[rng.random(len(letters)) < 0.18] = 32
    text = letters.tobytes().decode()
    digest = f"{number:016x}"
    starts = rng.integers(0, len(text) - CHARACTERS[1], rows).tolist()
    lengths = rng.integers(*CHARACTERS, rows).tolist()
    frame = pl.DataFrame(
        {
            "line": np.arange(1, rows + 1),
            "kind": rng.integers(0, 3, rows),
            "text": [text[start : start + length] for start, length in zip(starts, lengths, strict=True)],
        }
    )
    kind = pl.col("kind")

    def by_kind(*values: pl.Expr) -> pl.Expr:
        return pl.when(kind == 0).then(values[0]).when(kind == 1).then(values[1]).otherwise(values[2])

    part = pl.col("text").str.slice(0, 20).str.replace_all(" ", "-")
    records = frame.select(
        "line",
        sample_id=pl.format("{}-{}", pl.lit(digest), "line"),
        task=pl.format("task-{}", kind),
        task_label=pl.format("task-{}", kind),
        task_type=by_kind(*map(pl.lit, KINDS)),
        input="text",
        target=by_kind(
            pl.when(pl.col("line") % 2 == 0).then(pl.lit("yes")).otherwise(pl.lit("no")),
            pl.format("Drug: {}; aspirin", part),
            part,
        ),
        answer_choices=by_kind(
            pl.lit(["yes", "no"], pl.List(pl.String)),
            pl.lit(["Drug", "Problem"], pl.List(pl.String)),
            pl.lit(None, pl.List(pl.String)),
        ),
        group_id=pl.format("{}-{}", pl.lit(digest), pl.col("line") // 3),
        language=pl.lit("en"),
        source=pl.lit("ward"),
        split=pl.lit(None, pl.String),
        shard=pl.lit(digest),
    )
    records.select(list(INGESTED_SCHEMA)).write_parquet(folder / f"{digest}.parquet", row_group_size=100_000)


def write(folder: Path, number: int, rows: int) -> None:
    """``shard`` in a process of its own: Linux counts a parent's peak into that of its children."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        pool.submit(shard, folder, number, rows).result()


def stage(root: Path) -> Cost:
    """Run the stage as a program."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MOELORA_CACHE": str(root / "cache")}
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", "pipeline.validate"], cwd=root, env=environment)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"validate ended with {child.returncode}")
    unit = 1024**2 if sys.platform == "darwin" else 1024
    return Cost(time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / unit)


def rows(count: int) -> list[Row]:
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / paths.PARAMS).write_bytes((ROOT / paths.PARAMS).read_bytes())
        shards = root / paths.INGESTED
        shards.mkdir(parents=True)
        write(shards, 1, 1_000)
        small = stage(root)
        write(shards, 2, count // 4)
        quarter = stage(root)
        write(shards, 2, count)
        whole = stage(root)
        (shards / f"{2:016x}.parquet").unlink()
        note = f"one shard of {count} records of 1 kB: {count / whole.seconds:.0f} records/s"
        found.append(Row("validate: peak memory, MB", whole.megabytes, None, "<=", 2_000, note))
        growth = whole.megabytes / quarter.megabytes
        note = f"peak of {count} records to that of {count // 4}; 1,000 records: {small.megabytes:.0f} MB"
        found.append(Row("validate: growth of memory", growth, None, "<=", 1.25, note))
        for number in range(3, 3 + FILES - 1):
            shard(shards, number, count // FILES)
        full = stage(root)
        shard(shards, 3 + FILES, count // FILES)
        new = stage(root)
        note = f"{FILES} files: {full.seconds:.1f} s; one more; 1,000 records: {small.seconds:.1f} s"
        bar = 0.03 * full.seconds + 10
        found.append(Row("validate: 1 % new files, seconds", new.seconds, full.seconds, "<=", bar, note))
    return found
