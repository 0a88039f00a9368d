"""The record: one row of task data, its schema and the names that may stand in it."""

import re

import polars as pl

TASK_TYPES = (
    "classification",
    "nli",
    "qa_choice",
    "qa_generation",
    "ner",
    "relation",
    "event",
    "normalization",
    "extraction",
    "summarization",
    "report_generation",
    "response_generation",
)

CHOICE_TASK_TYPES = ("classification", "nli", "qa_choice")
"""Types whose ``answer_choices`` are the possible answers, scored by likelihood."""

INVENTORY_TASK_TYPES = ("ner", "relation", "event")
"""Types whose ``answer_choices`` are the label inventory, nothing more."""

SPLITS = ("train", "validation", "test")
"""From the weakest to the strongest: a record leaves the weaker split of two near-duplicates."""

TASK_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
LANGUAGE_TAG = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z]{4})?(-([A-Za-z]{2}|\d{3}))?")
"""BCP 47: language, script, region; no further subtags, which could carry anything."""

_RECORD: dict[str, pl.DataType | type[pl.DataType]] = {
    "sample_id": pl.String,
    "task": pl.String,
    "task_type": pl.String,
    "input": pl.String,
    "target": pl.String,
    "answer_choices": pl.List(pl.String),
    "group_id": pl.String,
    "language": pl.String,
    "source": pl.String,
    "split": pl.String,
}

RECORD_SCHEMA = pl.Schema(_RECORD)
"""Columns of a record in every stage; ``answer_choices``, ``group_id``, ``split`` may be null
before ``deidentify``, and ``group_id`` no longer after it."""

INGESTED_SCHEMA = pl.Schema(
    dict(RECORD_SCHEMA) | {"task_label": pl.String, "shard": pl.String, "line": pl.Int64}
)
"""``task_label``: the task as its owner wrote it. ``shard``: first 16 hex digits of the source
file's SHA-256. ``line``: 1-based position of the row in it."""


def is_task_name(name: str) -> bool:
    """Whether ``name`` may be a task: it becomes a folder, an S3 key and a report field."""
    return TASK_NAME.fullmatch(name) is not None
