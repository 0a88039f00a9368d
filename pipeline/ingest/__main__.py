"""ingest: files of task data become shards of checked records.

    python -m pipeline.ingest

Reads data/inbox (see formats; plain, .gz, .zst). Writes data/ingested/<shard>.parquet,
one for each distinct file, named by the first 16 hex digits of its SHA-256; rows that cannot
be used to data/quarantine/<shard>.parquet, where there are any, with line, field, reason and raw
text; and reports/ingest.json. Neither the order nor the names of arriving files change a byte.

A file is hashed once, parsed once, and its shard kept in the cache by content, code and field
mapping; what is written are links to the cache. Memory is bounded, whatever the size of a file or
of the inbox; all cores are used where there is enough to read.
"""

import functools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import paths, records
from pipeline.cache import Cache
from pipeline.digests import canonical_json, code_digest
from pipeline.errors import DataError
from pipeline.files import link_or_copy, new_folder, write_atomically
from pipeline.ingest import inbox, selection, shards
from pipeline.ingest.inbox import File, Inbox
from pipeline.ingest.selection import Selection
from pipeline.ingest.shards import Shard, Work
from pipeline.params import Ingest, Params
from pipeline.stage import Progress, Report, main
from pipeline.workers import Workers, cores

MOST_WORKERS = 4
"""Each holds some 300 MB: more would not be bounded memory."""

START_BYTES, START_FILES = 2**26, 1_000
"""To be read before others are called in: they take a second to come."""

SHARED_BYTES = 2**28
"""A file of lines from this size on is read by all workers at once."""

BATCH_BYTES, BATCH_FILES = 2**24, 100
"""Smaller files are handed out together."""

OUTCOME = "outcome.json"


def run(params: Params, progress: Progress) -> Report:
    """Ingest the inbox; see the module's docstring. Raises DataError where no record is left."""
    ingest = params.ingest
    found = inbox.look(ingest)
    cache = Cache("ingest")
    code = code_digest([*Path(__file__).parent.rglob("*.py"), records.__file__])
    parsed = [
        Shard(file, key, cache.folder / key) for file in found.files for key in [_key(file, ingest, code)]
    ]
    missing = [Work(shard.file, shard.key, ingest.limits) for shard in parsed if cache.get(shard.key) is None]
    with Workers(min(cores(), MOST_WORKERS)) as workers:
        _read(missing, workers, progress)
        progress.update(len(parsed), len(parsed), "files")
        progress.count(shards_parsed=len(missing), shards_reused=len(parsed) - len(missing))
        outcome = _outcome(parsed, found, ingest.max_records_per_task, code, workers)
    _write(parsed, outcome["records"])
    report: Report = outcome["report"]
    return report


def _key(file: File, ingest: Ingest, code: str) -> str:
    return Cache.key(
        shard=file.digest,
        kind=file.kind,
        mapping=file.source.model_dump(exclude={"match"}) if file.source else None,
        limits=ingest.limits.model_dump(),
        code=code,
        libraries=_libraries(),
    )


@functools.cache
def _libraries() -> list[str]:
    return [version(name) for name in ("polars", "pyarrow", "html-text", "lxml")]


def _read(works: Sequence[Work], workers: Workers, progress: Progress) -> None:
    """Read files into the cache: large ones of lines together, the others side by side."""
    total = len(works)
    if total >= START_FILES or sum(work.file.stamp.size for work in works) >= START_BYTES:
        workers.start()
    shared = [work for work in works if _is_shared(work)]
    done = 0
    for work in shared:
        for rows in shards.read(work, workers):
            progress.update(done, total, f"files, {rows:,} rows of the next")
        done += 1
    for count in workers.in_order(_submitted(works, workers)):
        done += count
        progress.update(done, total, "files")


def _is_shared(work: Work) -> bool:
    return work.file.kind.format == "jsonl" and work.file.stamp.size >= SHARED_BYTES


def _submitted(works: Sequence[Work], workers: Workers) -> Iterator[Future[int]]:
    """The files that are not shared, the largest first so that none is left to the end alone."""
    batch: list[Work] = []
    size = 0
    for work in sorted(works, key=lambda work: work.file.stamp.size, reverse=True):
        if _is_shared(work):
            continue
        if batch and (size + work.file.stamp.size > BATCH_BYTES or len(batch) == BATCH_FILES):
            yield workers.submit(shards.read_all, batch)
            batch, size = [], 0
        batch.append(work)
        size += work.file.stamp.size
    if batch:
        yield workers.submit(shards.read_all, batch)


