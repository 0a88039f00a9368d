"""The peer: pandas reads JSON lines by chunks, and checks, digests and writes what the stage does.

What pandas cannot tell of a line, for it sees values alone, is looked at beside it, in plain Python:
encoding, size, depth, a name that stands twice. Left out are damaged lines, spellings and sampling.
"""

import hashlib
import re
import time
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pipeline.ingest.formats import repair
from pipeline.params import Limits
from pipeline.records import CHOICE_TASK_TYPES, LANGUAGE_TAG, RECORD_SCHEMA, SPLITS, TASK_NAME, TASK_TYPES
from tests.bench.children import Result

CHUNK = 50_000
NAMES = re.compile(rf'"({"|".join(RECORD_SCHEMA)})"\s*:'.encode())
MOJIBAKE = re.compile(repair.MOJIBAKE)
TEXTS = ("sample_id", "input", "target", "group_id", "source")
OPTIONAL = ("sample_id", "task", "task_type", "group_id", "language", "source")
FIELDS = (
    "sample_id",
    "task",
    "task_type",
    "input",
    "target",
    "answer_choices",
    "group_id",
    "language",
    "source",
)


def read(files: Sequence[str], folder: str) -> Result:
    """``seconds``, of which ``line_seconds`` for what pandas cannot tell; rows ``in``, ``quarantined`` and
    ``out``; writes Parquet below ``folder``."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    start = time.perf_counter()
    absurd = sum(map(_absurd_lines, files))
    line_seconds = time.perf_counter() - start
    best: dict[bytes, tuple[bytes, int]] = {}
    rows = quarantined = 0
    for number, file in enumerate(files):
        writer = None
        for chunk in pd.read_json(file, lines=True, chunksize=CHUNK, convert_dates=False, dtype=False):
            for name in OPTIONAL:
                chunk[name] = chunk[name].where(chunk[name].str.strip() != "")
            faults = _faults(chunk)
            good, bad = chunk[faults.isna()], chunk[faults.notna()]
            same = _digests(good, ("task", "input", "target"))
            content = _digests(good, FIELDS)
            _digests(good, ("group_id",))
            for at, key in enumerate(zip(same, content, strict=True)):
                if key[0] not in best or best[key[0]][0] > key[1]:
                    best[key[0]] = (key[1], rows + at)
            table = pa.Table.from_pandas(good.assign(line=good.index + 1), preserve_index=False)
            writer = writer or pq.ParquetWriter(f"{folder}/{number}.parquet", table.schema)
            writer.write_table(table.cast(writer.schema))
            bad.assign(reason=faults[faults.notna()]).to_json(
                f"{folder}/{number}-{rows}.jsonl", orient="records", lines=True
            )
            rows += len(chunk)
            quarantined += len(bad)
        if writer:
            writer.close()
    return {
        "seconds": time.perf_counter() - start,
        "line_seconds": line_seconds,
        "in": rows,
        "quarantined": quarantined + absurd,
        "out": len(best),
    }


def _absurd_lines(file: str) -> int:
    """Lines that are no UTF-8, too long, nested too deep, or name a field twice."""
    limits = Limits()
    count = 0
    with Path(file).open("rb") as stream:
        for line in stream:
            names = NAMES.findall(line)
            count += (
                len(line) > limits.row_bytes
                or line.count(b"[") + line.count(b"{") > limits.depth
                or len(names) > len(set(names))
                or not _is_utf8(line)
            )
    return count


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _faults(frame: Any) -> Any:
    """The first thing wrong with each row, or NA."""
    import numpy as np
    import pandas as pd

    task, kind = frame["task"].str.lower(), frame["task_type"].str.lower()
    is_choice = kind.isin(CHOICE_TASK_TYPES)
    lists = frame["answer_choices"]
    fits = pd.Series(
        [
            isinstance(choices, list) and len(set(choices)) > 1 and all(str(each).strip() for each in choices)
            for choices in lists
        ],
        index=frame.index,
    )
    among = pd.Series(
        [
            isinstance(choices, list) and target in choices
            for target, choices in zip(frame["target"], lists, strict=True)
        ],
        index=frame.index,
    )
    split = frame["split"] if "split" in frame else pd.Series(None, index=frame.index, dtype=object)
    odd = pd.Series(False, index=frame.index)
    for name in TEXTS:
        text = frame[name]
        odd |= text.str.contains("\0", regex=False).fillna(False).astype(bool)
        odd |= text.str.contains(f"{repair.CONTROL}|&amp;").fillna(False).astype(bool)
        odd |= text.map(_is_odd, na_action="ignore").fillna(False).astype(bool)
    checks = {
        "not_text": odd,
        "missing_input": frame["input"].isna(),
        "empty input": frame["input"].str.strip() == "",
        "missing_target": frame["target"].isna(),
        "empty target": frame["target"].str.strip() == "",
        "missing_task": task.isna(),
        "bad_task_name": ~task.str.fullmatch(TASK_NAME.pattern).astype(bool),
        "unknown_task_type": ~kind.isin(TASK_TYPES),
        "bad_answer_choices": is_choice & ~fits,
        "target_not_in_choices": is_choice & ~among,
        "bad_split": split.notna() & ~split.isin(SPLITS),
        "missing_language": frame["language"].isna(),
        "bad_language": ~frame["language"].str.fullmatch(LANGUAGE_TAG.pattern).astype(bool),
    }
    wrong = [np.asarray(each.fillna(False), dtype=bool) for each in checks.values()]
    return pd.Series(np.select(wrong, list(checks), default=None), index=frame.index)


def _is_odd(text: Any) -> bool:
    """Whether a value is no text, or beyond ASCII not in Unicode's composed form, or may be mojibake."""
    if not isinstance(text, str):
        return True
    if text.isascii():
        return False
    return MOJIBAKE.search(text) is not None or not unicodedata.is_normalized("NFC", text)


def _digests(frame: Any, columns: Iterable[str]) -> list[bytes]:
    values = [frame[name].tolist() for name in columns]
    return [
        hashlib.sha256("\0".join(map(str, row)).encode()).digest()[:16] for row in zip(*values, strict=True)
    ]
