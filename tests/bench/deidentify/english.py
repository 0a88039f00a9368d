"""All English records through the stage: what it costs, and what it changes in text without patients."""

import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.deidentify import findings, labelled
from pipeline.deidentify.vocabulary import TITLES
from tests.bench import records
from tests.bench.children import Result
from tests.bench.deidentify.project import Project

PUBLIC = r"^(?:medquad-|rqe$|pubmedqa-)"
"""Tasks of public text about no patient."""
NOTES = r"^(?:aci-|mts-)"
"""Tasks of dialogues and notes, where names are known."""
GOLD = r"^(?:ncbi-disease-ner|bc5cdr-ner)$"
NEW = 100
"""Of the growing set, one record in so many is new: 1 %."""


def whole_set() -> Result:
    """Cost of the stage on all English records, and characters changed by group of tasks."""
    with tempfile.TemporaryDirectory() as name:
        project = Project(Path(name))
        for split in ("train", "validation", "test"):
            (project.inbox / f"en.{split}.jsonl.gz").write_bytes(
                (records.folder() / f"en.{split}.jsonl.gz").read_bytes()
            )
        runs = project.run("ingest", "validate", "deidentify")
        pairs = _pairs(project)
        report = project.report("deidentify")
        return {
            "seconds": [runs["deidentify"].seconds],
            "memory": runs["deidentify"].peak,
            "rows": report["rows"],
            "public": _changed(pairs, PUBLIC),
            "notes": _changed(pairs, NOTES, _known_names()),
            "gold": _mentions(pairs),
        }


def growth() -> Result:
    """One record in a hundred is new, in a file of its own: seconds and documents, full run and after."""
    everything = pl.concat([records.read(split) for split in ("train", "validation", "test")])
    groups = everything["group_id"].unique(maintain_order=True)
    new = groups.gather_every(NEW)
    with tempfile.TemporaryDirectory() as name:
        project = Project(Path(name))
        project.write("old.jsonl", everything.filter(~pl.col("group_id").is_in(new.implode())).to_dicts())
        full = project.run("ingest", "validate", "deidentify")["deidentify"]
        fresh = everything.filter(pl.col("group_id").is_in(new.implode()))
        project.write("new.jsonl", fresh.to_dicts())
        again = project.run("ingest", "validate", "deidentify")["deidentify"]
        work = project.work("deidentify")
        return {
            "full": full.seconds,
            "again": again.seconds,
            "new_records": fresh.height,
            "records": everything.height,
            "detected": work["documents_detected"],
            "new_documents": _documents(fresh),
        }


def _pairs(project: Project) -> pl.DataFrame:
    """Each record that came out: ``task``, its texts, ``new_input, new_target`` and where surrogates lie."""
    files = sorted(project.folder.glob("data/ingested/*.parquet"))
    before = pl.concat([pl.read_parquet(file) for file in files])
    identities = [project.identity(row) for row in before.select("source", "sample_id").iter_rows(named=True)]
    texts = before.select("task", "input", "target", sample_id=pl.Series(identities))
    made = project.outputs().select(
        "sample_id", "input_spans", "target_spans", new_input="input", new_target="target"
    )
    return texts.join(made, on="sample_id", how="inner", validate="1:1")


def _changed(pairs: pl.DataFrame, tasks: str, known: frozenset[str] = frozenset()) -> dict[str, Any]:
    """``characters`` of inputs and targets, ``changed`` ones by kind; without names of ``known`` words."""
    characters = 0
    changed: Counter[str] = Counter()
    for row in pairs.filter(pl.col("task").str.contains(tasks)).iter_rows(named=True):
        for field in ("input", "target"):
            characters += len(row[field])
            for original, kind in _originals(row[field], row[f"new_{field}"], row[f"{field}_spans"]):
                words = set(re.findall(r"[^\W\d_]+", original.lower()))
                if kind != "NAME" or not words <= known:
                    changed[kind] += len(original)
    return {"characters": characters, "changed": dict(changed.most_common())}


def _originals(before: str, after: str, spans: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """What the surrogates of ``after`` stand for, and its kind."""
    if not spans:
        return []
    kept, position = [], 0
    for span in spans:
        kept.append(after[position : span["start"]])
        position = span["end"]
    match = re.fullmatch("(.+?)".join(map(re.escape, [*kept, after[position:]])), before, re.DOTALL)
    if match is None:
        raise SystemExit("bench-deidentify: a text differs from its original outside its surrogates")
    return [(text, span["kind"]) for text, span in zip(match.groups(), spans, strict=True)]


def _mentions(pairs: pl.DataFrame) -> dict[str, int]:
    """Gold mentions of diseases and chemicals: ``all``, and those that stand in the new input as often."""
    mentions = kept = 0
    for row in pairs.filter(pl.col("task").str.contains(GOLD)).iter_rows(named=True):
        lines = [line.partition(": ")[2] for line in row["target"].splitlines()]
        for mention in {each.strip() for line in lines for each in line.split(";") if each.strip()}:
            mentions += 1
            kept += row["input"].count(mention) == row["new_input"].count(mention)
    return {"all": mentions, "kept": kept}


def _known_names() -> frozenset[str]:
    """Lower-case words of all names that the weak set marks, with titles."""
    documents = labelled.read(records.folder() / "phi_names_weak.jsonl.gz")
    words = {
        word
        for document in documents
        for start, end, _ in document.spans
        for word in re.findall(r"[^\W\d_]+", document.text[start:end].lower())
    }
    return frozenset(words) | TITLES


def _documents(frame: pl.DataFrame) -> int:
    """Distinct texts that the stage searches in these records."""
    return len(
        {
            document
            for row in frame.iter_rows(named=True)
            for field in findings.documents(row).values()
            for document in field
        }
    )
