"""Finds what identifies patients in the ingested records and replaces it: python -m pipeline.deidentify

Reads data/ingested/ and the key in MOELORA_DEID_KEY, whose id must be the one in data/key.id.
Refuses data that reports/validate.json does not call valid.
Writes data/deidentified/<shard>.parquet: the records with surrogates in place of names, dates,
ages over 89, places, contacts and ids, the same ones in input, target and answer_choices and in
all records of a group; keyed pseudonyms as sample_id, group_id and source; the language without
script and region; and where the surrogates lie (input_spans, target_spans; characters, end
exclusive). Organisations, bare years and ages up to 89 stay. A record is left out, and counted as
quarantined, where two of its choices become one (92 and 95 years are both 90+) or its target is
no longer one of them.

reports/deidentify.json counts what was found, replaced and left, by kind, and gives the recall
on generated labelled documents, with intervals, and the kinds that more or fewer patients have than
in the data of validate.baseline. Only new or changed shards are searched again; the result is that
of one full run. Detection is for English, and by shapes, titles and labels for Chinese: records of
other languages stop the run, or pass as they are with deidentify.other_languages: pass.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from pipeline import paths, sample_data
from pipeline.deidentify import audit, findings, rates, shards
from pipeline.deidentify.drawing import pseudonym
from pipeline.deidentify.findings import Document, Findings
from pipeline.deidentify.replace import Replaced, Surrogates, digit_runs
from pipeline.deidentify.shards import Row
from pipeline.deidentify.spans import Span
from pipeline.deidentify.workers import Workers
from pipeline.digests import value_digest
from pipeline.errors import DataError, PipelineError
from pipeline.key import check_key_id, key_id, load
from pipeline.params import Deidentify, Params
from pipeline.records import CHOICE_TASK_TYPES, INVENTORY_TASK_TYPES, RECORD_SCHEMA
from pipeline.stage import Progress, Report
from pipeline.validate import drift

LABELLED_DOCUMENTS = 200
"""Generated documents that recall is measured on."""

LABEL_GROUPS = 5
"""Groups after which a label of a task's inventory is taken for one, and not for what a patient is called."""

QUARANTINE = ("choices_coincide", "target_not_a_choice")
"""Reasons to leave a record out."""


class Searched(NamedTuple):
    """A row to be written, the row it was made from, and its texts with what was found in them."""

    path: Path
    row: Row
    identity: str
    """The pseudonym that is its sample_id."""
    documents: list[Document]
    spans: list[list[Span]]


def run(params: Params, progress: Progress) -> Report:
    """De-identify all shards; returns the report.

    Raises DeidKeyError for a missing or wrong key, DataError for data that is not validated, an
    unreadable shard, a language that no detector covers, or two records with one id.
    """
    _check_validated()
    settings = params.deidentify
    ingested = shards.read()
    key = load(path.stem for path in ingested)
    check_key_id(key)
    passed = _other_languages(ingested, settings)
    searched = {path: [row for row in of_shard if _is_covered(row)] for path, of_shard in ingested.items()}
    labelled = sample_data.labelled_documents(LABELLED_DOCUMENTS, sample_data.SEED)
    labels = _labels(row for of_shard in ingested.values() for row in of_shard)
    depends_on = findings.depends_on(settings, key_id(key))
    with Workers(settings) as workers:
        found, in_labelled = findings.of_shards(
            searched, [document["text"] for document in labelled], settings, depends_on, workers, progress
        )
        rows = [
            _searched(path, row, found[path], labels, key)
            for path, of_shard in ingested.items()
            for row in of_shard
        ]
        texts = _replaced(rows, key, settings)
        reasons = [_quarantined(row.row, text) for row, text in zip(rows, texts, strict=True)]
        kept = [(row, text) for row, text, reason in zip(rows, texts, reasons, strict=True) if reason is None]
        second_look = audit.SecondLook(_sample(kept), settings.min_score, depends_on, workers)
        _write(kept, key)
        recall = audit.recall(labelled, in_labelled)
        total = {part: sum(int(kind[part]) for kind in recall.values()) for part in ("found", "labelled")}
        return {
            "rows": {"in": len(rows), "out": len(kept), "quarantined": len(rows) - len(kept)},
            "quarantine": {reason: reasons.count(reason) for reason in QUARANTINE},
            "passed_undetected": passed,
            "found": _by_kind(span for row in rows for spans in row.spans for span in spans),
            "replaced": _by_kind(span for _, text in kept for field in text.replaced for span in field.spans),
            "recall": recall,
            "recall_overall": round(total["found"] / total["labelled"], 4),
            **_residual(kept),
            "second_look": second_look.result(),
            "key_id": key_id(key),
            **_drift(rows, params),
        }


