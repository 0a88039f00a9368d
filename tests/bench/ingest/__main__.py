"""Ingestion of many and large files: memory, speed beside pandas, what growth costs.

    make bench-ingest                              a million records, 10,000 files: 3 minutes on 2 cores
    python -m tests.bench.ingest --records 10000000    the issue's size: 20 minutes, 25 GB of disk free
    python -m tests.bench.ingest --quick           a look: 100,000 records, 1,000 files

Records are made up (tests.bench.ingest.made), a tenth of them in one file. Every run of the stage is a
process as DVC would start it; memory is that of all its processes together, sampled four times a second.
The peer reads some of the same files.
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.children import Result, measure
from tests.bench.deidentify.project import Project, Run
from tests.bench.ingest import made
from tests.bench.table import Row, show

FILES = 100
"""One is a tenth of the records, ninety a hundredth each; the new file is as large as one of these."""

PEER_RECORDS = 300_000
"""Records that pandas reads at most: its speed does not depend on how many."""

SMALL_FILE_RECORDS = 20
ALLOWANCE = 10.0
"""Seconds that a stage may take beside its share of the full run."""


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    records: int
    small_files: int
    repeats: int


@dataclass(frozen=True)
class Measured:
    """Runs of the stage: over a tenth, over everything, with a file more; of the peer; and with many files
    where nothing is new."""

    size: Size
    bytes: int
    tenth: Run
    full: Run
    grown: Run
    parsed: int
    peer: Result
    idle: list[Run]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--records", type=int, default=1_000_000, help="default: %(default)s")
    parser.add_argument("--folder", type=Path, help="where data lies meanwhile; default: a temporary one")
    options = parser.parse_args(arguments)
    size = Size(100_000, 1_000, 1) if options.quick else Size(options.records, 10_000, 3)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        measured = measure_all(Path(folder), size)
    show("ingest", table(measured), f"{os.cpu_count()} cores; {measured.bytes / 1e9:.2f} GB of JSON lines")


def measure_all(folder: Path, size: Size) -> Measured:
    """Everything the table needs."""
    each = size.records // FILES
    tenth = Project(folder / "tenth")
    made.write(tenth.inbox / "large.jsonl", 0, 10 * each)
    print("bench-ingest: a tenth", flush=True)
    of_tenth = tenth.run("ingest")["ingest"]
    project = Project(folder / "full")
    (tenth.inbox / "large.jsonl").rename(project.inbox / "large.jsonl")
    for number in range(10, FILES):
        made.write(project.inbox / f"{number:03}.jsonl", number * each, each)
    total = sum(path.stat().st_size for path in project.inbox.iterdir())
    print("bench-ingest: all", flush=True)
    full = project.run("ingest")["ingest"]
    print("bench-ingest: pandas", flush=True)
    peer = _peer(folder, project, each)
    made.write(project.inbox / "new.jsonl", size.records, each)
    print("bench-ingest: one file more", flush=True)
    grown = project.run("ingest")["ingest"]
    print("bench-ingest: nothing new", flush=True)
    idle = _idle(folder / "small", size)
    return Measured(size, total, of_tenth, full, grown, project.work("ingest")["shards_parsed"], peer, idle)


def _peer(folder: Path, project: Project, each: int) -> Result:
    """What pandas did with some files; ends the program where it found something else in them."""
    files = [f"{number:03}.jsonl" for number in range(10, 10 + max(1, min(FILES - 10, PEER_RECORDS // each)))]
    target = folder / "pandas"
    target.mkdir()
    read = measure(
        "tests.bench.ingest.peer:read",
        files=[str(project.inbox / name) for name in files],
        folder=str(target),
    )
    rows = len(files) * each
    bad, again = rows // made.MISSING, rows // made.REPEATED
    if (read["in"], read["quarantined"], read["out"]) != (rows, bad, rows - bad - again):
        raise SystemExit(f"bench-ingest: pandas found other rows than were made: {read}")
    return read


def _idle(folder: Path, size: Size) -> list[Run]:
    """Runs over many small files, all of which are known."""
    project = Project(folder)
    for number in range(size.small_files):
        below = project.inbox / f"{number // 100:03}"
        below.mkdir(exist_ok=True)
        made.write(below / f"{number:05}.jsonl", number * SMALL_FILE_RECORDS, SMALL_FILE_RECORDS)
    project.run("ingest")
    runs = [project.run("ingest")["ingest"] for _ in range(size.repeats)]
    if project.work("ingest")["shards_parsed"]:
        raise SystemExit("bench-ingest: a file that had not changed was read again")
    return runs


def table(measured: Measured) -> list[Row]:
    """The issue's rows that concern the stage."""
    size, full, peer = measured.size, measured.full, measured.peer
    ours, theirs = size.records / full.seconds, peer["in"] / peer["seconds"]
    alone = peer["in"] / (peer["seconds"] - peer["line_seconds"])
    return [
        Row(
            f"{size.records:,} records: memory, GB",
            full.peak / 1e9,
            None,
            "<=",
            2.0,
            f"all processes; {measured.tenth.peak / 1e9:.2f} GB for a tenth in one file",
        ),
        Row(
            f"{size.records:,} records: records/s, ours / pandas",
            ours / theirs,
            1.0,
            ">=",
            5.0,
            f"{ours:,.0f} against {theirs:,.0f}, or {alone:,.0f} without what pandas cannot tell of a line "
            f"({ours / alone:.2f} times); pandas read {peer['in']:,}",
        ),
        Row(
            "1 % new files: seconds of the stage",
            measured.grown.seconds,
            full.seconds,
            "<=",
            0.03 * full.seconds + ALLOWANCE,
            f"bar: 3 % of the full run, which stands as the peer, and 10 s; {measured.parsed} file read",
        ),
        Row(
            f"no-op with {size.small_files:,} files: seconds",
            statistics.median(run.seconds for run in measured.idle),
            None,
            "<=",
            5.0,
            f"median of {len(measured.idle)}; {max(run.peak for run in measured.idle) / 1e9:.2f} GB",
        ),
    ]


if __name__ == "__main__":
    main()