def _outcome(
    parsed: Sequence[Shard], found: Inbox, cap: int | None, code: str, workers: Workers
) -> dict[str, Any]:
    """``report``, and ``records``: of each shard, by its digest, the entry that holds the records which
    stay. Kept in the cache too, so that nothing is decided again where nothing is new."""
    cache = Cache("ingest")
    inputs = [[shard.key, shard.file.copies] for shard in parsed]
    key = cache.key(shards=inputs, ignored=found.ignored, cap=cap, code=code)
    if (entry := cache.get(key)) is not None:
        outcome: dict[str, Any] = json.loads((entry / OUTCOME).read_text())
        if all(cache.get(each) for each in outcome["records"].values()):
            return outcome
    selection.check_labels(parsed)
    chosen = selection.choose(parsed, cap)
    report = _report(parsed, found.ignored, chosen)
    if not report["rows"]["out"]:
        raise DataError(_nothing_left(report))
    outcome = {"report": report, "records": _kept(parsed, chosen, workers)}
    with cache.put(key) as folder:
        write_atomically(folder / OUTCOME, canonical_json(outcome))
    return outcome


def _kept(parsed: Sequence[Shard], chosen: Selection, workers: Workers) -> dict[str, str]:
    """The entry with the records that stay, by shard; made where others have to leave."""
    cache = Cache("ingest")
    entries: dict[str, str] = {}
    to_make: list[tuple[Shard, str, bytes]] = []
    for shard, mask in zip(parsed, chosen.kept, strict=True):
        entries[shard.file.digest] = shard.key
        if not mask.all():
            packed = np.packbits(mask).tobytes()
            key = cache.key(records=shard.key, kept=packed.hex())
            entries[shard.file.digest] = key
            if cache.get(key) is None:
                to_make.append((shard, key, packed))
    for _ in workers.in_order(workers.submit(shards.write_kept, *each) for each in to_make):
        pass
    return entries


def _write(parsed: Sequence[Shard], entries: dict[str, str]) -> None:
    """Link the records that stay, and what is in quarantine: DVC asks after each file in every run."""
    folder = Cache("ingest").folder
    with new_folder(paths.INGESTED, 0o700) as ingested, new_folder(paths.QUARANTINE, 0o700) as quarantine:
        for shard in parsed:
            name = f"{shard.file.digest}.parquet"
            link_or_copy(folder / entries[shard.file.digest] / shards.RECORDS, ingested / name)
            if shard.facts["quarantine"]:
                link_or_copy(shard.entry / shards.QUARANTINE, quarantine / name)


def _report(parsed: Sequence[Shard], ignored: int, chosen: Selection) -> Report:
    """Counts of rows, whole and for each shard; in = out + quarantined + duplicates + sampled_away.

    ``encodings``: files by encoding; ``encodings_guessed``: the least confidence of those that were guessed.
    """
    counts = []
    reasons: Counter[str] = Counter()
    repaired: Counter[str] = Counter()
    tasks: Counter[str] = Counter()
    for shard, unique, kept in zip(parsed, *chosen, strict=True):
        facts, copies = shard.facts, shard.file.copies
        alone, drawn = int(unique.sum()), int(kept.sum())
        counts.append(
            {
                "shard": shard.file.digest,
                "files": copies,
                "in": facts["in"] * copies,
                "out": drawn,
                "quarantined": sum(facts["quarantine"].values()),
                "duplicates": facts["duplicates"] + facts["out"] - alone + facts["in"] * (copies - 1),
                "sampled_away": alone - drawn,
            }
        )
        reasons.update(facts["quarantine"])
        repaired.update(facts["repaired"])
        tasks.update(shard.tasks(kept))
    encodings: Counter[str] = Counter()
    guessed: dict[str, float] = {}
    for name, confidence in (shard.facts["encoding"] for shard in parsed if shard.facts["encoding"]):
        encodings[name] += 1
        if confidence is not None:
            guessed[name] = min(confidence, guessed.get(name, 1.0))
    names = ("in", "out", "quarantined", "duplicates", "sampled_away")
    return {
        "rows": {name: sum(count[name] for count in counts) for name in names},
        "files": {"read": sum(shard.file.copies for shard in parsed), "ignored": ignored},
        "shards": counts,
        "quarantine": dict(reasons),
        "tasks": dict(tasks),
        "encodings": dict(encodings),
        "encodings_guessed": guessed,
        "repaired": dict(repaired),
        "languages_guessed": sum(shard.facts["languages_guessed"] for shard in parsed),
    }


def _nothing_left(report: Report) -> str:
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(report["quarantine"].items()))
    worst = ", ".join(shard["shard"] for shard in report["shards"][:20])
    return (
        f"no record left of {report['rows']['in']} rows in shards {worst} ({reasons or 'all are empty'}): "
        "correct the files, or map their fields by ingest.sources in params.yaml"
    )


if __name__ == "__main__":
    main("ingest", run)
