"""Where a release came from, against a real registry."""

import json
from pathlib import Path

import pytest

from pipeline.errors import ReleaseCorrupt
from pipeline.lineage import trace
from pipeline.registry import Registry
from tests.signed import make_release


def test_the_commit_of_the_results_comes_before_that_of_the_code(
    empty_registry: Registry, tmp_path: Path
) -> None:
    folder = make_release(tmp_path / "made")
    facts = {"by": "Ann", "reason": "gate: pass", "git_commit": "1" * 40}
    release = empty_registry.publish(folder, facts).release
    found = trace(empty_registry, release)
    assert (found["commit"]["event"], found["commit"]["git_commit"]) == ("published", "1" * 40)
    empty_registry.append_history("candidate", "0" * 16, "Ann", "another", git_commit="3" * 40)
    empty_registry.append_history(
        "candidate", release, "Ann", "retraining", git_commit="2" * 40, branch="retrain/a-1"
    )
    found = trace(empty_registry, release)
    assert (found["commit"]["git_commit"], found["commit"]["branch"]) == ("2" * 40, "retrain/a-1")
    assert [entry["event"] for entry in found["history"]] == ["published", "candidate"]
    own = json.loads((folder / "lineage.json").read_text())
    assert {name: found[name] for name in own} == own


def test_a_release_published_outside_of_a_repository_names_no_commit(
    empty_registry: Registry, tmp_path: Path
) -> None:
    facts = {"by": "Ann", "reason": "gate: pass", "git_commit": None}
    release = empty_registry.publish(make_release(tmp_path / "made"), facts).release
    assert trace(empty_registry, release)["commit"] is None


@pytest.mark.parametrize("content", ["{}", "[]", "no json"])
def test_a_lineage_that_is_none_is_said(empty_registry: Registry, tmp_path: Path, content: str) -> None:
    folder = make_release(tmp_path / "made")
    (folder / "lineage.json").write_text(content)
    release = empty_registry.publish(folder, {"by": "Ann", "reason": "x"}).release
    with pytest.raises(ReleaseCorrupt, match=r"lineage\.json lacks a field"):
        trace(empty_registry, release)
