"""The service on one machine: a repository of tiny stages, `moelora up`, and what runs came of it."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.conftest import ROOT

Run = dict[str, Any]


@dataclass
class Service:
    """A checkout whose workers serve it, driven by commands and by Prefect's API."""

    root: Path
    drop: Path
    env: dict[str, str]
    api: str = ""

    def moelora(self, *arguments: str, check: bool = True) -> str:
        command = [sys.executable, "-m", "flows.cli", *arguments]
        done = subprocess.run(command, cwd=self.root, env=self.env, capture_output=True, text=True)
        assert done.returncode == 0 or not check, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + done.stderr

    def up(self, *options: str) -> str:
        said = self.moelora("up", "--watch", str(self.drop), *options)
        said_address = next(word for word in said.split() if word.startswith("http://127.0.0.1:"))
        self.api = f"{said_address}/api"
        return said

    def down(self) -> None:
        self.moelora("services", "stop", check=False)

    def ask(self, what: str, **filters: Any) -> list[Run]:
        body = {"limit": 200, **filters}
        for _ in range(60):
            try:
                answer = httpx.post(f"{self.api}/{what}/filter", json=body, trust_env=False, timeout=30)
                if answer.status_code == httpx.codes.OK:
                    return answer.json()
            except httpx.TransportError:
                pass
            time.sleep(0.5)
        raise AssertionError(f"{what}: no answer")

    def runs(self, deployment: str) -> list[Run]:
        """Runs that somebody or something asked for, the newest first; none of the schedule's to come."""
        named = {"name": {"any_": [deployment]}}
        found = self.ask("flow_runs", deployments=named, sort="EXPECTED_START_TIME_DESC")
        return [run for run in found if run["state"]["name"] != "Scheduled" or not run["auto_scheduled"]]

    def post(self, path: str, body: Any) -> Any:
        """Prefect answers 503, "ask again", while another run holds its SQLite; its own client asks again."""
        for _ in range(60):
            answer = httpx.post(f"{self.api}/{path}", json=body, trust_env=False, timeout=60)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(0.5)
        answer.raise_for_status()
        return answer.json()

    def start(self, deployment: str, **parameters: Any) -> str:
        named = {"name": {"any_": [deployment]}}
        identity = self.ask("deployments", deployments=named)[0]["id"]
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        return str(self.post(f"deployments/{identity}/create_flow_run", body)["id"])

    def run(self, identity: str) -> Run:
        return self.ask("flow_runs", flow_runs={"id": {"any_": [identity]}})[0]

    def ended(self, identity: str, seconds: float = 180) -> Run:
        """A run in the state it ends in."""
        until(lambda: is_final(self.run(identity)), seconds)
        return self.run(identity)

    def cancel(self, identity: str) -> None:
        """As the page's button does."""
        state = {"type": "CANCELLING", "name": "Cancelling"}
        self.post(f"flow_runs/{identity}/set_state", {"state": state, "force": False})

    def resume(self, identity: str, **answers: Any) -> bool:
        """Send the form of a paused run; whether it was taken."""
        return bool(self.post(f"flow_runs/{identity}/resume", {"run_input": answers})["status"] == "ACCEPT")

    def artifacts(self, run: str) -> list[Run]:
        return self.ask("artifacts", artifacts={"flow_run_id": {"any_": [run]}})

    def logs(self, run: str) -> list[str]:
        return [each["message"] for each in self.ask("logs", logs={"flow_run_id": {"any_": [run]}})]

    def git(self, *arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(
            command, cwd=self.root, capture_output=True, text=True, check=True
        ).stdout.strip()

    def home(self, pool: str) -> Path:
        return self.root / "scratch/service" / pool

    def clone(self, pool: str, flow: str) -> Path:
        return self.home(pool) / "clones" / flow

    def stages(self) -> list[psutil.Process]:
        """Processes of stages and of DVC that work in clones of this service."""
        found = []
        for process in psutil.process_iter():
            try:
                line = " ".join(process.cmdline())
                inside = Path(process.cwd()).is_relative_to(self.root / "scratch/service")
                if process.status() != psutil.STATUS_ZOMBIE and inside and "prefect" not in line:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def worker(self, pool: str) -> psutil.Process:
        path = self.root / "scratch/services/workers" / f"{pool}.json"
        return psutil.Process(json.loads(path.read_text())["process"])

    def flow_process(self, pool: str, flow: str) -> psutil.Process:
        """The process of the run of a flow that a worker has under way."""
        clone = self.clone(pool, flow)
        return next(child for child in self.worker(pool).children() if Path(child.cwd()) == clone)


def environment() -> dict[str, str]:
    """Nothing of this machine's own Prefect, AWS or service; our interpreter first."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "PREFECT_", "MOELORA_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    return kept | {"PATH": path, "DO_NOT_TRACK": "1", "MOELORA_ACTOR": "tester"}


def copy_code(root: Path) -> None:
    """What a deployment reads of a checkout, committed beside the tiny stages."""
    for name in ("flows", "pipeline", "infra"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))


def is_final(run: Run) -> bool:
    return run["state"]["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def is_gone(process: psutil.Process) -> bool:
    """Whether a process has ended; one that is nobody's child may wait for ever to be reaped."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def until(holds: Callable[[], object], seconds: float = 60) -> float:
    """Wait until something holds; the seconds it took."""
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < seconds, "it never came"
        time.sleep(0.2)
    return time.monotonic() - started
