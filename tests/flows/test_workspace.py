"""The clone that a deployed run works in: real git and DVC."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import repository, workspace
from pipeline.errors import PipelineError
from tests.flows.conftest import Project, make_project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    (tmp_path / "checkout").mkdir()
    project = make_project(tmp_path / "checkout", "", "local")
    (project.root / "scratch/services").mkdir(parents=True)
    monkeypatch.setenv("MOELORA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MOELORA_REPOSITORY", str(project.root))
    monkeypatch.chdir(tmp_path)
    return project


def test_a_clone_holds_the_newest_commit_and_the_workers_own_settings(
    project: Project, tmp_path: Path
) -> None:
    clone = Path(workspace.enter("retrain")["directory"])
    assert clone == tmp_path / "home/clones/retrain"
    assert clone.stat().st_mode & 0o077 == 0
    assert Path.cwd() == tmp_path
    own = (clone / ".dvc/config.local").read_text()
    assert f"dir = {tmp_path}/home/dvc" in own
    assert f"url = {project.root}/scratch/remotes/shared" in own
    assert (clone / "scratch/services").resolve() == project.root / "scratch/services"
    (clone / "stages.py").write_text("changed by a run that died")
    (clone / "left.txt").write_text("")
    project.knob("train", "another commit")
    project.git("commit", "-qam", "another")
    workspace.enter("retrain")
    assert (clone / "knobs/train").read_text() == "another commit"
    assert (clone / "stages.py").read_text() == (project.root / "stages.py").read_text()
    assert not (clone / "left.txt").exists()


def test_a_run_begins_with_the_results_of_the_last_one_on_its_commit(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = Path(workspace.enter("retrain")["directory"])
    monkeypatch.chdir(clone)
    Path("dvc.lock").write_text("stages: {}\n")
    kept = repository.commit_results("retrain/march-0123", "Retraining march")
    workspace.push(f"refs/heads/{kept.branch}:refs/heads/{kept.branch}")
    assert project.git("branch", "--list", "retrain/*").strip() == "retrain/march-0123"
    Path("dvc.lock").unlink()
    workspace.enter("retrain")
    assert Path("dvc.lock").read_text() == "stages: {}\n"
    # The same results again are that branch, not one more.
    assert repository.commit_results("retrain/again-4567", "Retraining again") == kept
    project.knob("train", "another commit")
    project.git("commit", "-qam", "another")
    workspace.enter("retrain")
    assert not Path("dvc.lock").exists()


def test_a_branch_of_results_changes_no_code(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    clone = Path(workspace.enter("retrain")["directory"])
    project.git("checkout", "-q", "-b", "retrain/evil-0123")
    (project.root / "dvc.lock").write_text("stages: {}\n")
    (project.root / "stages.py").write_text("evil")
    project.git("add", "-f", "dvc.lock")
    project.git("commit", "-qam", "evil")
    project.git("checkout", "-q", "main")
    workspace.enter("retrain")
    assert (clone / "dvc.lock").read_text() == "stages: {}\n"
    assert (clone / "stages.py").read_text() != "evil"


def test_a_branch_of_other_parameters_is_passed_over_and_only_its_champion_is_pinned(
    project: Project,
) -> None:
    clone = Path(workspace.enter("retrain")["directory"])
    text = (project.root / "params.yaml").read_text()
    for branch, old, new in (
        ("retrain/good-0123", "champion: null", "champion: 0123456789abcdef"),
        ("retrain/experiment-4567", "margin: 0.05", "margin: 0.9"),
    ):
        project.git("checkout", "-q", "-b", branch, "main")
        assert old in text
        (project.root / "params.yaml").write_text(text.replace(old, new))
        project.git("commit", "-qam", branch)
    project.git("checkout", "-q", "main")
    workspace.enter("retrain")
    params = (clone / "params.yaml").read_text()
    assert "champion: 0123456789abcdef" in params
    assert "margin: 0.05" in params


def test_a_state_that_changes_code_is_not_run(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace.enter("gpu-stage")["directory"])
    Path("dvc.lock").write_text("stages: {}\n")
    repository.git("update-ref", "refs/moelora/1", repository.commit_state("moelora: train", always=True))
    workspace.check_state("refs/moelora/1")
    Path("stages.py").write_text("evil")
    repository.git("commit", "-qam", "evil")
    repository.git("update-ref", "refs/moelora/2", "HEAD")
    with pytest.raises(PipelineError, match=r"changes stages.py"):
        workspace.check_state("refs/moelora/2")
    # Nor one on top of what is not of the branch.
    repository.git("update-ref", "refs/moelora/3", repository.commit_state("moelora: train", always=True))
    with pytest.raises(PipelineError, match="merge-base"):
        workspace.check_state("refs/moelora/3")


def test_only_the_retrainings_clone_knows_the_private_remote(project: Project, tmp_path: Path) -> None:
    for name, knows in (("retrain", True), ("gpu-stage", False), ("promote", False)):
        clone = Path(workspace.enter(name)["directory"])
        assert ("remotes/private" in (clone / ".dvc/config.local").read_text()) is knows


def test_where_the_repository_is_away_some_go_on(project: Project, tmp_path: Path) -> None:
    workspace.enter("watch")
    project.root.rename(tmp_path / "away")
    assert workspace.enter("watch", offline=True)["directory"]
    with pytest.raises(PipelineError, match="git fetch"):
        workspace.enter("watch")


def test_a_repository_that_is_not_there_is_named(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOELORA_REPOSITORY", "/nowhere")
    with pytest.raises(PipelineError, match=r"git clone.*nowhere"):
        workspace.enter("retrain")
    assert list(Path("home/clones").iterdir()) == []


def test_a_clone_in_use_is_waited_for_and_then_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = Path(workspace.enter("retrain")["directory"])
    monkeypatch.setattr(workspace, "PATIENCE", 0.5)
    holder = project.start(
        f"import os, time; os.chdir({str(clone)!r})\n"
        "from flows import repository\n"
        "with repository.one_at_a_time(): open('held', 'w').close(); time.sleep(60)"
    )
    while not (clone / "held").exists():
        assert holder.poll() is None
    try:
        with pytest.raises(PipelineError, match="another retraining runs"):
            workspace.enter("retrain")
    finally:
        holder.kill()
        holder.wait()
    workspace.enter("retrain")
