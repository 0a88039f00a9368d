"""Releases over time, from a real registry."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.digests import canonical_json
from pipeline.registry import Registry
from pipeline.trends import collect


def publish(registry: Registry, folder: Path, number: int, **gate: Any) -> str:
    """A release of figures alone: scores, identifiers and records that grow with ``number``."""
    score = {"score": 0.5 + number / 10, "low": 0.4, "high": 0.9, "malformed": 0}
    task = {"metric": "accuracy", "rows": 40, "base": score, "candidate": score}
    tasks = {"rqe": task} if number == 0 else {"rqe": task, "summary": task | {"metric": "rouge_l"}}
    rules = [
        {
            "rule": "phi_recall",
            "task": None,
            "outcome": "pass",
            "why": "",
            "figures": {"recall": 0.97, "worst_kind": "NAME", "worst_recall": 0.93},
        },
        {"rule": "residual", "task": None, "outcome": "pass", "why": "", "figures": {"rate": 0.002}},
    ]
    files = {
        "gate.json": {"verdict": "pass", "override": None, "rules": rules} | gate,
        "metrics.json": {"tasks": tasks, "mean": {"base": score, "candidate": score}},
        "profile.json": {
            "rows": 1000 + 500 * number,
            "deidentification": {"rows": 1000, "found": {"NAME": 100 * number, "DATE": 20}},
        },
    }
    folder.mkdir()
    for name, value in files.items():
        (folder / name).write_text(canonical_json(value))
    return registry.publish(folder, {"by": "test", "reason": "test"}).release


@pytest.fixture
def published(empty_registry: Registry, tmp_path: Path) -> list[str]:
    override = {"verdict": "overridden", "override": {"by": "A. Meyer", "reason": "not in use"}}
    made = [
        publish(empty_registry, tmp_path / str(number), number, **(override if number == 2 else {}))
        for number in range(3)
    ]
    empty_registry.move("champion", made[1], "test", "test", None)
    return made


def test_each_release_has_its_scores_identifiers_and_records(
    empty_registry: Registry, published: list[str]
) -> None:
    entries = {each["release"]: each for each in collect(empty_registry, 10)}
    first, second, third = (entries[release] for release in published)
    assert set(first["tasks"]) == {"rqe"}
    assert second["tasks"]["summary"] == {
        "metric": "rouge_l",
        "rows": 40,
        "score": 0.6,
        "low": 0.4,
        "high": 0.9,
    }
    assert [each["rows"] for each in (first, second, third)] == [1000, 1500, 2000]
    assert [each["champion"] for each in (first, second, third)] == [False, True, False]
    assert (third["verdict"], third["override"]["by"]) == ("overridden", "A. Meyer")
    assert third["identifiers"] == {
        "recall": 0.97,
        "worst_kind": "NAME",
        "worst_recall": 0.93,
        "residual_rate": 0.002,
        "per_1000_records": 220.0,
    }


def test_the_newest_are_taken_the_oldest_first(empty_registry: Registry, published: list[str]) -> None:
    everything = [each["release"] for each in collect(empty_registry, 10)]
    assert [each["release"] for each in collect(empty_registry, 2)] == everything[-2:]
    times = [each["published_at"] for each in collect(empty_registry, 10)]
    assert times == sorted(times)


def test_an_empty_registry_has_no_trends(empty_registry: Registry) -> None:
    assert collect(empty_registry, 10) == []
