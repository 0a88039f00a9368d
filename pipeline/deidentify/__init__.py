"""Finds what identifies patients in the ingested records and replaces it: python -m pipeline.deidentify

Reads data/ingested/ and the key in MOELORA_DEID_KEY, whose id must be the one in data/key.id.
Writes data/deidentified/<shard>.parquet: the records with surrogates in place of names, dates,
ages over 89, places, contacts and ids, the same ones in input, target and answer_choices and in
all records of a group; keyed pseudonyms as sample_id, group_id and source; and where the
surrogates lie (input_spans, target_spans; characters, end exclusive). Organisations, bare years
and ages up to 89 stay.

reports/deidentify.json counts what was found, replaced and left, by kind, and gives the recall
on generated labelled documents. Only new or changed shards are searched again; the result is
that of one full run. Detection is for English: records of other languages stop the run, or pass
as they are with deidentify.other_languages: pass.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from pipeline import paths, sample_data
from pipeline.deidentify import audit, findings
from pipeline.deidentify.findings import Document, Findings
from pipeline.deidentify.replace import Replaced, Surrogates, digit_runs, pseudonym
from pipeline.deidentify.spans import Span
from pipeline.errors import DataError, PipelineError
from pipeline.files import new_folder
from pipeline.key import check_key_id, key_id, load
from pipeline.params import Deidentify, Params
from pipeline.records import INGESTED_SCHEMA, INVENTORY_TASK_TYPES, RECORD_SCHEMA
from pipeline.stage import Progress, Report

LABELLED_DOCUMENTS = 200
"""Generated documents that recall is measured on."""

_SPANS = pl.List(pl.Struct({"start": pl.Int64, "end": pl.Int64, "kind": pl.String}))
SCHEMA = pl.Schema(dict(RECORD_SCHEMA) | {"shard": pl.String, "input_spans": _SPANS, "target_spans": _SPANS})
"""Columns of data/deidentified/<shard>.parquet."""

Row = dict[str, Any]


class Searched(NamedTuple):
    """A row to be written, the row it was made from, and its texts with what was found in them."""

    path: Path
    row: Row
    documents: list[Document]
    spans: list[list[Span]]


def run(params: Params, progress: Progress) -> Report:
    """De-identify all shards; returns the report.

    Raises DeidKeyError for a missing or wrong key, DataError for an unreadable shard, a language
    that no detector covers, or two records with one id.
    """
    settings = params.deidentify
    shards = _read()
    key = load(path.stem for path in shards)
    check_key_id(key)
    passed = _other_languages(shards, settings)
    searched = {path: frame.filter(_is_english()) for path, frame in shards.items()}
    labelled = sample_data.labelled_documents(LABELLED_DOCUMENTS, sample_data.SEED)
    found, in_labelled = findings.of_shards(
        searched, [document["text"] for document in labelled], settings, key_id(key), progress
    )
    rows = [row for path, frame in shards.items() for row in _searched(path, frame, found[path])]
    texts = _replaced(rows, key, settings)
    _write(rows, texts.replaced, key)
    recall = audit.recall(labelled, in_labelled)
    shapes = audit.shapes(
        pl.Series([text for texts_of_row in texts.uncovered for text in texts_of_row], dtype=pl.String)
    )
    owner = pl.Series([number for number, row in enumerate(texts.uncovered) for _ in row], dtype=pl.Int64)
    shaped = set(owner.filter(shapes.sum_horizontal() > 0)) if len(owner) else set()
    residual = texts.left_over + Counter({kind: int(shapes[kind].sum()) for kind in shapes.columns})
    total = {part: sum(int(kind[part]) for kind in recall.values()) for part in ("found", "labelled")}
    return {
        "rows": {"in": len(rows), "out": len(rows)},
        "passed_undetected": passed,
        "found": _by_kind(span for row in rows for spans in row.spans for span in spans),
        "replaced": _by_kind(span for row in texts.replaced for text in row for span in text.spans),
        "recall": recall,
        "recall_overall": round(total["found"] / total["labelled"], 4),
        "residual": {kind: residual[kind] for kind in sorted(residual)},
        "residual_records": len(texts.left_in | shaped),
        "key_id": key_id(key),
    }


def _read() -> dict[Path, pl.DataFrame]:
    shards: dict[Path, pl.DataFrame] = {}
    for path in sorted(paths.INGESTED.glob("*.parquet")):
        try:
            shards[path] = pl.read_parquet(path).select(list(INGESTED_SCHEMA)).sort("line")
        except (pl.exceptions.PolarsError, OSError):
            raise DataError(
                f"ingested shard {path.stem} cannot be read or lacks columns: run ingest again"
            ) from None
    if not shards:
        raise DataError(f"{paths.INGESTED} holds no shard: run ingest first, with files in {paths.INBOX}")
    return shards


def _is_english() -> pl.Expr:
    return pl.col("language").str.to_lowercase().str.contains(r"^(?:en|eng)(?:-|$)")


def _other_languages(shards: dict[Path, pl.DataFrame], settings: Deidentify) -> dict[str, int]:
    """Records by language that no detector covers; DataError where they are to be refused."""
    counts: Counter[str] = Counter()
    refused = []
    for path, frame in shards.items():
        # The first subtag alone: two or three letters that name nobody.
        languages = (
            frame.filter(~_is_english())["language"]
            .str.extract(r"^([A-Za-z]{2,3})(?:-|$)")
            .fill_null("unknown")
        )
        of_shard = Counter(languages.str.to_lowercase().to_list())
        counts += of_shard
        refused += [
            f"shard {path.stem} has {count} in {language}" for language, count in sorted(of_shard.items())
        ]
    if refused and settings.other_languages == "refuse":
        raise DataError(
            f"records in languages that de-identification does not cover: {'; '.join(refused)}. Remove them "
            f"from {paths.INBOX}, leave their files out by ingest.include, or, where they hold no patient's "
            "data, set deidentify.other_languages: pass in params.yaml, which keeps them as they are"
        )
    return dict(sorted(counts.items()))


def _searched(path: Path, frame: pl.DataFrame, found: Findings) -> list[Searched]:
    rows = []
    english = frame.select(_is_english().alias("english"))["english"]
    for row, searchable in zip(frame.iter_rows(named=True), english, strict=True):
        texts = [document for field in findings.documents(row).values() for document in field]
        labels = set(row["answer_choices"] or ()) if row["task_type"] in INVENTORY_TASK_TYPES else set()
        spans = [
            # The name of a label is no finding, whatever it looks like: "Problem" is no place.
            [span for span in found[text] if text.text[span.start : span.end] not in labels]
            if searchable
            else []
            for text in texts
        ]
        rows.append(Searched(path, row, texts, spans))
    return rows


class Texts(NamedTuple):
    """Of each row, its texts after replacement and without their surrogates; and what is left."""

    replaced: list[list[Replaced]]
    uncovered: list[list[str]]
    left_over: Counter[str]
    left_in: set[int]


def _group(row: Row) -> str:
    """What a record shares surrogates with: its group, or itself alone."""
    if row["group_id"] is not None:
        return f"group\0{row['group_id']}"
    return f"record\0{row['source']}\0{row['sample_id']}"


def _replaced(rows: list[Searched], key: bytes, settings: Deidentify) -> Texts:
    """The global pass: what was found in a group is replaced in all its records."""
    groups: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        groups.setdefault(_group(row.row), []).append(number)
    result = Texts([[] for _ in rows], [[] for _ in rows], Counter(), set())
    for group, members in groups.items():
        values = {
            (span.kind, document.text[span.start : span.end])
            for number in members
            for document, spans in zip(rows[number].documents, rows[number].spans, strict=True)
            for span in spans
        }
        values |= _own_numbers(rows, members)
        surrogates = Surrogates(key, group, values, settings.dates)
        patterns = audit.originals(values)
        for number in members:
            row = rows[number]
            texts = [document.text for document in row.documents]
            if not _is_searched(row):
                result.replaced[number] = [Replaced(text, []) for text in texts]
                continue
            try:
                replaced = surrogates.replace(texts, row.spans)
            except Exception as error:
                raise PipelineError(
                    f"deidentify: shard {row.path.stem}, line {row.row['line']}: replacement failed with "
                    f"{type(error).__name__}; remove or correct the row"
                ) from None
            result.replaced[number] = replaced
            result.uncovered[number] = [audit.uncovered(text) for text in replaced]
            left = audit.left_over(patterns, result.uncovered[number])
            result.left_over.update(left)
            if left:
                result.left_in.add(number)
    return result


def _is_searched(row: Searched) -> bool:
    return str(row.row["language"]).lower().split("-")[0] in ("en", "eng")


def _own_numbers(rows: list[Searched], members: list[int]) -> set[tuple[str, str]]:
    """Long numbers of a group's own ids that its texts repeat: record numbers, whatever surrounds them."""
    runs = {
        run
        for number in members
        for field in ("group_id", "sample_id")
        for run in digit_runs(rows[number].row[field] or "")
    }
    if not runs:
        return set()
    everything = "\n".join(document.text for number in members for document in rows[number].documents)
    return {("ID", run) for run in runs if run in everything}


