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

Report = dict[str, Any]


def check(files: Mapping[Path, Path], params: Params) -> Report:
    """What would become of the rows of ``files``, whose values are their paths below the inbox.

    ``{"rows", "ignored", "files": [{file, shard, in, out, quarantined, duplicates}], "quarantine":
    [{reason, field, task, rows, places}], "expectations": [{level, column, unexpected, elements,
    places, remedy}], "error", "fits"}``. ``rows`` and ``files`` are those of the report of ingest;
    they are empty where it stops, and ``error`` says why. ``expectations`` are those that are not
    met. Places are "file:line", without any text. ``fits``: nothing would be lost or stop a run.
    """
    names = {file_digest(file)[:16]: str(file) for file in sorted(files, reverse=True)}
    with _apart(files):
        found = _ingest(params)
        found["files"] = [{"file": names[each["shard"]]} | each for each in found["files"]]
        found["quarantine"] = quarantine.grouped(quarantine.read(), names)
        found["expectations"] = _unmet(params, names) if found["error"] is None else []
    critical = any(each["level"] == "critical" for each in found["expectations"])
    lost = found["error"] or found["ignored"] or found["quarantine"]
    return found | {"fits": not (lost or critical)}


def quarantined(files: Mapping[Path, Path], params: Params) -> pl.DataFrame:
    """What of ``files`` would be quarantined now, see pipeline.ingest.quarantine.

    Raises DataError where ingest stops for another reason than that nothing is left.
    """
    with _apart(files):
        error = _ingest(params)["error"]
        found = quarantine.read()
    if error and found.is_empty():
        raise DataError(error)
    return found


@contextmanager
def _apart(files: Mapping[Path, Path]) -> Iterator[None]:
    """A checkout's folders that hold ``files`` alone, with a cache of their own."""
    cache = os.environ.get("MOELORA_CACHE")
    sources = {below: file.resolve() for file, below in files.items()}
    with tempfile.TemporaryDirectory(prefix="moelora-") as folder, chdir(folder):
        os.environ["MOELORA_CACHE"] = str(Path(folder) / paths.SCRATCH)
        try:
            for below, source in sources.items():
                link = paths.INBOX / below
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(source)
            with redirect_stdout(StringIO()):
                yield
        finally:
            os.environ.pop("MOELORA_CACHE")
            if cache is not None:
                os.environ["MOELORA_CACHE"] = cache


def _ingest(params: Params) -> Report:
    from pipeline.ingest.__main__ import run

    all_of_it = params.ingest.model_copy(update={"max_records_per_task": None})
    try:
        report = run(params.model_copy(update={"ingest": all_of_it}), Progress("ingest"))
    except DataError as error:
        return {"rows": {}, "files": [], "ignored": 0, "error": str(error)}
    counts = {"files": report["shards"], "ignored": report["files"]["ignored"]}
    return {"rows": report["rows"], "error": None} | counts


def _unmet(params: Params, names: Mapping[str, str]) -> list[Report]:
    from pipeline.validate.__main__ import run

    alone = params.validate_.model_copy(update={"baseline": None})
    try:
        report = run(params.model_copy(update={"validate_": alone}), Progress("validate"))
    except DataError:
        report = json.loads(paths.report("validate").read_text(encoding="utf-8"))
    return [
        {name: each[name] for name in ("level", "column", "unexpected", "elements", "remedy")}
        | {"places": [f"{names[shard]}:{line}" for shard, lines in each["shards"].items() for line in lines]}
        | {"names": each["names"]}
        for each in report["expectations"]
        if not each["success"]
    ]
