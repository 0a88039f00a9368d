"""Rows of text become records, or go to quarantine with a reason.

input, target          missing_input, missing_target, empty
task                   missing_task, bad_task_name
task_type              unknown_task_type
answer_choices         bad_answer_choices, target_not_in_choices
split, language        bad_split, missing_language, bad_language
any field              not_text (an object, a list, bytes or NUL where text belongs),
                       duplicate_key (a name twice, with two values)
input, of FHIR         no_plain_text, bad_base64, encoding (each of an attachment)
record, of JSON        not_json, not_an_object
record, of CSV         not_csv, wrong_columns, repeated_header
record, of XML         entity, not_xml (and all that follows), no_record (in the file)
record, of FHIR        other_resource, entered_in_error, no_answer, no_entry
record, of any         encoding, too_deep, row_too_large
record, of a file      unreadable_file, file_too_large, zip_bomb, too_many_columns,
                       no_mapping (XML that ``ingest.sources`` does not name)

A file's own reasons stand at line 0, or after its last whole row where it only ends too early.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import polars as pl

from pipeline.ingest.formats import FIELD, LINE, REASON, Rows, text_fault
from pipeline.ingest.keys import Keys
from pipeline.params import Source
from pipeline.records import (
    CHOICE_TASK_TYPES,
    INGESTED_SCHEMA,
    LANGUAGE_TAG,
    RECORD_SCHEMA,
    SPLITS,
    TASK_NAME,
    TASK_TYPES,
)

ALIASES = {
    "task": ("task", "task_dataset"),
    "task_type": ("task_type", "type"),
    # A patient has many documents: where both are given, the wider group counts.
    "group_id": ("group_id", "patient_id", "doc_id"),
}
"""Names under which a file may hold a field, the first that has a value counting."""

PROMPTCBLUE_TYPES = {
    "cls": "classification",
    "matching": "nli",
    "spo_generation": "relation",
    "event_extraction": "event",
    "attr_cls": "extraction",
}

PROMPTCBLUE_NONE = "非上述类型"
PROMPTCBLUE_OPEN_TASKS = ("chip-ctc", "imcs-v2-dac", "kuake-qic")
"""PromptCBLUE samples the choices it offers in these tasks; where the right one is not among
them its target is PROMPTCBLUE_NONE. That answer is added to every row's choices: added only
where it is right, it would give itself away."""

QUARANTINE_SCHEMA = pl.Schema(
    {"shard": pl.String, "line": pl.Int64, "field": pl.String, "reason": pl.String, "raw": pl.String}
)

SAME = ["task", "input", "target", "split"]
"""Records that are equal in these are duplicates."""

REST = [
    *(name for name in RECORD_SCHEMA if name not in (*SAME, "answer_choices")),
    "choices_text",
    "task_label",
]

HASHES = 2
"""Hashes of 64 bits (xxh3, as polars has it) that tell whether two rows are equal: a hundredth of the
time of SHA-256. Of two duplicates another may stay with another version of polars; nothing else is
decided by them."""


@dataclass(frozen=True)
class Checked:
    """Rows of one file: each is a record, in quarantine, or a duplicate of one of these records.

    ``records``: INGESTED_SCHEMA, by line. ``keys``: their keys, row for row.
    ``quarantine``: QUARANTINE_SCHEMA. ``labels``: task, task_label and the first line of it.
    ``languages_guessed``: rows without a language.
    """

    records: pl.DataFrame
    keys: Keys
    quarantine: pl.DataFrame
    duplicates: int
    labels: list[tuple[str, str, int]]
    languages_guessed: int


def field_names(source: Source | None) -> dict[str, tuple[str, ...]]:
    """Record field to the names under which this source may hold it."""
    mapped = source.fields if source else {}
    own = {field: ALIASES.get(field, (field,)) for field in RECORD_SCHEMA}
    return {field: ((mapped[field],) if field in mapped else ()) + names for field, names in own.items()}


def check(rows: Rows, shard: str, source: Source | None) -> Checked:
    """Map rows of a file to records and check them."""
    frame = _faults(_fields(rows.frame, source), field_names(source))
    good = frame.filter(pl.col("fault").is_null())
    labels = good.unique(["task", "task_label"], keep="first", maintain_order=True)
    unique, hashes = _without_duplicates(good)
    identities = _identities(unique)
    records = unique.select(
        pl.col("sample_id").fill_null(identities.bin.encode("hex")),
        *(name for name in RECORD_SCHEMA if name not in ("sample_id", "source")),
        "task_label",
        pl.col("source").fill_null(shard),
        pl.lit(shard).alias("shard"),
        pl.col(LINE).alias("line"),
    ).select(list(INGESTED_SCHEMA))
    bad = frame.select(LINE, "fault").with_row_index("index").filter(pl.col("fault").is_not_null())
    quarantine = bad.select(
        pl.lit(shard).alias("shard"),
        pl.col(LINE).alias("line"),
        pl.col("fault").str.split(" ").list.get(0).alias("field"),
        pl.col("fault").str.split(" ").list.get(1).alias("reason"),
        pl.Series("raw", rows.raw(bad["index"].to_list()), dtype=pl.String),
    )
    return Checked(
        records,
        Keys.of(unique.select("task", "split"), hashes, _groups(unique, identities)),
        quarantine,
        good.height - unique.height,
        labels.select("task", "task_label", LINE).rows(),
        int(good["guessed"].sum()),
    )


def _fields(frame: pl.DataFrame, source: Source | None) -> pl.DataFrame:
    """The fields of records, spelt as the pipeline spells them."""
    defaults = source.defaults if source else {}
    required = ("input", "target")

    def value(field: str, names: Sequence[str]) -> pl.Expr:
        given = [name for name in names if frame[name].null_count() < frame.height]
        values = (pl.col(name) if field in required else _blank_to_null(name) for name in given)
        return pl.coalesce(*values, pl.lit(defaults.get(field), pl.String)).alias(field)

    fields = frame.select(
        LINE,
        REASON,
        FIELD,
        *(value(field, names) for field, names in field_names(source).items()),
        promptcblue=pl.col("task_dataset").is_not_null(),
    )
    task, language = pl.col("task").str.to_lowercase(), pl.col("language")
    found = (
        fields.lazy()
        .join(_choice_lists(fields), on="answer_choices", how="left", maintain_order="left")
        .drop("answer_choices")
        .rename({"choices": "answer_choices"})
        .with_columns(
            task.alias("task"),
            pl.col("task").alias("task_label"),
            pl.col("bad_choices").fill_null(False),
            pl.col("task_type").str.to_lowercase().replace(PROMPTCBLUE_TYPES),
            language.str.replace(r"^[A-Za-z]*", language.str.extract("^([A-Za-z]*)").str.to_lowercase()),
            guessed=language.is_null() & pl.col("promptcblue"),
        )
        .collect()
    )
    return _as_promptcblue(found) if found["promptcblue"].any() else found


def _as_promptcblue(frame: pl.DataFrame) -> pl.DataFrame:
    """With the language, and the choice of none, that PromptCBLUE leaves unsaid."""
    is_open = pl.col("promptcblue") & pl.col("task").is_in(PROMPTCBLUE_OPEN_TASKS)
    with_none = pl.concat_list("answer_choices", pl.lit(PROMPTCBLUE_NONE)).list.unique(maintain_order=True)
    by_script = pl.when(pl.col("input").str.contains(r"\p{Han}")).then(pl.lit("zh")).otherwise(pl.lit("en"))
    return frame.with_columns(
        language=pl.when("guessed").then(by_script).otherwise("language"),
        answer_choices=pl.when(is_open).then(with_none).otherwise("answer_choices"),
    )


def _blank_to_null(name: str) -> pl.Expr:
    return pl.when(pl.col(name).str.strip_chars() != "").then(pl.col(name))


def _choice_lists(fields: pl.DataFrame) -> pl.LazyFrame:
    """By the JSON of ``answer_choices``: ``choices``, a list without repeats, ``choices_text``, all of it
    in one, and ``bad_choices`` where it is no list."""
    texts = fields["answer_choices"].drop_nulls().unique(maintain_order=True).to_list()
    lists = [_choices(text) for text in texts]
    return pl.LazyFrame(
        {
            "answer_choices": texts,
            "choices": [choices or None for choices in lists],
            "choices_text": ["\0".join(choices or ()) for choices in lists],
            "bad_choices": [choices is None for choices in lists],
        },
        schema={
            "answer_choices": pl.String,
            "choices": pl.List(pl.String),
            "choices_text": pl.String,
            "bad_choices": pl.Boolean,
        },
    )


def _choices(text: str) -> list[str] | None:
    """A JSON list of non-blank strings (or numbers) without repeats; null and [] give an empty
    one; None for anything else."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if values is None:
        return []
    if not isinstance(values, list):
        return None
    if not all(isinstance(value, str | int | float) and not isinstance(value, bool) for value in values):
        return None
    strings = list(dict.fromkeys(str(value) for value in values))
    return strings if all(string.strip() and not text_fault(string) for string in strings) else None