def _drift(rows: Sequence[Searched], params: Params) -> dict[str, Any]:
    """Groups with identifiers of each kind, and the kinds whose share moved; null without a baseline."""
    now = rates.rates(
        (_group(row.row), row.identity, frozenset(span.kind for spans in row.spans for span in spans))
        for row in rows
    )
    if params.validate_.baseline is None:
        return {"independent": now, "drift": None}
    before = drift.profile(params.validate_.baseline).get("deidentification", {}).get("independent")
    moved = rates.moved(before, now, params.validate_.max_drift) if before else None
    for kind, share in (moved or {}).items():
        print(f"deidentify: records with {kind}: {share['before']:.1%} -> {share['after']:.1%}", flush=True)
    return {"independent": now, "drift": moved}


def _check_validated() -> None:
    try:
        validated = json.loads(paths.report("validate").read_text())["success"]
    except (OSError, ValueError, KeyError):
        raise DataError(f"{paths.report('validate')} is missing or unreadable: run validate first") from None
    if validated is not True:
        raise DataError(
            f"{paths.report('validate')} says that the data is not valid: mend it, then run validate"
        )


def _is_covered(row: Row) -> bool:
    return findings.language(row) in (*findings.ENGLISH, *findings.CHINESE)


def _other_languages(ingested: dict[Path, list[Row]], settings: Deidentify) -> dict[str, int]:
    """Records by language that no detector covers; DataError where they are to be refused."""
    counts: Counter[str] = Counter()
    refused = []
    for path, rows in ingested.items():
        of_shard = Counter(_named_language(row) for row in rows if not _is_covered(row))
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


def _named_language(row: Row) -> str:
    """The first subtag alone: two or three letters that name nobody."""
    subtag = re.fullmatch(r"([A-Za-z]{2,3})(?:-.*)?", row["language"] or "", re.DOTALL)
    return subtag[1].lower() if subtag else "unknown"


def _labels(rows: Iterable[Row]) -> dict[str, frozenset[str]]:
    """By task, what is a label of its inventory, whatever it looks like: "Problem" is no place.

    These are choices in several groups: all of the task's, or LABEL_GROUPS and more.
    """
    seen: dict[str, dict[str, set[str]]] = {}
    counts: Counter[str] = Counter()
    labelled: Counter[tuple[str, str]] = Counter()
    for row in rows:
        if row["task_type"] not in INVENTORY_TASK_TYPES:
            continue
        task, group = row["task"], _group(row)
        counts[task] += 1
        for choice in set(row["answer_choices"] or ()):
            labelled[task, choice] += 1
            seen.setdefault(task, {}).setdefault(choice, set()).add(group)
    return {
        task: frozenset(
            choice
            for choice, groups in of_task.items()
            if len(groups) >= LABEL_GROUPS or (len(groups) > 1 and labelled[task, choice] == counts[task])
        )
        for task, of_task in seen.items()
    }


def _searched(
    path: Path, row: Row, found: Findings, labels: dict[str, frozenset[str]], key: bytes
) -> Searched:
    texts = [document for field in findings.documents(row).values() for document in field]
    inventory: frozenset[str] = frozenset()
    if row["task_type"] in INVENTORY_TASK_TYPES:
        inventory = labels.get(row["task"], frozenset()).intersection(row["answer_choices"] or ())
    searchable = _is_covered(row)
    spans = [
        [
            span
            for span in found[text]
            # What has the shape of an id or a contact is one, even as a label.
            if span.kind not in ("NAME", "LOCATION", "FACILITY")
            or text.text[span.start : span.end] not in inventory
        ]
        if searchable
        else []
        for text in texts
    ]
    identity = pseudonym(key, "sample_id", row["source"], row["sample_id"])
    return Searched(path, row, identity, texts, spans)


class Texts(NamedTuple):
    """A row's texts after replacement, the same without their surrogates, and what is left in those."""

    replaced: list[Replaced]
    uncovered: list[str]
    left_over: Counter[str]


def _group(row: Row) -> str:
    """What a record shares surrogates and split with: its group, or itself alone.

    By its content: where a file names no source, that is the file's digest, and one line more
    in it must not move the others.
    """
    if row["group_id"] is not None:
        return f"group\0{row['group_id']}"
    return f"record\0{value_digest([row['task'], row['input'], row['target']])}"


