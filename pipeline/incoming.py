"""Would these files be taken? What ingest and validate say of them, before they are in the inbox.

Both stages run as they are, on links to the files in a temporary folder for their owner alone,
of which nothing stays.
"""

import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import chdir, contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import polars as pl

from pipeline import paths
from pipeline.digests import file_digest
from pipeline.errors import DataError, InputError, PipelineError
from pipeline.ingest import quarantine
from pipeline.params import Params
from pipeline.stage import Progress, place

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

NO_FAULT = ("other_resource", "entered_in_error")
"""Reasons of rows that are left out because they should be: any export of FHIR has some."""

Report = dict[str, Any]


def check(files: Mapping[Path, Path], params: Params) -> Report:
    """What would become of the rows of ``files``, whose values are their paths below the inbox.

    ``{"rows", "ignored", "files": [{file, shard, in, out, quarantined, duplicates}], "quarantine":
    [{reason, field, task, rows, places}], "expectations": [{level, column, meaning, unexpected,
    elements, places, remedy}], "error", "empty", "fits"}``. ``rows`` and ``files`` are as in the
    report of ingest; where that stops they are empty, and ``error`` says why. ``expectations`` are
    those on records that are not met; those on tasks are for all data. ``empty``: files without any
    row. Places are "file:line", line 0 being the whole file, without any text. ``fits``: nothing
    would be lost but for NO_FAULT, or stop a run.

    Raises InputError for a file that cannot be read.
    """
    names = _names(files)
    with _apart(files):
        found = _ingest(params)
        found["files"] = [{"file": names[each["shard"]]} | each for each in found["files"]]
        found["quarantine"] = quarantine.grouped(quarantine.read(), names)
        found["expectations"] = _unmet(params, names) if found["rows"].get("out") else []
    found["empty"] = [each["file"] for each in found["files"] if not each["in"]]
    lost = [each for each in found["quarantine"] if each["reason"] not in NO_FAULT]
    critical = [each for each in found["expectations"] if each["level"] == "critical"]
    stops = found["error"] or found["ignored"] or found["empty"] or not found["rows"].get("out")
    return found | {"fits": not (stops or lost or critical)}


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
    """A checkout's folders that hold ``files`` and the sentinel alone, with a cache of their own.

    No library says anything there: an error that is not our own becomes a PipelineError without
    its text, which may quote a record.
    """
    cache, logs = os.environ.get("MOELORA_CACHE"), logging.root.manager.disable
    sources = {below: file.resolve() for file, below in files.items()}
    with tempfile.TemporaryDirectory(prefix="moelora-") as folder, chdir(folder):
        os.environ["MOELORA_CACHE"] = str(Path(folder) / paths.SCRATCH)
        try:
            for below, source in sources.items():
                link = paths.INBOX / below
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(source)
            (paths.INBOX / SENTINEL).write_text(json.dumps(SENTINEL_RECORD), encoding="ascii")
            logging.disable(logging.CRITICAL)
            with redirect_stdout(StringIO()), warnings.catch_warnings(action="ignore"):
                yield
        except PipelineError:
            raise
        except Exception as error:
            raise PipelineError(f"the check failed with {type(error).__name__}{place(error)}") from None
        finally:
            logging.disable(logs)
            os.environ.pop("MOELORA_CACHE")
            if cache is not None:
                os.environ["MOELORA_CACHE"] = cache


def _names(files: Iterable[Path]) -> dict[str, str]:
    """What each file's shard is called: the first file of its content."""
    names = {}
    for file in sorted(files, reverse=True):
        try:
            names[file_digest(file)[:16]] = str(file)
        except OSError as error:
            raise InputError(f"{file} cannot be read: {os.strerror(error.errno or 0)}") from None
    return names


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
