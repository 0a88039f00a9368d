"""One project, retrained again and again: the tests build on each other's runs in their order."""

import json
import os
import signal
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pipeline import STAGES
from pipeline.registry import Registry
from tests.flows.conftest import RETRAIN, Project, make_project
from tests.s3 import BUCKET

URL = f"s3://{BUCKET}/flows"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, prefect_api: str, s3: Path) -> Iterator[Project]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_API_URL", prefect_api)
        patch.setenv("AWS_CONFIG_FILE", str(s3))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        patch.setenv("DO_NOT_TRACK", "1")
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        patch.setenv("MOELORA_ACTOR", "tester")
        patch.delenv("MOELORA_CACHE", raising=False)
        project = make_project(tmp_path_factory.mktemp("project"), prefect_api, URL)
        project.first = project.retrain("first")  # type: ignore[attr-defined]
        yield project


@pytest.fixture
def registry(project: Project) -> Registry:
    return Registry.open(URL)


def until(holds: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_stages_run_in_order_as_tasks_of_their_names(project: Project) -> None:
    name, message = project.first  # type: ignore[attr-defined]
    assert name == "Published", message
    runs = project.task_runs("first")
    assert [run["name"] for run in runs] == list(STAGES)
    assert {run["state"]["name"] for run in runs} == {"Completed"}


def test_every_stage_and_the_run_leave_an_artifact(project: Project) -> None:
    run = project.last_run("first")
    artifacts = project.ask("artifacts", artifacts={"flow_run_id": {"any_": [run["id"]]}})
    assert {each["key"] for each in artifacts} >= {
        "data-counts",
        "deidentification-counts",
        "balance",
        "training-curve",
        "scores",
        "gate",
        "release",
        "summary",
    }
    assert "Featherstone" not in json.dumps(artifacts)
    summary = next(each["data"] for each in artifacts if each["key"] == "summary")
    assert "3 rows in, 2 out, 1 quarantined" in summary
    assert f"moelora promote {project.report('publish')['release']}" in summary


def test_logs_reach_prefect_and_name_no_raw_file(project: Project) -> None:
    run = project.last_run("first")
    logs = [each["message"] for each in project.ask("logs", logs={"flow_run_id": {"any_": [run["id"]]}})]
    assert "train was here" in logs
    assert not any("Featherstone" in line for line in logs)


def test_the_state_is_kept_on_a_branch_and_the_checkout_is_untouched(project: Project) -> None:
    branch = project.git("branch", "--list", "--format=%(refname:short)", "retrain/*")
    assert branch.startswith("retrain/first-")
    assert project.git("branch", "--show-current") == "main"
    assert project.git("diff", "--cached", "--name-only") == ""
    kept = project.git("ls-tree", "-r", "--name-only", branch).splitlines()
    assert {"dvc.lock", "params.yaml", "data/inbox.dvc"} <= set(kept)
    assert project.git("show", f"{branch}:dvc.lock") == (project.root / "dvc.lock").read_text().strip()
    assert project.git("rev-parse", f"{branch}^") == project.git("rev-parse", "HEAD")


def test_raw_data_goes_to_the_private_remote_and_is_private_here(project: Project) -> None:
    remotes = project.root / "scratch/remotes"
    texts = {
        name: [f.read_bytes() for f in (remotes / name).rglob("*") if f.is_file()]
        for name in ("shared", "private")
    }
    assert any(b"Featherstone" in text for text in texts["private"])
    assert not any(b"Featherstone" in text for text in texts["shared"])
    for folder in ("data/inbox", ".dvc/cache"):
        assert stat.S_IMODE((project.root / folder).stat().st_mode) == 0o700


def test_the_lock_is_the_one_that_plain_dvc_writes(project: Project, tmp_path: Path) -> None:
    assert json.loads(project.dvc("status", "--json")) == {}
    other = make_project(tmp_path, project.api, URL)
    other.dvc("add", "-q", "data/inbox")
    other.dvc("repro", "-q")
    assert (other.root / "dvc.lock").read_bytes() == (project.root / "dvc.lock").read_bytes()


def test_a_second_run_finds_nothing_to_do_and_says_so(project: Project, registry: Registry) -> None:
    branches = project.git("branch", "--list", "retrain/*")
    started = time.monotonic()
    name, message = project.retrain("second")
    print(f"a run without work took {time.monotonic() - started:.1f} s")
    assert name == "Unchanged"
    assert project.report("publish")["release"] in message
    assert {run["state"]["name"] for run in project.task_runs("second")} == {"Cached"}
    assert project.git("branch", "--list", "retrain/*") == branches
    assert [entry["event"] for entry in registry.history()] == ["published", "intended", "candidate"]


def test_a_release_the_registry_lost_is_published_again(project: Project) -> None:
    other = project.root / "params.yaml"
    text = other.read_text()
    release = project.report("publish")["release"]
    registry = Registry.open(URL)
    registry.store.client.delete_object(Bucket=BUCKET, Key=f"flows/releases/{release}/manifest.json")
    assert not registry.exists(release)
    assert project.retrain("lost")[0] == "Published"
    assert registry.exists(release)
    assert other.read_text() == text


def test_bad_input_fails_once_with_the_stages_own_message(project: Project) -> None:
    project.knob("validate", "fail")
    name, message = project.retrain("bad")
    project.knob("validate", "ok")
    assert name == "Failed"
    assert "shard 0123: field target: not among the choices; correct it" in message
    runs = project.task_runs("bad")
    assert [(run["name"], run["state"]["type"], run["run_count"]) for run in runs] == [
        ("ingest", "COMPLETED", 1),
        ("validate", "FAILED", 1),
    ]
    run = project.last_run("bad")
    logs = [each["message"] for each in project.ask("logs", logs={"flow_run_id": {"any_": [run["id"]]}})]
    assert not any("Traceback" in line for line in logs)


def test_a_blocked_gate_completes_as_blocked(project: Project, registry: Registry) -> None:
    project.knob("gate", "blocked")
    published = len(registry.releases())
    name, message = project.retrain("blocked")
    project.knob("gate", "ok")
    assert (name, message) == ("Blocked", "The gate blocked: no_harm of triage.")
    assert project.last_run("blocked")["state"]["type"] == "COMPLETED"
    assert len(registry.releases()) == published


def test_a_second_flow_is_refused_and_a_terminated_one_leaves_no_process(project: Project) -> None:
    lingering = project.root / "lingering"
    project.knob("train", "linger")
    flow = project.start(RETRAIN, "stopped")
    until(lambda: lingering.is_file() and lingering.read_text())
    name, message = project.retrain("second-at-once")
    assert name == "Failed"
    assert f"another retraining runs in this checkout (process {flow.pid})" in message
    until(lambda: project.ask("artifacts", artifacts={"key": {"any_": ["train-progress"]}}))
    started = time.monotonic()
    flow.send_signal(signal.SIGTERM)
    flow.wait(30)
    print(f"SIGTERM to the end of all: {time.monotonic() - started:.1f} s")
    until(lambda: not left_in(project.root), 5)
    status = json.loads((project.root / "scratch/status/train.json").read_text())
    assert status["exit_code"] == 75
    lingering.unlink()


def test_a_killed_flow_takes_its_stage_with_it(project: Project) -> None:
    lingering = project.root / "lingering"
    flow = project.start(RETRAIN, "killed")
    until(lambda: lingering.is_file() and lingering.read_text())
    flow.kill()
    flow.wait()
    until(lambda: not left_in(project.root), 25)
    lingering.unlink()
    project.knob("train", "ok")


def left_in(root: Path) -> list[str]:
    """Stages and their children that still work in a checkout."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == root:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return [line for line in found if "stages.py" in line or "sleep 300" in line or "dvc" in line]


# Promotion ------------------------------------------------------------------------------------


def test_an_undecided_task_is_confirmed_by_name_before_the_champion_moves(
    project: Project, registry: Registry
) -> None:
    assert project.retrain("after-a-kill")[0] in ("Published", "Unchanged")
    release = project.report("publish")["release"]
    refused = project.moelora("promote", release, "--by", "A. Meyer", "--reason", "better")
    assert refused.returncode == 2
    assert "--confirm triage" in refused.stderr
    assert "Traceback" not in refused.stderr, refused.stderr
    assert registry.channel() is None
    done = project.moelora(
        "promote", release, "--by", "A. Meyer", "--reason", "better", "--confirm", "triage"
    )
    assert done.returncode == 0, done.stderr
    champion = registry.channel()
    assert champion is not None
    assert (champion.release, champion.by, champion.reason) == (release, "A. Meyer", "better")
    assert f"release/{release}" in project.git("tag")
    artifacts = project.ask("artifacts", artifacts={"key": {"any_": ["promotion"]}})
    assert any("few rows" in json.dumps(each["data"]) for each in artifacts)


def test_the_form_in_prefects_page_rejects_and_demands_a_reason(project: Project, registry: Registry) -> None:
    release, before = project.report("publish")["release"], registry.channel()
    waiting = project.start(
        "from flows.promote import promote; promote('" + release + "', return_state=True)"
    )
    until(lambda: project.last_run(release)["state"]["type"] == "PAUSED")
    run = project.last_run(release)
    assert not project.resume(run, approve=False, by="A. Meyer", reason="")
    assert project.resume(run, approve=False, by="A. Meyer", reason="too few rows")
    assert waiting.wait(30) == 0
    assert project.last_run(release)["state"]["name"] == "Rejected"
    assert registry.channel() == before
    last = registry.history()[-1]
    assert (last["event"], last["by"], last["reason"]) == ("rejected", "A. Meyer", "too few rows")


def test_the_promoted_release_is_not_compared_with_itself(project: Project, registry: Registry) -> None:
    champion = registry.channel()
    assert champion is not None
    assert champion.release == project.report("publish")["release"]
    pinned = project.report("evaluate")["champion"]
    assert project.retrain("promoted")[0] == "Unchanged"
    assert {run["state"]["name"] for run in project.task_runs("promoted")} == {"Cached"}
    assert project.report("evaluate")["champion"] == pinned
    run = project.last_run("promoted")
    artifacts = project.ask("artifacts", artifacts={"flow_run_id": {"any_": [run["id"]]}})
    summary = next(each["data"] for each in artifacts if each["key"] == "summary")
    assert "is the champion" in summary
    assert "moelora promote" not in summary


def test_the_next_run_is_compared_with_the_champion(project: Project, registry: Registry) -> None:
    champion = registry.channel()
    assert champion is not None
    project.knob("export", "another adapter")
    name, _ = project.retrain("next")
    assert name == "Published"
    assert project.report("evaluate")["champion"] == champion.release
    assert f"champion: {champion.release}" in (project.root / "params.yaml").read_text()
    assert (project.root / "scratch/open/releases" / champion.release).is_dir()


def test_rollback_moves_the_pointer_while_prefect_is_down(
    project: Project, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = registry.channel()
    assert first is not None
    second = project.report("publish")["release"]
    assert second != first.release
    done = project.moelora("promote", second, "--reason", "newer", "--confirm", "triage")
    assert done.returncode == 0, done.stderr
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    done = project.moelora("rollback", "--reason", "wrong on triage")
    assert done.returncode == 0, done.stderr
    assert "not told" in done.stderr
    now = registry.channel()
    assert now is not None
    assert (now.release, now.previous, now.by) == (first.release, second, "tester")
    assert registry.history()[-1]["event"] == "rolled back"


def test_releases_and_history_are_told_to_people_and_machines(project: Project, registry: Registry) -> None:
    champion = registry.channel()
    assert champion is not None
    listed = json.loads(project.moelora("releases", "--json").stdout)
    assert [each["id"] for each in listed if each["champion"]] == [champion.release]
    assert "next: moelora promote" in project.moelora("releases").stdout
    events = [each["event"] for each in json.loads(project.moelora("history", "--json").stdout)]
    assert events.count("promoted") == 2
    verified = project.moelora("verify", champion.release)
    assert verified.returncode == 0
    assert "is whole" in verified.stdout