def _faults(frame: pl.DataFrame, names: dict[str, tuple[str, ...]]) -> pl.DataFrame:
    """``frame`` with ``fault``: "field reason" of the first thing wrong with a row, or null."""
    wrong = _first_wrong()
    if frame[REASON].null_count() < frame.height:
        fields = {name: field for field in reversed(names) for name in reversed(names[field])}
        named = pl.concat_str(pl.col(FIELD).replace(fields), pl.col(REASON), separator=" ")
        wrong = pl.coalesce(pl.when(pl.col(REASON).is_not_null()).then(named), wrong)
    return frame.with_columns(fault=wrong)


@cache
def _first_wrong() -> pl.Expr:
    col = pl.col
    is_choice = col("task_type").is_in(CHOICE_TASK_TYPES)
    checks: list[tuple[str, str, pl.Expr]] = [
        ("input", "missing_input", col("input").is_null()),
        ("input", "empty", col("input").str.strip_chars() == ""),
        ("target", "missing_target", col("target").is_null()),
        ("target", "empty", col("target").str.strip_chars() == ""),
        ("task", "missing_task", col("task").is_null()),
        ("task", "bad_task_name", ~col("task").str.contains(_whole(TASK_NAME.pattern))),
        ("task_type", "unknown_task_type", ~col("task_type").is_in(TASK_TYPES).fill_null(False)),
        ("answer_choices", "bad_answer_choices", col("bad_choices")),
        (
            "answer_choices",
            "bad_answer_choices",
            is_choice & ~(col("answer_choices").list.len() > 1).fill_null(False),
        ),
        ("target", "target_not_in_choices", is_choice & ~col("answer_choices").list.contains(col("target"))),
        ("split", "bad_split", ~col("split").is_in(SPLITS)),
        ("language", "missing_language", col("language").is_null()),
        ("language", "bad_language", ~col("language").str.contains(_whole(LANGUAGE_TAG.pattern))),
    ]
    found = (pl.when(wrong).then(pl.lit(f"{field} {reason}")) for field, reason, wrong in checks)
    return pl.coalesce(*found)