def _replaced(rows: list[Searched], key: bytes, settings: Deidentify) -> list[Texts]:
    """The global pass: what was found in a group is replaced in all its records."""
    groups: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        groups.setdefault(_group(row.row), []).append(number)
    result: dict[int, Texts] = {}
    for group, members in groups.items():
        values = {
            (span.kind, document.text[span.start : span.end])
            for number in members
            for document, spans in zip(rows[number].documents, rows[number].spans, strict=True)
            for span in spans
        }
        values |= _own_numbers(rows, members)
        surrogates = Surrogates(key, group, values, settings.dates) if values else None
        patterns = audit.originals(values)
        for number in members:
            row = rows[number]
            texts = [document.text for document in row.documents]
            if surrogates is None or not _is_covered(row.row):
                untouched = [Replaced(text, [], []) for text in texts]
                result[number] = Texts(untouched, texts if _is_covered(row.row) else [], Counter())
                continue
            try:
                replaced = surrogates.replace(texts, row.spans)
            except Exception as error:
                raise PipelineError(
                    f"deidentify: shard {row.path.stem}, line {row.row['line']}: replacement failed with "
                    f"{type(error).__name__}; remove or correct the row"
                ) from None
            uncovered = [audit.uncovered(text) for text in replaced]
            result[number] = Texts(replaced, uncovered, audit.left_over(patterns, uncovered))
    return [result[number] for number in range(len(rows))]


def _residual(kept: Sequence[tuple[Searched, Texts]]) -> dict[str, Any]:
    """What is left outside surrogates by kind, and in how many records: originals, and what has a shape."""
    left_over: Counter[str] = Counter()
    for _, texts in kept:
        left_over.update(texts.left_over)
    shapes = audit.shapes(pl.Series([field for _, text in kept for field in text.uncovered], dtype=pl.String))
    owner = pl.Series(
        [number for number, (_, text) in enumerate(kept) for _ in text.uncovered], dtype=pl.Int64
    )
    shaped = set(owner.filter(shapes.sum_horizontal() > 0)) if len(owner) else set()
    left_in = {number for number, (_, text) in enumerate(kept) if text.left_over}
    residual = left_over + Counter({kind: int(shapes[kind].sum()) for kind in shapes.columns})
    return {
        "residual": {kind: residual[kind] for kind in sorted(residual)},
        "residual_records": len(left_in | shaped),
    }


def _sample(rows: Sequence[tuple[Searched, Texts]]) -> Iterator[str]:
    """Inputs of English records without their surrogates, in an order that no arrival decides."""
    by_identity = sorted(
        (searched.identity, texts.uncovered[0])
        for searched, texts in rows
        if findings.language(searched.row) in findings.ENGLISH
    )
    return (text for _, text in by_identity)


def _quarantined(row: Row, texts: Texts) -> str | None:
    """Of QUARANTINE, why a record is left out; None where it is not."""
    before = row["answer_choices"] or []
    target, choices = texts.replaced[1].text, [text.text for text in texts.replaced[2:]]
    if len(set(choices)) < len(set(before)):
        return "choices_coincide"
    if row["task_type"] in CHOICE_TASK_TYPES and row["target"] in before and target not in choices:
        return "target_not_a_choice"
    return None


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


def _write(rows: list[tuple[Searched, Texts]], key: bytes) -> None:
    by_shard: dict[str, list[Row]] = {}
    sources = {source: pseudonym(key, "source", source) for source in {row.row["source"] for row, _ in rows}}
    seen: dict[str, Searched] = {}
    for searched, (texts, *_) in rows:
        row, identity = searched.row, searched.identity
        if identity in seen:
            places = " and ".join(
                f"shard {s.path.stem}, line {s.row['line']}" for s in (seen[identity], searched)
            )
            raise DataError(f"sample_id: two records of one source share it: {places}; make it unique")
        seen[identity] = searched
        choices = [text.text for text in texts[2:]]
        by_shard.setdefault(searched.path.name, []).append(
            {name: row[name] for name in RECORD_SCHEMA}
            | {
                "sample_id": identity,
                "group_id": pseudonym(key, "group_id", _group(row)),
                "source": sources[row["source"]],
                "input": texts[0].text,
                "target": texts[1].text,
                "answer_choices": choices if row["answer_choices"] is not None else None,
                "language": findings.language(row),
                "shard": searched.path.stem,
                "input_spans": [span._asdict() for span in texts[0].spans],
                "target_spans": [span._asdict() for span in texts[1].spans],
            }
        )
    shards.write(by_shard)


def _by_kind(spans: Iterable[Span]) -> dict[str, int]:
    return dict(sorted(Counter(span.kind for span in spans).items()))
