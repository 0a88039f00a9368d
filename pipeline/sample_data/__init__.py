"""A synthetic multi-task clinical set with planted, labelled PHI: what runs when there is no data yet.

    write(folder)              JSONL files of nine tasks, from 600 records to 6
    shards()                   the digests of those files, by which a run knows the sample data
    labelled_documents(200)    other clinical texts with their PHI, to measure detection on

People, places and numbers are made up. The same seed gives the same bytes on any machine and
Python: only ``random.Random.random`` is used, the one method whose sequence Python guarantees.
"""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline.files import write_atomically
from pipeline.sample_data.documents import documents
from pipeline.sample_data.markup import KINDS, unmark
from pipeline.sample_data.tasks import marked_records

SEED = 17
"""The seed of the sample set that `moelora sample-data` writes and `shards` knows."""

__all__ = ["KINDS", "SEED", "labelled_documents", "shards", "write"]


def write(folder: Path, seed: int = SEED, labels: Path | None = None) -> dict[str, Any]:
    """Write the sample set's JSONL files, one a department, into ``folder``.

    ``labels``: where to write the planted PHI too, one JSON line ``{sample_id, field, start,
    end, kind}`` a span (characters, end exclusive; ``answer_choices.0`` is the first choice);
    it must lie outside every inbox. Returns ``{"files", "records", "tasks": {task: records},
    "phi": {kind: spans}}``.
    """
    files, spans = _set(seed)
    for name, data in files.items():
        write_atomically(folder / name, data)
    if labels is not None:
        write_atomically(labels, "".join(json.dumps(span) + "\n" for span in spans))
    tasks = [json.loads(line)["task"] for data in files.values() for line in data.splitlines()]
    return {
        "files": len(files),
        "records": len(tasks),
        "tasks": {task: tasks.count(task) for task in sorted(set(tasks))},
        "phi": {kind: sum(span["kind"] == kind for span in spans) for kind in KINDS},
    }


@lru_cache(maxsize=1)
def shards() -> frozenset[str]:
    """First 16 hex digits of the SHA-256 of each file of the sample set, without writing it."""
    return frozenset(hashlib.sha256(data).hexdigest()[:16] for data in _set(SEED)[0].values())


def labelled_documents(count: int, seed: int = SEED) -> list[dict[str, Any]]:
    """``count`` clinical texts as ``{"doc_id", "text", "spans": [{"start", "end", "kind"}]}``.

    Letters, calls, forms and notes of other templates and other people than the records', for
    measuring a detector. ``kind`` is one of KINDS; offsets are characters, end exclusive. Ages
    below 90 and bare years are no PHI (HIPAA Safe Harbor).
    """
    return [
        {"doc_id": f"document-{number:05d}", "text": text, "spans": spans}
        for number, (text, spans) in enumerate(map(unmark, documents(count, seed)))
    ]


def _set(seed: int) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """File name to bytes, and the planted spans of all files."""
    lines: dict[str, list[str]] = {}
    planted: list[dict[str, Any]] = []
    for name, marked in marked_records(seed):
        record, spans = _unmark_record(marked)
        lines.setdefault(name, []).append(json.dumps(record, ensure_ascii=False))
        planted += [{"sample_id": record["sample_id"], **span} for span in spans]
    return {name: ("\n".join(lines[name]) + "\n").encode() for name in sorted(lines)}, planted


def _unmark_record(marked: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    record: dict[str, Any] = {}
    planted: list[dict[str, Any]] = []

    def plain(field: str, text: str) -> str:
        text, spans = unmark(text)
        planted.extend({"field": field, **span} for span in spans)
        return text

    for field, value in marked.items():
        if isinstance(value, list):
            record[field] = [plain(f"{field}.{number}", text) for number, text in enumerate(value)]
        else:
            record[field] = plain(field, value) if isinstance(value, str) else value
    return record, planted
