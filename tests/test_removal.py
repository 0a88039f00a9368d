"""A patient whose records leave the inbox is in nothing that the data stages make after that."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.bench.deidentify.project import Project

STAGES = ("ingest", "validate", "deidentify", "split", "resample")

NAME, DRUG = "Featherstone", "zorvexabilin"
"""The name is replaced by deidentify; the drug, which nobody else takes, is not."""


def visit(number: int, group: str, text: str) -> dict[str, Any]:
    return {
        "sample_id": f"{group}-{number}",
        "task": "summary",
        "task_type": "summarization",
        "input": f"Summarise visit {number}. {text}",
        "target": text,
        "group_id": group,
        "language": "en",
        "source": "ward",
        "split": ("train", "validation", "test")[number % 3],
    }


def others() -> list[dict[str, Any]]:
    words = ("cough", "fever", "rash", "pain", "nausea", "fatigue", "oedema", "headache", "cramps")
    return [
        visit(n, f"p{n}", f"Came with {word} since {n + 2} weeks, given {word}-{n}.")
        for n, word in enumerate(words)
    ]


def own(count: int) -> list[dict[str, Any]]:
    # One split: a group is never torn.
    return [
        visit(3 * n, NAME, f"Mrs. {NAME} takes {DRUG} for {n + 3} weeks and feels well on day {n}.")
        for n in range(count)
    ]


def places(root: Path, word: str) -> set[str]:
    """The stage outputs and reports that hold a word, in text or in a name."""
    return {
        path.relative_to(root).parts[1]
        for folder in ("data", "reports")
        for path in (root / folder).rglob("*")
        if path.is_file() and word.lower() in f"{path} {''.join(contents(path))}".lower()
    }


def contents(path: Path) -> Iterator[str]:
    yield path.read_bytes().decode("utf-8", "replace")
    if path.suffix == ".parquet":  # whose text is compressed
        yield str(pl.read_parquet(path).rows())


@pytest.mark.slow
def test_a_patient_who_leaves_the_inbox_is_in_no_later_output(tmp_path: Path) -> None:
    project = Project(tmp_path / NAME.lower()[::-1])
    project.write("own.jsonl", own(4))
    with (project.inbox / "own.jsonl").open("a") as file:
        file.write(f"broken {NAME} {DRUG}\n")
    project.write("ward.jsonl", [*others(), own(1)[0] | {"sample_id": "again"}])
    project.run(*STAGES)
    assert places(project.folder, DRUG) >= {"inbox", "ingested", "quarantine", "deidentified", "split"}
    assert places(project.folder, NAME) == {"inbox", "ingested", "quarantine"}
    group = project.outputs().filter(pl.col("input").str.contains(DRUG))["group_id"].unique().item()
    assert places(project.folder, group) >= {"deidentified", "split"}

    (project.inbox / "own.jsonl").unlink()
    project.write("ward.jsonl", others())
    project.run(*STAGES)
    for word in (NAME, DRUG, group):
        assert places(project.folder, word) == set()
    assert project.report("ingest")["rows"]["out"] == project.report("split")["rows"]["in"] == len(others())
