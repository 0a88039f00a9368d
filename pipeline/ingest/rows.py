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

import polars as pl

from pipeline.ingest.formats import FIELD, LINE, REASON, Rows, text_fault
from pipeline.ingest.keys import Keys, distinct
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

SHARED = ("task", "task_type", "answer_choices", "language", "source", "split")
"""Fields that many rows have alike: they are read and checked once for all of these."""


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
    return Checked(
        records,
        Keys.of(unique.select("task", "split"), hashes, _groups(unique, identities)),
        _quarantine(frame, rows, shard),
        good.height - unique.height,
        labels.select("task", "task_label", LINE).rows(),
        int(good["guessed"].sum()),
    )


def _fields(frame: pl.DataFrame, source: Source | None) -> pl.DataFrame:
    """The fields of records, spelt as the pipeline spells them; and what ``_shared`` adds."""
    names = field_names(source)
    alike = frame.select(*dict.fromkeys(name for field in SHARED for name in names[field]))
    first, which = distinct(alike)
    shared = _shared(alike[first], source)
    own = (_value(frame, field, source) for field in RECORD_SCHEMA if field not in SHARED)
    fields = frame.select(LINE, REASON, FIELD, *own).hstack(shared[which])
    if shared["guessed"].any():
        is_chinese = pl.col("input").str.contains(r"\p{Han}")
        by_script = pl.when(is_chinese).then(pl.lit("zh")).otherwise(pl.lit("en"))
        fields = fields.with_columns(language=pl.when("guessed").then(by_script).otherwise("language"))
    return fields


def _value(frame: pl.DataFrame, field: str, source: Source | None) -> pl.Expr:
    given = [name for name in field_names(source)[field] if _is_given(frame, name)]
    values = (pl.col(name) if field in ("input", "target") else _blank_to_null(name) for name in given)
    default = source.defaults.get(field) if source else None
    return pl.coalesce(*values, pl.lit(default, pl.String)).alias(field)


def _is_given(frame: pl.DataFrame, name: str) -> bool:
    return frame[name].null_count() < frame.height


def _shared(frame: pl.DataFrame, source: Source | None) -> pl.DataFrame:
    """The fields SHARED of rows, which rows are ``promptcblue``, and of which the language is to be
    ``guessed``; ``fault``: the first thing wrong with them, or ``later_fault``, of less weight than what
    is wrong with the target."""
    fields = frame.select(
        *(_value(frame, field, source) for field in SHARED),
        promptcblue=pl.col("task_dataset").is_not_null(),
    )
    task, language = pl.col("task").str.to_lowercase(), pl.col("language")
    subtag = language.str.extract("^([A-Za-z]*)").str.to_lowercase()
    is_open = pl.col("promptcblue") & task.is_in(PROMPTCBLUE_OPEN_TASKS)
    with_none = pl.concat_list("answer_choices", pl.lit(PROMPTCBLUE_NONE)).list.unique(maintain_order=True)
    spelt = fields.with_columns(_choice_lists(fields["answer_choices"])).with_columns(
        task.alias("task"),
        pl.col("task").alias("task_label"),
        pl.col("task_type").str.to_lowercase().replace(PROMPTCBLUE_TYPES),
        language.str.replace(r"^[A-Za-z]*", subtag),
        answer_choices=pl.when(is_open).then(with_none).otherwise("answer_choices"),
        guessed=language.is_null() & pl.col("promptcblue"),
    )
    return spelt.with_columns(fault=_SHARED_FAULT, later_fault=_LATER_FAULT)


def _blank_to_null(name: str) -> pl.Expr:
    return pl.when(pl.col(name).str.strip_chars() != "").then(pl.col(name))


