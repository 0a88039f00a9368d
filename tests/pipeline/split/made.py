"""Records of a few words, and the stage run on them."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from pipeline import paths
from pipeline.params import Params, Split
from pipeline.records import RECORD_SCHEMA, SPLITS
from pipeline.split import duplicates, groups, parts, signatures, wording
from pipeline.split.__main__ import run
from pipeline.stage import Progress, Report

Words = Sequence[object]


def frame(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Records with defaults for the fields a test does not care about."""
    defaults = {
        "task": "notes",
        "task_type": "summarization",
        "target": "answer",
        "answer_choices": None,
        "language": "en",
        "source": "clinic",
        "split": None,
    }
    return pl.DataFrame(
        [
            {"sample_id": f"s{number}", "group_id": f"g{number}", **defaults, **row}
            for number, row in enumerate(rows)
        ],
        schema=RECORD_SCHEMA,
    )


def text(*numbers: int) -> str:
    return " ".join(f"word{number}" for number in numbers)


def index(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """The index of records, as all functions of the stage take it."""
    described, _ = parts.describe(frame(rows))
    return described.select(pl.int_range(pl.len(), dtype=pl.Int64).alias("row"), pl.all())


def part(rows: Sequence[dict[str, Any]]) -> parts.Part:
    """One part of records that are in no file."""
    return parts.Part("", [], 0, 0, *parts.describe(frame(rows)))


def found(rows: Sequence[dict[str, Any]], threshold: float = 0.8) -> pl.DataFrame:
    """The index of records with ``held_out`` and ``conflict``."""
    every = part(rows)
    records = groups.assign(index(rows), Split())
    shared = wording.of_tasks([every], records)
    signed = signatures.sign(every.index["task"], every.words, shared, threshold)
    return duplicates.find([every], [signed], records, threshold)


def held(rows: Sequence[dict[str, Any]], threshold: float = 0.8) -> list[bool]:
    return found(rows, threshold)["held_out"].to_list()


def is_near(own: Words, others: Words, threshold: float) -> bool:
    """The stage's definition for texts that are not the same, written another way: own words alone."""
    if min(len(own), len(others)) < signatures.MIN_OWN_WORDS:
        return False
    return 2 * common(own, others) >= threshold * (len(own) + len(others))


def near_pairs(rows: Sequence[dict[str, Any]], threshold: float = 0.8) -> list[tuple[int, int]]:
    """All pairs of near-duplicates, by comparing every record with every other."""
    every = part(rows)
    shared = wording.of_tasks([every], index(rows))
    mask = wording.own(every.index["task"], every.words, shared)
    spans = [every.words.span(row) for row in range(len(rows))]
    words = [every.words.hashes[span].tolist() for span in spans]
    own = [every.words.hashes[span][mask[span]].tolist() for span in spans]
    return [
        (a, b)
        for a, b in itertools.combinations(range(len(rows)), 2)
        if words[a] == words[b] or is_near(own[a], own[b], threshold)
    ]


def common(words: Words, others: Words) -> int:
    """Length of the longest common subsequence, by the textbook's table."""
    row = [0] * (len(others) + 1)
    for word in words:
        diagonal = 0
        for at, other in enumerate(others, 1):
            diagonal, row[at] = row[at], diagonal + 1 if word == other else max(row[at], row[at - 1])
    return row[-1]


def deidentified(rows: pl.DataFrame, shards: int = 2) -> None:
    """``rows`` as the stage's input, in so many shards."""
    for shard in range(shards):
        write_shard(f"{shard:016x}", rows.gather_every(shards, shard))


def write_shard(name: str, rows: pl.DataFrame) -> Path:
    paths.DEIDENTIFIED.mkdir(parents=True, exist_ok=True)
    path = paths.DEIDENTIFIED / f"{name}.parquet"
    rows.with_columns(shard=pl.lit(name)).write_parquet(path)
    return path


def run_stage(progress: Progress | None = None) -> Report:
    return run(Params.load(), progress or Progress("split"))


def outputs() -> dict[str, bytes]:
    return {name: (paths.SPLIT / f"{name}.parquet").read_bytes() for name in SPLITS}