def _write(rows: list[Searched], replaced: list[list[Replaced]], key: bytes) -> None:
    by_shard: dict[Path, list[Row]] = {}
    seen: dict[str, Searched] = {}
    for searched, texts in zip(rows, replaced, strict=True):
        row = searched.row
        identity = pseudonym(key, "sample_id", row["source"], row["sample_id"])
        if identity in seen:
            places = " and ".join(
                f"shard {s.path.stem}, line {s.row['line']}" for s in (seen[identity], searched)
            )
            raise DataError(f"sample_id: two records of one source share it: {places}; make it unique")
        seen[identity] = searched
        choices = [text.text for text in texts[2:]]
        by_shard.setdefault(searched.path, []).append(
            {name: row[name] for name in RECORD_SCHEMA}
            | {
                "sample_id": identity,
                "group_id": pseudonym(key, "group_id", _group(row)),
                "source": pseudonym(key, "source", row["source"]),
                "input": texts[0].text,
                "target": texts[1].text,
                "answer_choices": choices if row["answer_choices"] is not None else None,
                "shard": searched.path.stem,
                "input_spans": [span._asdict() for span in texts[0].spans],
                "target_spans": [span._asdict() for span in texts[1].spans],
            }
        )
    with new_folder(paths.DEIDENTIFIED) as folder:
        for path, of_shard in by_shard.items():
            pl.DataFrame(of_shard, schema=SCHEMA).sort("sample_id").write_parquet(folder / path.name)


def _by_kind(spans: Iterable[Span]) -> dict[str, int]:
    return dict(sorted(Counter(span.kind for span in spans).items()))
