"""A real Prefect server, and a git and DVC repository with ten tiny stages of the real names."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from flows import local_prefect
from pipeline import STAGES
from tests.conftest import ROOT

STAGE_PROGRAM = '''
"""Tiny stages: reports of the real shape, and a fault on request in knobs/<stage>."""
import json, subprocess, sys, tempfile, time
from pathlib import Path
from pipeline import paths
from pipeline.errors import DataError
from pipeline.registry import Registry
from pipeline.stage import main

stage = sys.argv.pop(1)
knob = Path("knobs", stage).read_text().strip()
SCORE = {"score": 0.5, "low": 0.4, "high": 0.6, "malformed": 0}
COMPARISON = {"against": "base", "difference": 0.1, "low": 0.0, "high": 0.2, "p_worse": 0.9}
LOSSES = [{"step": step, "loss": 3.0 / step} for step in range(1, 6)]
REPORTS = {
    "ingest": {"rows": {"in": 3, "out": 2, "quarantined": 1}, "files": {"read": 1, "ignored": 0},
               "shards": [], "quarantine": {"no target": 1}, "tasks": {"triage": 2}},
    "validate": {"rows": {"in": 2, "out": 2}, "success": True, "expectations": [{
        "expectation": "not null", "column": "input", "level": "critical", "success": True, "unexpected": 0}],
        "drift": [{"figure": "labels", "task": "triage", "p": 0.01, "moved": {"soon": {"before": 0.5, "after": 0.25}}}]},
    "deidentify": {"rows": {"in": 2, "out": 2}, "found": {"NAME": 4}, "replaced": {"NAME": 4}, "residual": {"NAME": 0},
                   "recall": {"NAME": {"found": 9, "labelled": 10, "recall": 0.9}},
                   "recall_overall": 0.9, "residual_records": 0, "key_id": "0" * 16,
                   "drift": {"NAME": {"before": 0.2, "after": 0.4}}},
    "split": {"rows": {"in": 2, "out": 2, "held_out": 0}, "splits": {"train": 2},
              "tasks": {"triage": {"train": 2, "validation": 0, "test": 0, "held_out": 0}}, "profile": {}},
    "resample": {"rows": {"in": 2, "out": 2}, "tasks": {"triage": {
        "records": 2, "draws": 4, "effective_epochs": 2.0, "share_before": 1.0, "share_after": 1.0}}},
    "train": {"steps": 5, "best_step": 5, "curve": LOSSES,
              "validation": [{"step": 5, "mean": 0.7, "tasks": {"triage": 0.7}}]},
    "export": {"release_digest": "d" * 64, "tolerance": 1e-4,
               "tasks": {"triage": {"max_abs_difference": 1e-6}}},
    "evaluate": {"systems": ["base", "candidate"], "champion": None, "tasks": {"triage": {
        "metric": "accuracy", "rows": 9, "groups": 9,
        "base": SCORE, "candidate": SCORE, "comparison": COMPARISON}},
        "mean": {"base": SCORE, "candidate": SCORE, "comparison": COMPARISON}},
    "gate": {"verdict": "pass", "release_digest": "d" * 64, "undecided": ["triage"], "against": "base",
        "rules": [{"rule": "no_harm", "task": "triage", "outcome": "undecided", "figures": {}, "why": "few rows"}]},
}


def run(params, progress):
    if knob == "fail":
        raise DataError("shard 0123: field target: not among the choices; correct it")
    if knob == "linger":
        child = subprocess.Popen(["sleep", "300"])
        Path("lingering").write_text(str(child.pid))
        for second in range(600):
            progress.update(second, 600, "lingering")
            time.sleep(0.5)
            progress.check_stop()
    out = Path("data", stage)
    out.mkdir(parents=True, exist_ok=True)
    (out / "out.txt").write_text(knob)
    print(f"{stage} was here")
    if stage == "publish":
        return publish(params)
    report = REPORTS[stage]
    if stage == "evaluate":
        report["champion"] = params.evaluate.champion
    if stage == "gate":
        evaluated = json.loads(paths.report("evaluate").read_text())
        report = report | {"against": evaluated["champion"] or "base"}
    if stage == "gate" and knob == "blocked":
        report = report | {"verdict": "blocked"}
        report["rules"] = [report["rules"][0] | {"outcome": "blocked"}]
    return report


def publish(params):
    gate = json.loads(paths.report("gate").read_text())
    if gate["verdict"] != "pass" or params.publish.registry is None:
        return {"published": False, "release": None, "files": 0, "bytes": 0, "reason": "not passed"}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "gate.json").write_text(json.dumps(gate))
        Path(folder, "adapter.json").write_text(Path("data/export/out.txt").read_text())
        registry = Registry.open(params.publish.registry)
        receipt = registry.publish(Path(folder), {"by": "test", "reason": "test"})
    return {"published": True, "release": receipt.release, "files": receipt.files, "bytes": receipt.bytes,
            "reason": None}


main(stage, run, saves_on_stop=stage == "train")
'''

RETRAIN = """
import sys
import time
from flows.retrain import retrain
state = retrain(sys.argv[1], return_state=True)
print("STATE", state.name, "|", state.message)
"""


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API of a real server on a free port, its database in a temporary folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("prefect"))
        patch.setattr(local_prefect, "PORT", 0)
        for name in [name for name in os.environ if name.startswith("PREFECT_")]:
            patch.delenv(name)
        url = local_prefect.ensure()
        home = local_prefect.HOME.resolve()
    for name in ("PREFECT_API_URL", "PREFECT_HOME"):
        os.environ.pop(name, None)
    yield url
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home.parents[2])
        assert local_prefect.stop()


@dataclass
class Project:
    """A repository of tiny stages, driven from outside as a user's checkout is."""

    root: Path
    api: str

    def python(self, code: str, *arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(command, cwd=self.root, capture_output=True, text=True, **options)

    def start(self, code: str, *arguments: str) -> "subprocess.Popen[bytes]":
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=self.root, **quiet)

    def resume(self, run: dict[str, Any], **answers: Any) -> bool:
        """Send the form of a paused run; whether it was taken.

        Prefect answers 503, "ask again", while another run holds its SQLite; its own client asks again.
        """
        url = f"{self.api}/flow_runs/{run['id']}/resume"
        for _ in range(20):
            answer = httpx.post(url, json={"run_input": answers}, trust_env=False, timeout=60)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(1)
        answer.raise_for_status()
        return answer.json()["status"] == "ACCEPT"

    def retrain(self, batch: str) -> tuple[str, str]:
        """Run the flow in a process of its own: the name and message of its state."""
        done = self.python(RETRAIN, batch)
        line = next((line for line in done.stdout.splitlines() if line.startswith("STATE ")), None)
        assert line is not None, done.stdout + done.stderr
        name, _, message = line.removeprefix("STATE ").partition(" | ")
        return name, message

    def moelora(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "flows.cli", *arguments]
        return subprocess.run(command, cwd=self.root, capture_output=True, text=True)

    def run(self, *command: str) -> str:
        done = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def git(self, *arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(
            command, cwd=self.root, capture_output=True, text=True, check=True
        ).stdout.strip()

    def dvc(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "dvc", *arguments]
        done = subprocess.run(command, cwd=self.root, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def knob(self, stage: str, value: str) -> None:
        (self.root / "knobs" / stage).write_text(value)

    def report(self, stage: str) -> dict[str, Any]:
        return json.loads((self.root / "reports" / f"{stage}.json").read_text())

    def ask(self, what: str, **filters: Any) -> list[dict[str, Any]]:
        """Objects of the Prefect server: flow_runs, task_runs, artifacts, logs."""
        answer = httpx.post(f"{self.api}/{what}/filter", json={"limit": 200, **filters}, trust_env=False)
        answer.raise_for_status()
        return answer.json()

    def last_run(self, batch: str) -> dict[str, Any]:
        runs = self.ask("flow_runs", flow_runs={"name": {"any_": [batch]}}, sort="START_TIME_DESC")
        return runs[0]

    def task_runs(self, batch: str) -> list[dict[str, Any]]:
        runs = {"id": {"any_": [self.last_run(batch)["id"]]}}
        found = self.ask("task_runs", flow_runs=runs)
        return sorted(found, key=lambda run: run["start_time"] or "")


def make_project(root: Path, api: str, registry: str) -> Project:
    """Write the repository: git, DVC, two local remotes, one file in the inbox."""
    shutil.copy(ROOT / "params.yaml", root)
    shutil.copy(ROOT / ".dvcignore", root)
    shutil.copy(ROOT / ".gitignore", root)
    project = Project(root, api)
    (root / "stages.py").write_text(STAGE_PROGRAM)
    (root / "knobs").mkdir()
    stages = {}
    for position, stage in enumerate(STAGES):
        project.knob(stage, "ok")
        before = f"reports/{STAGES[position - 1]}.json" if position else "data/inbox"
        out: Any = f"data/{stage}"
        stages[stage] = {
            "cmd": f"python stages.py {stage}",
            "deps": [before, f"knobs/{stage}", *(["data/export"] if stage == "publish" else [])],
            "params": [stage],
            "outs": [{out: {"remote": "private"}}] if stage == "ingest" else [out],
            "metrics": [f"reports/{stage}.json"],
        }
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    text = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(text.replace("registry: local ", f"registry: {registry or 'null'} "))
    project.git("init", "-q", "-b", "main")
    project.git("config", "user.name", "Test")
    project.git("config", "user.email", "test@example.org")
    project.dvc("init", "-q")
    shutil.copy(ROOT / ".dvc/config", root / ".dvc/config")
    project.git("add", "-A")
    project.git("commit", "-qm", "start")
    (root / "data/inbox/first").mkdir(parents=True)
    (root / "data/inbox/first/Featherstone.jsonl").write_text('{"input": "Featherstone"}\n')
    return project
