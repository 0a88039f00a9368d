"""Would these files be taken? What ingest and validate say of them, before they are in the inbox.

Both stages run as they are, on links to the files in a temporary folder for their owner alone,
of which nothing stays.
"""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import polars as pl

from pipeline import paths
from pipeline.digests import file_digest
from pipeline.errors import DataError
from pipeline.ingest import quarantine
from pipeline.params import Params
from pipeline.stage import Progress

SENTINEL = "moelora-sentinel.jsonl"
SENTINEL_RECORD = {
    "task": "moelora-sentinel",
    "task_type": "qa_generation",
    "input": "Is this a record?",
    "target": "It is.",
    "language": "en",
}
"""A good record beside the files: of an inbox without any, ingest leaves nothing, not even a
quarantine. Nobody is told of it."""

Report = dict[str, Any]


def check(files: Mapping[Path, Path], params: Params) -> Report:
    """What would become of the rows of ``files``, whose values are their paths below the inbox.

    ``{"rows", "ignored", "files": [{file, shard, in, out, quarantined, duplicates}], "quarantine":
    [{reason, field, task, rows, places}], "expectations": [{level, column, meaning, unexpected,
    elements, places, remedy}], "error", "fits"}``. ``rows`` and ``files`` are as in the report of
    ingest; where that stops they are empty, and ``error`` says why. ``expectations`` are those on
    records that are not met; those on tasks are for all data. Places are "file:line", without any
    text. ``fits``: nothing would be lost, or stop a run.
    """
    names = {file_digest(file)[:16]: str(file) for file in sorted(files, reverse=True)}
    with _apart(files):
        found = _ingest(params)
        found["files"] = [{"file": names[each["shard"]]} | each for each in found["files"]]
        found["quarantine"] = quarantine.grouped(quarantine.read(), names)
        found["expectations"] = _unmet(params, names) if found["rows"].get("out") else []
    critical = any(each["level"] == "critical" for each in found["expectations"])
    lost = found["error"] or found["ignored"] or found["quarantine"] or not found["files"]
    return found | {"fits": not (lost or critical)}


def quarantined(files: Mapping[Path, Path], params: Params) -> pl.DataFrame:
    """What of ``files`` would be quarantined now, see pipeline.ingest.quarantine.

    Raises DataError where ingest stops.
    """
    with _apart(files):
        if error := _ingest(params)["error"]:
            raise DataError(error)
        return quarantine.read()


@contextmanager
def _apart(files: Mapping[Path, Path]) -> Iterator[None]:
    """A checkout's folders that hold ``files`` and the sentinel alone, with a cache of their own."""
    cache = os.environ.get("MOELORA_CACHE")
    sources = {below: file.resolve() for file, below in files.items()}
    with tempfile.TemporaryDirectory(prefix="moelora-") as folder, chdir(folder):
        os.environ["MOELORA_CACHE"] = str(Path(folder) / paths.SCRATCH)
        try:
            for below, source in sources.items():
                link = paths.INBOX / below
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(source)
            (paths.INBOX / SENTINEL).write_text(json.dumps(SENTINEL_RECORD), encoding="ascii")
            with redirect_stdout(StringIO()):
                yield
        finally:
            os.environ.pop("MOELORA_CACHE")
            if cache is not None:
                os.environ["MOELORA_CACHE"] = cache


def _ingest(params: Params) -> Report:
    """What ingest reports but for the sentinel, which is taken out of data/ingested too."""
    from pipeline.ingest.__main__ import run

    settings = {"max_records_per_task": None, "include": (*params.ingest.include, SENTINEL)}
    ingest = params.ingest.model_copy(update=settings)
    try:
        report = run(params.model_copy(update={"ingest": ingest}), Progress("ingest"))
    except DataError as error:
        return {"rows": {}, "files": [], "ignored": 0, "error": str(error)}
    sentinel = file_digest(paths.INBOX / SENTINEL)[:16]
    (paths.INGESTED / f"{sentinel}.parquet").unlink()
    rows = {name: count - (name in ("in", "out")) for name, count in report["rows"].items()}
    files = [each for each in report["shards"] if each["shard"] != sentinel]
    return {"rows": rows, "files": files, "ignored": report["files"]["ignored"], "error": None}


def _unmet(params: Params, names: Mapping[str, str]) -> list[Report]:
    from pipeline.validate.__main__ import run

    alone = params.validate_.model_copy(update={"baseline": None})
    try:
        report = run(params.model_copy(update={"validate_": alone}), Progress("validate"))
    except DataError:
        report = json.loads(paths.report("validate").read_text(encoding="utf-8"))
    kept = ("level", "column", "meaning", "unexpected", "elements", "remedy")
    return [
        {name: each[name] for name in kept}
        | {"places": [f"{names[shard]}:{line}" for shard, lines in each["shards"].items() for line in lines]}
        for each in report["expectations"]
        if each["shards"]
    ]
