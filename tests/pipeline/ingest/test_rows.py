"""The reasons of quarantine are those that rows.py names."""

import ast
from pathlib import Path

from pipeline import ingest
from tests.pipeline.ingest.reading import documented

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
