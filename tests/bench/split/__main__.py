"""The split: near-duplicates that are found, those that remain, what it costs, and what growth costs.

    make bench-split                           20,000 records with planted copies, then 200,000 in 100 shards
    python -m tests.bench.split --quick        a look: a tenth of everything
    python -m tests.bench.split --real         copies planted among real records of ../shared/data

A twentieth of the records have a copy in a weaker split of which 5 % of the words are substituted,
inserted or deleted, and as many another there with half of them edited, which must stay. What is a
near-duplicate is also decided without hashing, by comparing all records (tests.bench.split.truth).
Every run of the stage is a process as DVC would start it. The peer is datasketch's MinHashLSH.
"""

import argparse
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from pipeline import paths
from pipeline.params import Split
from pipeline.records import SPLITS
from pipeline.split import groups
from tests.bench.children import Result, measure
from tests.bench.deidentify.project import Project, Run
from tests.bench.split import made, truth
from tests.bench.table import Row, show

SHARDS = 100
SHARE = 0.03
ALLOWANCE = 10.0
"""Share of a full run, and seconds beside it, that a run with one more shard of 100 may take."""

MEMORY = 2.0
"""GB."""


class Size(NamedTuple):
    records: int
    """Among which copies are planted."""
    grown: int
    small_shards: int


FULL, QUICK = Size(20_000, 200_000, 10_000), Size(2_000, 20_000, 1_000)


class Found(NamedTuple):
    """What the stage and the peer held out of ``planted``, and ``pairs``: what comparing all finds."""

    planted: made.Planted
    pairs: set[tuple[str, str]]
    held_out: set[str]
    run: Run
    peer: Result


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--real", action="store_true", help="plant among real records; no growth")
    parser.add_argument("--folder", type=Path, help="where data lies meanwhile; default: a temporary one")
    options = parser.parse_args(arguments)
    size = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if options.real:
            rows = duplicates(find(Path(folder), made.real_records(size.records)))
        else:
            rows = duplicates(find(Path(folder), made.records(0, size.records))) + growth(Path(folder), size)
    show("split", rows, f"{os.cpu_count()} cores; {'real' if options.real else 'made-up'} records")


def find(folder: Path, base: pl.DataFrame) -> Found:
    """Plant copies in ``base`` and look for them in all three ways."""
    planted = made.plant(base, base.height // 20)
    project = _project(folder / "planted", [planted.records])
    print("bench-split: the stage", flush=True)
    run = project.run("split")["split"]
    written = {
        name: pl.read_parquet(project.folder / paths.SPLIT / f"{name}.parquet", columns=["sample_id"])
        for name in SPLITS
    }
    kept = {each for rows in written.values() for each in rows["sample_id"]}
    assigned = groups.assign(planted.records, Split())
    print("bench-split: datasketch", flush=True)
    file = folder / "peer.parquet"
    assigned.select("sample_id", "input", "split").write_parquet(file)
    peer = measure("tests.bench.split.peer:hold_out", file=str(file))
    print("bench-split: all pairs", flush=True)
    pairs = truth.pairs(assigned, Split().near_duplicate)
    return Found(planted, pairs, {*assigned["sample_id"]} - kept, run, peer)


def duplicates(found: Found) -> list[Row]:
    """The rows about near-duplicates."""
    copies, near = found.planted.copies, {weak for weak, _ in found.pairs}
    theirs = set(found.peer["held_out"])
    remain = [pair for pair in found.pairs if not found.held_out & {*pair}]
    missed = [pair for pair in found.pairs if not theirs & {*pair}]
    count = f"{found.planted.records.height:,} records"
    return [
        Row(
            "near-duplicates with 5 % edits: recall",
            _share(copies, found.held_out),
            _share(copies, theirs),
            ">=",
            0.98,
            f"{len(copies):,} planted in a weaker split, {count}",
        ),
        Row(
            "near-duplicates: recall of what comparing all pairs finds",
            _share(near, found.held_out),
            _share(near, theirs),
            ">=",
            0.98,
            f"{len(near):,} records; the definition of pipeline.split",
        ),
        Row(
            "near-duplicates: precision",
            _share(found.held_out, copies | near),
            _share(theirs, copies | near),
            ">=",
            0.99,
            f"right: planted, or found by comparing all pairs; {len(found.held_out):,} held out, of which "
            f"{len(found.held_out & copies):,} planted",
        ),
        Row(
            "near-duplicates that remain across splits",
            len(remain),
            len(missed),
            "<=",
            0,
            f"of {len(found.pairs):,} pairs that comparing all finds",
        ),
        Row(
            "seconds",
            found.run.seconds,
            found.peer["seconds"],
            "<=",
            found.peer["seconds"],
            "the whole stage, its start and files too; datasketch: looking for duplicates alone",
        ),
    ]


def growth(folder: Path, size: Size) -> list[Row]:
    """The rows about a run with one more shard of 100, and about one with nothing new."""
    each = size.grown // SHARDS
    project = _project(folder / "grown", (made.records(n * each, each) for n in range(SHARDS)))
    print("bench-split: all shards", flush=True)
    full = project.run("split")["split"]
    made.write(project.folder / paths.DEIDENTIFIED, SHARDS, made.records(size.grown, each))
    print("bench-split: one shard more", flush=True)
    grown = project.run("split")["split"]
    work = project.work("split")
    print("bench-split: nothing new", flush=True)
    idle = project.run("split")["split"]
    few = 20
    many = _project(folder / "many", (made.records(n * few, few) for n in range(size.small_shards)))
    first = many.run("split")["split"]
    again = many.run("split")["split"]
    return [
        Row(
            f"{size.grown:,} records: memory, GB",
            full.peak / 1e9,
            None,
            "<=",
            MEMORY,
            f"{full.seconds:.1f} s",
        ),
        Row(
            "1 % new shards: seconds",
            grown.seconds,
            full.seconds,
            "<=",
            SHARE * full.seconds + ALLOWANCE,
            "bar: 3 % of the full run, which stands as the peer, and 10 s; "
            f"{work['shards_read']} shard read, {work['parts_signed']} parts signed",
        ),
        Row("no new shard: seconds", idle.seconds, full.seconds, "<=", ALLOWANCE, f"{SHARDS + 1} shards"),
        Row(
            f"no new shard of {size.small_shards:,}: seconds",
            again.seconds,
            first.seconds,
            "<=",
            ALLOWANCE,
            f"{few} records each; peer: the first run",
        ),
    ]


def _project(folder: Path, shards: Iterable[pl.DataFrame]) -> Project:
    project = Project(folder)
    (folder / paths.DEIDENTIFIED).mkdir()
    for number, rows in enumerate(shards):
        made.write(folder / paths.DEIDENTIFIED, number, rows)
    return project


def _share(wanted: set[str], among: set[str]) -> float:
    return len(wanted & among) / max(1, len(wanted))


if __name__ == "__main__":
    main()