def _whole(pattern: str) -> str:
    return rf"\A(?:{pattern})\z"


def _without_duplicates(frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Of rows that are the same the one of the smallest content, or the first (as selection does); and
    the hashes of these rows: u64 columns ``same`` and ``content``, HASHES of each."""
    values = {"same": SAME, "content": [*SAME, *REST]}
    hashes = frame.select(
        pl.struct(columns).hash(seed).alias(f"{name}{seed}")
        for name, columns in values.items()
        for seed in range(HASHES)
    )
    same = [f"same{seed}" for seed in range(HASHES)]
    if hashes["same0"].n_unique() == hashes.height:
        return frame, hashes
    ordered = hashes.with_row_index("row").sort(hashes.columns, maintain_order=True)
    kept = ordered.unique(same, keep="first", maintain_order=True)["row"].sort()
    return frame[kept], hashes[kept]


def _identities(frame: pl.DataFrame) -> pl.Series:
    """The first 16 bytes of SHA-256 over all of each row that has no id or no group, else null; each
    value has its length before it."""
    rows = frame.select(pl.col("sample_id").is_null() | pl.col("group_id").is_null()).to_series().arg_true()
    digests = _digests(frame[rows], [*SAME, *REST])
    return pl.repeat(None, frame.height, dtype=pl.Binary, eager=True).scatter(rows, digests)


def _digests(frame: pl.DataFrame, columns: Sequence[str]) -> pl.Series:
    parts: list[pl.Expr] = []
    for name in columns:
        text = pl.col(name)
        of_value = [text.str.len_bytes().cast(pl.String), pl.lit(":"), text]
        # A string of its own for each value would be one more copy of all texts.
        parts += [pl.concat_str(of_value).fill_null("-")] if frame[name].null_count() else of_value
    values = frame.select(pl.concat_str(parts).cast(pl.Binary)).to_series().to_list()
    return pl.Series([hashlib.sha256(value).digest()[:16] for value in values], dtype=pl.Binary)


def _groups(frame: pl.DataFrame, identities: pl.Series) -> pl.Series:
    """The digest of each row's group, or its identity where it has none."""
    named = frame.select("group_id").drop_nulls().unique()
    named = named.with_columns(digest=_digests(named, ["group_id"]))
    joined = frame.select("group_id").join(named, on="group_id", how="left", maintain_order="left")
    return joined.select(pl.coalesce("digest", identities)).to_series()
