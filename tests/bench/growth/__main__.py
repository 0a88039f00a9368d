"""All data stages as DVC runs them: the first time, with 1 % more files, and with nothing new.

    make bench-growth                          some 15 minutes on 2 cores
    python -m tests.bench.growth --quick       a look: fewer records, fewer files

The stages are ingest, validate, deidentify, split and resample, by `dvc repro resample` in a copy of this
checkout. Records are real ones of ../shared/data in a hundred files, each patient's or document's in one;
and short made-up ones, one in each of 10,000 files, where nothing new is measured too.
"""

import argparse
import base64
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl

from pipeline import key
from tests.bench import records
from tests.bench.checkout import copy_checkout
from tests.bench.deidentify.project import KEY
from tests.bench.table import Row, show
from tests.service import environment

STAGES = ("ingest", "validate", "deidentify", "split", "resample")
PARTS = ("growth", "idle")
FILES = 100
"""Of the full run; one more is 1 %."""

ALLOWANCE = 10.0
"""Seconds for each stage that starts, beside its share of the full run."""


class Checkout:
    """A copy of this repository, with an inbox, git and DVC."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.inbox = root / "data/inbox"
        self.inbox.mkdir(parents=True)
        copy_checkout(root)
        self._environment = environment() | {
            key.VARIABLE: base64.b64encode(KEY).decode(),
            "PYTHONPATH": str(root),
        }
        self._run("git", "init", "-q", "-b", "main")
        self._run("dvc", "config", "-q", "core.check_update", "false")
        (root / "data/key.id").write_text(key.key_id(KEY) + "\n")

    def add(self) -> float:
        """Seconds of `dvc add` of the inbox."""
        return self._run("dvc", "add", "-q", "data/inbox")

    def repro(self) -> float:
        """Seconds of `dvc repro` of the data stages."""
        return self._run("dvc", "repro", "-q", STAGES[-1])

    def work(self) -> dict[str, dict[str, int]]:
        """What the last run of each stage really did."""
        return {
            stage: json.loads((self.root / f"scratch/status/{stage}.json").read_text())["work"]
            for stage in STAGES
        }

    def _run(self, *command: str) -> float:
        start = time.perf_counter()
        done = subprocess.run(
            command, cwd=self.root, env=self._environment, stdout=subprocess.DEVNULL, check=False
        )
        if done.returncode:
            raise SystemExit(f"bench-growth: {' '.join(command)} ended with {done.returncode}")
        return time.perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure")
    options = parser.parse_args(arguments)
    records.folder()
    count = 1_000 if options.quick else 10_000
    with tempfile.TemporaryDirectory() as folder:
        rows = growth(Path(folder) / "growth", count) if "growth" in options.only else []
        rows += idle(Path(folder) / "idle", count) if "idle" in options.only else []
    show("growth", rows, f"{os.cpu_count()} cores; {', '.join(STAGES)} by DVC")


def growth(folder: Path, count: int) -> list[Row]:
    """The full run against one with 1 % more files."""
    checkout = Checkout(folder)
    files = _in_files(count)
    for number, content in enumerate(files[:-1]):
        content.write_ndjson(checkout.inbox / f"{number:03}.jsonl")
    print(f"bench-growth: {count:,} records", flush=True)
    full = checkout.add() + checkout.repro()
    files[-1].write_ndjson(checkout.inbox / "new.jsonl")
    return [_grown(checkout, "1 % new files: seconds of all data stages", full)]


def _grown(checkout: Checkout, figure: str, full: float) -> Row:
    """What files cost that were just put into the inbox, where a full run took ``full`` seconds."""
    print("bench-growth: 1 % more", flush=True)
    grown = checkout.add() + checkout.repro()
    done = ", ".join(f"{stage} {json.dumps(work)}" for stage, work in checkout.work().items())
    bar = 0.03 * full + len(STAGES) * ALLOWANCE
    note = f"bar: 3 % of the full run, which stands as the peer, and 10 s a stage; {done}"
    return Row(figure, grown, full, "<=", bar, note)


def _in_files(count: int) -> list[pl.DataFrame]:
    """Some ``count`` real records in FILES files and one more of the same size, by group."""
    everything = pl.concat([records.read(split) for split in ("train", "validation", "test")])
    drawn = everything.sample(min(everything.height, count * (FILES + 1) // FILES), seed=records.SEED)
    number = pl.col("group_id").fill_null(pl.col("sample_id")).hash(records.SEED) % (FILES + 1)
    return [
        part.drop("number")
        for part in drawn.with_columns(number=number)
        .sort("number")
        .partition_by("number", maintain_order=True)
    ]


def idle(folder: Path, files: int) -> list[Row]:
    """`dvc repro` of many small files: where nothing is new, and with 1 % more of them."""
    checkout = Checkout(folder)
    _put(checkout, range(files))
    print(f"bench-growth: {files:,} files", flush=True)
    first = checkout.add() + checkout.repro()
    print("bench-growth: nothing new", flush=True)
    seconds = [checkout.repro() for _ in range(3)]
    note = f"median of 3; `dvc add`, where nothing is new: {checkout.add():.1f} s; peer: the first run"
    nothing = Row(f"no-op with {files:,} files: seconds", statistics.median(seconds), first, "<=", 5.0, note)
    _put(checkout, range(files, files + files // FILES))
    grown = _grown(checkout, f"1 % new files, beside {files:,} small ones: seconds of all data stages", first)
    return [nothing, grown]


def _put(checkout: Checkout, numbers: Iterable[int]) -> None:
    """A file of one record for each number, a hundred in a folder."""
    for number in numbers:
        below = checkout.inbox / f"{number // 100:03}"
        below.mkdir(exist_ok=True)
        row = {"task": "summary", "task_type": "summarization", "language": "en", "target": "A cough."}
        (below / f"{number:05}.jsonl").write_text(json.dumps(row | {"input": f"Visit {number}: a cough."}))


if __name__ == "__main__":
    main()
