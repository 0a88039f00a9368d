"""What the expectations on records meet, shard by shard.

A shard's findings depend on its rows, on the parameters, and on those of its records that are at
odds with other shards. While these stay they are taken from the cache: only new shards are read.
"""

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import polars as pl

from pipeline.cache import Cache
from pipeline.digests import code_digest, file_digest
from pipeline.params import Params
from pipeline.stage import Progress
from pipeline.validate.across import Across
from pipeline.validate.expectations import Expectation, record_suite
from pipeline.validate.facts import count, record_facts
from pipeline.validate.suite import NAMED_ROWS, Finding, Suite

_ROOM = Path(__file__).parent
_CODE = [*_ROOM.glob("*.py"), _ROOM.parent / "records.py"]
_METRICS = _ROOM.parent / "metrics"


class Missed(NamedTuple):
    """An expectation in one shard: how many of its rows miss it, and the lines of the first."""

    rows: int = 0
    lines: tuple[int, ...] = ()


def record_findings(
    shards: Sequence[Path], across: Across, params: Params, suite: Suite, progress: Progress
) -> list[Finding]:
    """The findings of record_suite on all shards."""
    cache = Cache("validate")
    keys = _keys(shards, across, params)
    expectations = record_suite(params.validate_)
    new = [path for path in shards if cache.get(keys[path.stem]) is None]
    for shard, missed in _missed(new, across, params, expectations, suite, progress).items():
        with cache.put(keys[shard]) as folder:
            (folder / "missed.json").write_text(json.dumps(missed), encoding="ascii")
    progress.count(shards_read=len(new), shards_reused=len(shards) - len(new))
    findings = [Finding(one, across.rows) for one in expectations]
    for path in shards:
        missed = json.loads((cache.folder / keys[path.stem] / "missed.json").read_text(encoding="ascii"))
        for finding, (rows, lines) in zip(findings, missed, strict=True):
            if rows:
                finding.unexpected += rows
                finding.shards[path.stem] = lines
    return findings


def _keys(shards: Sequence[Path], across: Across, params: Params) -> dict[str, str]:
    flagged = across.flagged(shards)
    common = {
        "validate": params.validate_.model_dump(exclude={"baseline", "max_drift"}),
        "tasks": params.evaluate.model_dump(include={"tasks"}),
        "code": [code_digest(_CODE), code_digest(_METRICS.glob("*.py"))],
        "versions": [pl.__version__, version("great-expectations")],
    }
    return {
        path.stem: Cache.key(shard=file_digest(path), flagged=flagged.get(path.stem), **common)
        for path in shards
    }


def _missed(
    shards: Sequence[Path],
    across: Across,
    params: Params,
    expectations: Sequence[Expectation],
    suite: Suite,
    progress: Progress,
) -> dict[str, list[Missed]]:
    """What each of these shards misses, in the order of the expectations."""
    found = {path.stem: [Missed() for _ in expectations] for path in shards}
    done, total = 0, count(shards)
    for block in record_facts(shards, across, params):
        for number, rows in enumerate(suite.unexpected(expectations, block, ["shard", "line"])):
            for (shard,), part in rows.partition_by("shard", as_dict=True).items():
                before = found[str(shard)][number]
                lines = (*before.lines, *part["line"].head(NAMED_ROWS))
                found[str(shard)][number] = Missed(before.rows + part.height, lines[:NAMED_ROWS])
        done += block.height
        progress.update(done, total, "records")
    return found
