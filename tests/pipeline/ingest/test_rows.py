"""The reasons of quarantine are those that rows.py names, and a row gets its own, whatever stands beside it."""

import ast
import json
import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline import ingest
from pipeline.ingest.rows import Checked, check
from pipeline.params import Source
from tests.pipeline.ingest.reading import blocks, documented

SAY = {"Fault", "Unreadable", "faulty", "_skipped", "_broken"}


def said() -> set[str]:
    """Reasons in the code: what is given to SAY, or as ``reason``."""
    found: set[str] = set()
    for path in Path(ingest.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in SAY:
                found |= {arg.value for arg in node.args[:2] if isinstance(arg, ast.Constant)}
            if (
                isinstance(node, ast.keyword)
                and node.arg == "reason"
                and isinstance(node.value, ast.Constant)
            ):
                found.add(node.value.value)
    return {each for each in found if isinstance(each, str)} - {"input", "target"}


def test_every_reason_is_documented_and_used() -> None:
    code = "".join(path.read_text() for path in Path(ingest.__file__).parent.rglob("*.py"))
    assert len(documented()) >= 35
    assert said() <= documented()
    assert {reason for reason in documented() if f'"{reason}"' not in code} == set()


VALUES: dict[str, list[Any]] = {
    "input": ["a", "a: [b", "文", " ", "\u3000", "~", None],
    "target": ["x", "y", "非上述类型", "\n", None],
    "task": ["t", "T-1", "no name", "KUAKE-QIC", None],
    "task_dataset": [None, None, "CHIP-CTC"],
    "task_type": ["nli", "CLS", "summarization", "none", None],
    "answer_choices": [["x", "y"], ["x"], ["y", 1], [["x"]], "x", [], None],
    "language": ["en", "ZH-cn", "e", None],
    "split": [None, None, "test", "dev"],
    "group_id": ["1", None],
    "sample_id": ["1", "2", None],
}
DEFAULTS = Source(match="*", defaults={"task": "d", "language": "zh"}, fields={"target": "answer"})


def mixed(count: int) -> list[str]:
    """Rows of which some fields are drawn, and the others good: the first of VALUES."""
    rng = random.Random(7)
    lines = []
    for _ in range(count):
        drawn = {name: rng.choice(VALUES[name]) for name in rng.sample(list(VALUES), rng.randrange(4))}
        lines.append(json.dumps({name: values[0] for name, values in VALUES.items()} | drawn))
    return lines


def check_lines(lines: list[str], source: Source | None) -> Checked:
    (rows,) = blocks("\n".join(lines).encode(), "a.jsonl", source=source)
    return check(rows, "0" * 16, source)


@pytest.mark.parametrize("source", [None, DEFAULTS])
def test_a_row_is_checked_alike_whatever_stands_beside_it(source: Source | None) -> None:
    lines = mixed(150)
    together = check_lines(lines, source)
    alone = dict(enumerate((check_lines([line], source) for line in lines), 1))
    records = pl.concat(each.records.with_columns(line=pl.lit(n)) for n, each in alone.items())
    stayed = together.records["line"]
    assert together.records.equals(records.filter(pl.col("line").is_in(stayed.implode())))
    assert records.height == stayed.len() + together.duplicates > 20
    refused = pl.concat(each.quarantine.with_columns(line=pl.lit(n)) for n, each in alone.items())
    assert together.quarantine.equals(refused)
    assert refused["reason"].n_unique() > 5
    assert together.languages_guessed == sum(each.languages_guessed for each in alone.values())
    assert together.keys.rows["group"].tolist() == [
        *(alone[n].keys.rows["group"][0].tolist() for n in stayed)
    ]