def _choice_lists(texts: pl.Series) -> pl.DataFrame:
    """Of the JSON of ``answer_choices``: these as a list without repeats, ``choices_text``, all of it in
    one, and ``bad_choices`` where it is no list."""
    lists = [None if text is None else _choices(text) for text in texts]
    joined = ["\0".join(choices or ()) for choices in lists]
    given = texts.is_not_null()
    return pl.DataFrame(
        {
            "answer_choices": pl.Series([choices or None for choices in lists], dtype=pl.List(pl.String)),
            "choices_text": pl.Series(joined, dtype=pl.String).set(~given, None),
            "bad_choices": given & pl.Series([choices is None for choices in lists], dtype=pl.Boolean),
        }
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
    wrong = _ANY_FAULT
    if frame[REASON].null_count() < frame.height:
        fields = {name: field for field in reversed(names) for name in reversed(names[field])}
        named = pl.concat_str(pl.col(FIELD).replace(fields), pl.col(REASON), separator=" ")
        wrong = pl.coalesce(pl.when(pl.col(REASON).is_not_null()).then(named), wrong)
    return frame.with_columns(fault=wrong)


def _whole(pattern: str) -> str:
    return rf"\A(?:{pattern})\z"


def _is_blank(name: str) -> pl.Expr:
    # Of a text that begins with a visible character no more is looked at.
    unsure = ~pl.col(name).is_between(pl.lit("!"), pl.lit("~"))
    return pl.when(unsure).then(name).str.strip_chars() == ""


def _first(faults: dict[tuple[str, str], pl.Expr]) -> pl.Expr:
    return pl.coalesce(pl.when(wrong).then(pl.lit(" ".join(fault))) for fault, wrong in faults.items())


_IS_CHOICE = pl.col("task_type").is_in(CHOICE_TASK_TYPES)
_LISTED = pl.col("answer_choices").list

_TEXT_FAULT = _first(
    {
        ("input", "missing_input"): pl.col("input").is_null(),
        ("input", "empty"): _is_blank("input"),
        ("target", "missing_target"): pl.col("target").is_null(),
        ("target", "empty"): _is_blank("target"),
    }
)
_SHARED_FAULT = _first(
    {
        ("task", "missing_task"): pl.col("task").is_null(),
        ("task", "bad_task_name"): ~pl.col("task").str.contains(_whole(TASK_NAME.pattern)),
        ("task_type", "unknown_task_type"): ~pl.col("task_type").is_in(TASK_TYPES).fill_null(False),
        ("answer_choices", "bad_answer_choices"): pl.col("bad_choices")
        | (_IS_CHOICE & ~(_LISTED.len() > 1).fill_null(False)),
    }
)
_TARGET_FAULT = _first(
    {("target", "target_not_in_choices"): _IS_CHOICE & ~_LISTED.contains(pl.col("target"))}
)
_LATER_FAULT = _first(
    {
        ("split", "bad_split"): ~pl.col("split").is_in(SPLITS),
        ("language", "missing_language"): pl.col("language").is_null() & ~pl.col("guessed"),
        ("language", "bad_language"): ~pl.col("language").str.contains(_whole(LANGUAGE_TAG.pattern)),
    }
)
_ANY_FAULT = pl.coalesce(_TEXT_FAULT, "fault", _TARGET_FAULT, "later_fault")

_HASHES = [
    *(pl.struct(pl.col(SAME).hash(seed)).hash(seed).alias(f"same{seed}") for seed in range(2)),
    pl.struct(*SAME, *REST).hash(0).alias("content"),
]
"""They are polars' own, a hundredth of the time of SHA-256. Two tell whether rows are the same. One, of
the content, only which of them stays: with another version of polars it may be another."""


def _quarantine(frame: pl.DataFrame, rows: Rows, shard: str) -> pl.DataFrame:
    if frame["fault"].null_count() == frame.height:
        return QUARANTINE_SCHEMA.to_frame()
    bad = frame.select(LINE, "fault").with_row_index("index").filter(pl.col("fault").is_not_null())
    return bad.select(
        pl.lit(shard).alias("shard"),
        pl.col(LINE).alias("line"),
        pl.col("fault").str.split(" ").list.get(0).alias("field"),
        pl.col("fault").str.split(" ").list.get(1).alias("reason"),
        pl.Series("raw", rows.raw(bad["index"].to_list()), dtype=pl.String),
    )


def _without_duplicates(frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Of rows that are the same the one of the smallest content, or the first (as selection does); and
    the hashes of these rows: u64 columns ``same0``, ``same1``, ``content``."""
    hashes = frame.select(_HASHES)
    if hashes["same0"].n_unique() == hashes.height:
        return frame, hashes
    twice = hashes["same0"].is_duplicated()
    ordered = hashes.with_row_index("row").filter(twice).sort(hashes.columns, maintain_order=True)
    kept = ordered.unique(["same0", "same1"], keep="first", maintain_order=True)["row"]
    stay = (~twice).scatter(kept, True)
    return frame.filter(stay), hashes.filter(stay)


def _identities(frame: pl.DataFrame) -> pl.Series:
    """The first 16 bytes of SHA-256 over all of each row that has no id or no group, else null; each
    value has its length before it."""
    nothing = pl.repeat(None, frame.height, dtype=pl.Binary, eager=True)
    if not frame["sample_id"].null_count() and not frame["group_id"].null_count():
        return nothing
    rows = (frame["sample_id"].is_null() | frame["group_id"].is_null()).arg_true()
    return nothing.scatter(rows, _digests(frame[rows], [*SAME, *REST]))


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
    groups = frame.select("group_id")
    first, which = distinct(groups)
    digests = _digests(groups[first], ["group_id"])[which]
    return identities.zip_with(frame["group_id"].is_null(), digests)
