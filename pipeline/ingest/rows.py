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
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Checked:
    """Rows of one file, each either a record or in quarantine.

    ``records``: INGESTED_SCHEMA, by line. ``keys``: their keys, row for row.
    ``quarantine``: QUARANTINE_SCHEMA. ``languages_guessed``: records without a language.
    """

    records: pl.DataFrame
    keys: Keys
    quarantine: pl.DataFrame
    languages_guessed: int


def field_names(source: Source | None) -> dict[str, tuple[str, ...]]:
    """Record field to the names under which this source may hold it."""
    mapped = source.fields if source else {}
    own = {field: ALIASES.get(field, (field,)) for field in RECORD_SCHEMA}
    return {field: ((mapped[field],) if field in mapped else ()) + names for field, names in own.items()}


def check(rows: Rows, shard: str, source: Source | None) -> Checked:
    """Map rows of a file to records and check them."""
    names = field_names(source)
    defaults = source.defaults if source else {}
    required = ("input", "target")
    frame = rows.frame.select(
        LINE,
        REASON,
        FIELD,
        *(
            pl.coalesce(pl.col(name) if field in required else _blank_to_null(name) for name in names[field])
            .fill_null(pl.lit(defaults.get(field), pl.String))
            .alias(field)
            for field in names
        ),
        promptcblue=pl.col("task_dataset").is_not_null(),
    )
    frame = _with_choices(frame).with_columns(
        pl.col("task").alias("task_label"),
        pl.col("task").str.to_lowercase(),
        pl.col("task_type").str.to_lowercase().replace(PROMPTCBLUE_TYPES),
        pl.col("language").str.replace(
            r"^[A-Za-z]*", pl.col("language").str.extract("^([A-Za-z]*)").str.to_lowercase()
        ),
        guessed=pl.col("language").is_null() & pl.col("promptcblue"),
    )
    frame = frame.with_columns(
        language=pl.when("guessed").then(_language_by_script()).otherwise("language"),
        answer_choices=pl.when(pl.col("promptcblue") & pl.col("task").is_in(PROMPTCBLUE_OPEN_TASKS))
        .then(pl.concat_list("answer_choices", pl.lit(PROMPTCBLUE_NONE)).list.unique(maintain_order=True))
        .otherwise("answer_choices"),
    )
    frame = frame.with_columns(_faults(names)).with_columns(faulty=pl.col("fault").is_not_null())
    good = frame.filter(~pl.col("faulty")).sort(LINE)
    same = _digests(good, SAME)
    # Equal records are the same and have an equal rest: the texts, which are long, are read once.
    content = _digests(good, [name for name in (*RECORD_SCHEMA, "task_label") if name not in SAME], same)
    records = good.with_columns(
        pl.col("sample_id").fill_null(pl.Series(content, dtype=pl.Binary).bin.encode("hex")),
        pl.col("source").fill_null(shard),
        pl.lit(shard).alias("shard"),
        pl.col(LINE).alias("line"),
    ).select(list(INGESTED_SCHEMA))
    bad = frame.with_row_index("index").filter("faulty")
    quarantine = bad.select(
        pl.lit(shard).alias("shard"),
        pl.col(LINE).alias("line"),
        pl.col("fault").str.split(" ").list.get(0).alias("field"),
        pl.col("fault").str.split(" ").list.get(1).alias("reason"),
        pl.Series("raw", rows.raw(bad["index"].to_list()), dtype=pl.String),
    ).sort("line")
    keys = Keys.of(good.select("task", "split"), same, content, _groups(good, content))
    return Checked(records, keys, quarantine, int(good["guessed"].sum()))


def _blank_to_null(name: str) -> pl.Expr:
    return pl.when(pl.col(name).str.strip_chars() != "").then(pl.col(name))


def _with_choices(frame: pl.DataFrame) -> pl.DataFrame:
    """``answer_choices`` from JSON text to a list without repeats; ``bad_choices`` where it is none."""
    texts = frame["answer_choices"].drop_nulls().unique(maintain_order=True).to_list()
    lists = [_choices(text) for text in texts]
    decoded = pl.DataFrame(
        {
            "answer_choices": texts,
            "choices": [choices or None for choices in lists],
            "bad_choices": [choices is None for choices in lists],
        },
        schema={"answer_choices": pl.String, "choices": pl.List(pl.String), "bad_choices": pl.Boolean},
    )
    return (
        frame.join(decoded, on="answer_choices", how="left", maintain_order="left")
        .drop("answer_choices")
        .rename({"choices": "answer_choices"})
        .with_columns(pl.col("bad_choices").fill_null(False))
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


def _language_by_script() -> pl.Expr:
    return pl.when(pl.col("input").str.contains(r"\p{Han}")).then(pl.lit("zh")).otherwise(pl.lit("en"))


def _faults(names: dict[str, tuple[str, ...]]) -> pl.Expr:
    """``fault``: "field reason" of the first thing wrong with a row, or null."""
    fields = {name: field for field in reversed(names) for name in reversed(names[field])}
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
    unread = pl.when(col(REASON).is_not_null()).then(
        pl.concat_str(col(FIELD).replace(fields), col(REASON), separator=" ")
    )
    found = (pl.when(wrong).then(pl.lit(f"{field} {reason}")) for field, reason, wrong in checks)
    return pl.coalesce(unread, *found).alias("fault")


def _whole(pattern: str) -> str:
    return rf"\A(?:{pattern})\z"


def _digests(frame: pl.DataFrame, columns: list[str], before: list[bytes] | None = None) -> list[bytes]:
    """First 16 bytes of SHA-256 over the values of each row, each with its length before it; over
    ``before`` (a value of equal length for each row) first."""
    parts: list[pl.Expr] = []
    for name in columns:
        text = pl.col(name)
        if frame.schema[name] == pl.List(pl.String):
            text = text.list.join("\0")  # which no choice holds
        of_value = [text.str.len_bytes().cast(pl.String), pl.lit(":"), text]
        # A string of its own for each value would be one more copy of all texts.
        parts += [pl.concat_str(of_value).fill_null("-")] if frame[name].null_count() else of_value
    joined = frame.select(pl.concat_str(parts).cast(pl.Binary)).to_series()
    values = joined.to_list()
    if before is not None:
        values = [first + value for first, value in zip(before, values, strict=True)]
    return [hashlib.sha256(value).digest()[:16] for value in values]


def _groups(frame: pl.DataFrame, content: list[bytes]) -> list[bytes]:
    """The digest of each row's group, or of its content where it has none."""
    named = frame.select("group_id").drop_nulls().unique()
    of_group = dict(zip(named["group_id"].to_list(), _digests(named, ["group_id"]), strict=True))
    return [
        own if group is None else of_group[group]
        for group, own in zip(frame["group_id"].to_list(), content, strict=True)
    ]
