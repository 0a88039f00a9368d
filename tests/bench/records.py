"""Real multi-task records for benchmarks: the English tasks of ../shared/data, read as they are."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from pipeline import resample
from pipeline.params import Resample
from pipeline.records import RECORD_SCHEMA

ROOT = Path(__file__).resolve().parents[2]
SEED = 17
MAX_TOKENS = 288
"""Of a prompt, and of an answer: by steps of 32 the most at which Trainer's batches of 8 fit 24 GB
(the default of train.max_tokens is 512)."""


def folder() -> Path:
    """``MOELORA_BENCH_DATA``, or shared/data beside the checkout; ends the program where it is absent."""
    path = ROOT / os.environ.get("MOELORA_BENCH_DATA", "../shared/data")
    if not (path / "en.train.jsonl.gz").is_file():
        raise SystemExit(
            "this benchmark needs real records: put en.{train,validation,test}.jsonl.gz into ../shared/data "
            "beside the checkout, or name their folder in MOELORA_BENCH_DATA"
        )
    return path


def read(split: str) -> pl.DataFrame:
    """All English records of the owner's ``split``, RECORD_SCHEMA, by task and id."""
    records = pl.read_ndjson(folder() / f"en.{split}.jsonl.gz").rename({"doc_id": "group_id"})
    return records.select(RECORD_SCHEMA.names()).cast(dict(RECORD_SCHEMA)).sort("task", "sample_id")  # type: ignore[arg-type]


def sample(count: int, knobs: Resample) -> pl.DataFrame:
    """``count`` training records with every task among them, balanced and ordered as resample does;
    the same ones every time."""
    records = read("train")
    sizes = dict(records.group_by("task").len().sort("task").iter_rows())
    draws = resample.allot(sizes, knobs.model_copy(update={"records": count}))
    order = resample.order(records.select("sample_id", "task"), draws, SEED).select("sample_id")
    return order.join(records, on="sample_id", how="left", maintain_order="left")


def samples(records: pl.DataFrame, tokenizer: Any, max_tokens: int) -> dict[str, Any]:
    """Each record as the train stage's ``Sample``, by sample_id."""
    import numpy as np

    from pipeline import prompts
    from pipeline.train.data import Sample

    found = {}
    for sample_id, task, text, target in records.select("sample_id", "task", "input", "target").iter_rows():
        prompt = prompts.encode(tokenizer, text, target, max_tokens)
        found[sample_id] = Sample(
            task, np.asarray(prompt.ids, dtype=np.int32), prompt.answer_start, prompt.cut
        )
    return found


def tasks(samples: Sequence[Any]) -> tuple[str, ...]:
    """The tasks of ``samples``, sorted."""
    return tuple(sorted({sample.task for sample in samples}))
