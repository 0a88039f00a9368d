"""A folder of its own in which ingest, validate and deidentify run as DVC would run them."""

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import psutil

from pipeline import key
from pipeline.deidentify.drawing import pseudonym
from tests.bench.records import ROOT

KEY = bytes(range(32))

SAMPLE_SECONDS = 0.25
"""Between two looks at memory: more often, they would take a good part of a core."""


class Run(NamedTuple):
    """One run of a stage."""

    seconds: float
    peak: int
    """Bytes of memory of all its processes together, at most."""


class Project:
    """``folder`` with params.yaml and an inbox."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inbox = folder / "data/inbox"
        self.inbox.mkdir(parents=True)
        shutil.copyfile(ROOT / "params.yaml", folder / "params.yaml")
        (folder / "data/key.id").write_text(key.key_id(KEY) + "\n")

    def write(self, name: str, rows: Iterable[dict[str, Any]]) -> None:
        """A file of records in the inbox."""
        with (self.inbox / name).open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def run(self, *stages: str) -> dict[str, Run]:
        """Each stage in turn; ends the program where one fails."""
        return {stage: self._run(stage) for stage in stages}

    def report(self, stage: str) -> dict[str, Any]:
        report: dict[str, Any] = json.loads((self.folder / f"reports/{stage}.json").read_text())
        return report

    def outputs(self) -> pl.DataFrame:
        """All de-identified records."""
        return pl.concat(
            [pl.read_parquet(file) for file in sorted(self.folder.glob("data/deidentified/*.parquet"))]
        )

    def identity(self, row: dict[str, Any]) -> str:
        """The sample_id that a record has in the output."""
        return pseudonym(KEY, "sample_id", row["source"], row["sample_id"])

    def work(self, stage: str) -> dict[str, int]:
        """What the last run of a stage really did."""
        work: dict[str, int] = json.loads((self.folder / f"scratch/status/{stage}.json").read_text())["work"]
        return work

    def _run(self, stage: str) -> Run:
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            key.VARIABLE: base64.b64encode(KEY).decode(),
        }
        start = time.perf_counter()
        process = psutil.Popen(
            [sys.executable, "-m", f"pipeline.{stage}"],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        peak = 0
        while process.poll() is None:
            peak = max(peak, _memory(process))
            time.sleep(SAMPLE_SECONDS)
        if process.returncode:
            raise SystemExit(f"bench-deidentify: {stage} ended with {process.returncode} in {self.folder}")
        return Run(time.perf_counter() - start, peak)


def _memory(process: psutil.Process) -> int:
    """Bytes that the process and all below it hold now; what they share counts once for each."""
    total = 0
    for each in [process, *process.children(recursive=True)]:
        try:
            total += each.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total
