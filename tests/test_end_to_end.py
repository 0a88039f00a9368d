"""The whole system as its users meet it: real git, DVC, Prefect, S3, a tiny real base model.

One module, one project: the tests build on each other's runs in the order they stand.
"""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.tiny import tiny_base

pytestmark = pytest.mark.slow

TINY = {
    "base.model": "tiny",
    "train.max_tokens": "400",
    "train.micro_batch_tokens": "4000",
    "train.batch_records": "8",
    "train.validate_every": "3",
    "train.checkpoint_every": "1",
    "train.validation_records": "16",
    "resample.records": "64",
    "resample.canaries": "4",
    "evaluate.max_new_tokens": "4",
    "evaluate.batch_tokens": "8000",
    "evaluate.resamples": "999",
    # A tiny random model learns nothing in eight steps; its losses by chance must not block it.
    "gate.margin": "1.0",
    "gate.min_phi_recall": "0.5",
    "gate.max_residual_rate": "1.0",
}

# Planted in every field; found again outside the private area they are a leak.
PLANTED = (
    "Wilhelmina Featherstone",
    "Featherstone",
    "wilhelmina.featherstone@example.org",
    "555-867-5309",
    "MRN 84620175",
    "84620175",
    "Thaddeus Quillfeather",
    "Quillfeather",
)


@dataclass
class Project:
    """A clone with its own environment variables, run by the commands people type."""

    root: Path
    env: dict[str, str]

    def run(self, *command: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(command, cwd=self.root, env=self.env, capture_output=True, text=True)
        if check and done.returncode:
            raise AssertionError(
                f"{command} gave {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
            )
        return done

    def moelora(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        return self.run(sys.executable, "-m", "flows.cli", *arguments, check=check)

    def retrain(self, inbox: Path, batch: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        return self.moelora("retrain", *arriving(inbox, batch), check=check)

    def report(self, stage: str) -> dict:
        return json.loads((self.root / "reports" / f"{stage}.json").read_text())

    def work(self, stage: str) -> dict:
        return json.loads((self.root / "scratch/status" / f"{stage}.json").read_text())["work"]

    def bytes_of(self, *names: str) -> dict[str, bytes]:
        files = [path for name in names for path in sorted((self.root / name).rglob("*")) if path.is_file()]
        return {path.relative_to(self.root).as_posix(): path.read_bytes() for path in files}


def arriving(inbox: Path, batch: str) -> list[str]:
    """Options that bring a folder in as a batch, with parameters for a tiny training."""
    settings = [word for item in TINY.items() for word in ("--set", "=".join(item))]
    return ["--inbox", str(inbox), "--batch", batch, *settings]


def clone(root: Path, prefect: str | None = None) -> Project:
    """The working tree as a git repository of its own; ``prefect``: API of a server to report to."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in listed.splitlines():
        if (ROOT / name).is_file() and name not in ("dvc.lock", "data/inbox.dvc"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
    home = root.with_name(root.name + "-home")
    home.mkdir()
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "PREFECT_", "MOELORA_"))
    }
    env |= {
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}",
        "MOELORA_DEID_KEY": base64.b64encode(bytes(range(32))).decode(),
        "GIT_CONFIG_GLOBAL": str(home / "gitconfig"),
    }
    if prefect is not None:
        env["PREFECT_API_URL"] = prefect
    project = Project(root, env)
    tiny_base(root / "tiny")
    project.run("git", "init", "-q", "-b", "main")
    project.run("git", "config", "user.name", "Test")
    project.run("git", "config", "user.email", "test@example.org")
    (root / ".git/info/exclude").write_text("tiny/\n")
    project.run("git", "add", "-A")
    project.run("git", "commit", "-qm", "start")
    return project


def write(path: Path, records: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def records(task: str, count: int, start: int = 0) -> list[dict]:
    """Classification and summarisation rows whose every field holds what must not leak."""
    findings = [
        "chest pain",
        "a productive cough",
        "blurred vision",
        "knee swelling",
        "night sweats",
        "a skin rash",
    ]
    plans = ["rest and fluids", "an urgent scan", "blood cultures", "a dermatology visit", "physiotherapy"]
    rows = []
    for i in range(start, start + count):
        finding, plan = findings[i % 6], plans[i % 5]
        note = (
            f"Patient: Wilhelmina Featherstone, {PLANTED[4]}, seen on 2024-03-{1 + i % 28:02d}. She reports {finding} "
            f"for {i} days and asks about {plan}; value {i * 7919 % 1009} noted in visit {i * i + 11}. "
            f"Call 555-867-5309 or write wilhelmina.featherstone@example.org."
        )
        choice = task.endswith("doctor")
        rows.append(
            {
                "sample_id": f"Wilhelmina Featherstone {task} {i}",
                "task": task,
                "task_type": "qa_choice" if choice else "summarization",
                "input": f"{note}\nWho should see the patient? Dr. Thaddeus Quillfeather or Dr. Ann Smith?"
                if choice
                else note,
                "target": "Dr. Thaddeus Quillfeather"
                if choice
                else f"Wilhelmina Featherstone reports {finding}.",
                "answer_choices": ["Dr. Thaddeus Quillfeather", "Dr. Ann Smith"] if choice else None,
                "group_id": f"Wilhelmina Featherstone {i // 2}",
                "language": "en",
                "source": "ward of Dr. Thaddeus Quillfeather",
            }
        )
    return rows


@pytest.fixture(scope="module")
def arrivals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files of a hospital; names of people in file names, fields and broken rows."""
    folder = tmp_path_factory.mktemp("arrivals")
    write(folder / "Wilhelmina_Featherstone.jsonl", records("which-doctor", 40))
    write(folder / "b.jsonl", records("summary", 60, start=1000))
    write(folder / "c.jsonl", records("summary", 12, start=5000) + records("which-doctor", 8, start=7000))
    with (folder / "b.jsonl").open("a") as file:
        file.write('{"sample_id": "Wilhelmina Featherstone", "input": "Quillfeather\n')
        file.write(json.dumps(records("which-doctor", 1)[0] | {"target": "Quillfeather 84620175"}) + "\n")
        file.write(json.dumps(records("summary", 1)[0] | {"task": "Wilhelmina Featherstone"}) + "\n")
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, arrivals: Path) -> Iterator[Project]:
    project = clone(tmp_path_factory.mktemp("project"))
    project.first = project.retrain(arrivals, "first")  # type: ignore[attr-defined]
    server = json.loads((project.root / "scratch/services/prefect/server.json").read_text())
    project.prefect = server["url"]  # type: ignore[attr-defined]
    yield project
    project.moelora("services", "stop", check=False)


def test_files_become_a_published_release(project: Project) -> None:
    assert project.report("gate")["verdict"] == "pass"
    published = project.report("publish")
    assert published["published"] is True
    listed = json.loads(project.moelora("releases", "--json").stdout)
    assert [release["id"] for release in listed] == [published["release"]]
    assert "retrain/first-" in project.run("git", "branch", "--list", "retrain/*").stdout
    assert project.run("git", "branch", "--show-current").stdout.strip() == "main"


def test_counts_add_up_at_every_stage(project: Project) -> None:
    for stage in ("ingest", "validate", "deidentify", "split", "resample"):
        rows = project.report(stage)["rows"]
        assert rows["in"] == sum(count for name, count in rows.items() if name != "in"), (stage, rows)
    assert project.report("ingest")["rows"]["in"] == 123
    assert project.report("ingest")["rows"]["quarantined"] == 3
    assert project.report("deidentify")["rows"]["in"] == project.report("ingest")["rows"]["out"]
    assert project.report("split")["rows"]["in"] == project.report("deidentify")["rows"]["out"]


def test_dvc_finds_nothing_to_do_after_a_flow(project: Project) -> None:
    assert json.loads(project.run(sys.executable, "-m", "dvc", "status", "--json").stdout) == {}
    before = (project.root / "dvc.lock").read_bytes()
    assert "up to date" in project.run(sys.executable, "-m", "dvc", "repro").stdout
    assert (project.root / "dvc.lock").read_bytes() == before


def readable(path: Path) -> bytes:
    """A file's bytes, and the values in it where it is Parquet, under whatever name."""
    content = path.read_bytes()
    if content[:4] == b"PAR1":
        import polars as pl

        content += pl.read_parquet(path).write_ndjson().encode()
    return content + path.name.encode()


def test_nothing_planted_is_found_outside_the_private_area(project: Project) -> None:
    raw = (
        "data/inbox",
        "data/ingested",
        "data/quarantine",
        "scratch/raw",
        "scratch/remotes/private",
        ".dvc/cache",
    )
    # DVC's own index of file names lies in scratch, which is closed to others as a whole.
    private = [project.root / name for name in (*raw, "scratch/dvc", "tests")]
    project.moelora("pull", project.report("publish")["release"])
    searched = 0
    for path in project.root.rglob("*"):
        if not path.is_file() or any(path.is_relative_to(folder) for folder in private):
            continue
        searched += 1
        content = readable(path)
        for planted in PLANTED:
            for form in (planted, planted.replace(" ", "_")):
                assert form.encode() not in content, path.relative_to(project.root)
    assert searched > 100
    assert list((project.root / "scratch/open/releases").glob("*/lineage.json"))

    commits = project.run("git", "rev-list", "--all").stdout.split()
    said = {
        "the run": project.first.stdout + project.first.stderr,  # type: ignore[attr-defined]
        "the registry's history": project.moelora("history", "--json").stdout,
        "git": project.run("git", "grep", "-I", "-h", "", *commits, "--", ":!tests").stdout,
        "git's messages": project.run("git", "log", "--all", "--stat").stdout,
    }
    for place, text in said.items():
        assert text, place
        for planted in PLANTED:
            assert planted not in text, place

    # The search can fail: what it looks for is there, in the private area, which is closed.
    assert any(PLANTED[0].encode() in readable(path) for path in private[1].rglob("*.parquet"))
    for folder in ("data", "scratch"):
        assert (project.root / folder).stat().st_mode & 0o077 == 0


def test_the_remotes_keep_raw_and_deidentified_data_apart(project: Project) -> None:
    lock = yaml.safe_load((project.root / "dvc.lock").read_text())["stages"]

    def is_in(remote: str, digest: str) -> bool:
        return (project.root / "scratch/remotes" / remote / "files/md5" / digest[:2] / digest[2:]).is_file()

    inbox = yaml.safe_load((project.root / "data/inbox.dvc").read_text())["outs"][0]
    assert inbox["remote"] == "private"
    assert is_in("private", inbox["md5"])
    assert not is_in("shared", inbox["md5"])
    for out in lock["ingest"]["outs"]:
        if out["path"].startswith("data/"):
            assert is_in("private", out["md5"])
            assert not is_in("shared", out["md5"])
    for out in lock["deidentify"]["outs"]:
        assert is_in("shared", out["md5"])


def test_stock_peft_loads_the_published_release(project: Project, tmp_path: Path) -> None:
    release = project.report("publish")["release"]
    project.moelora("pull", release, "--to", str(tmp_path / "release"))
    script = """
import sys, torch
from pathlib import Path
from peft import PeftModel
from transformers import AutoModelForCausalLM
assert not any(name.startswith(("pipeline", "flows")) for name in sys.modules)
base, release = sys.argv[1:]
ids = torch.arange(2, 60)[None]
for task in sorted(Path(release, "tasks").iterdir()):
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), task).eval()
    with torch.no_grad():
        print(task.name, model(ids).logits.double().sum().item())
"""
    printed = subprocess.run(
        [sys.executable, "-c", script, str(project.root / "models/base"), str(tmp_path / "release")],
        cwd=tmp_path,
        env={name: value for name, value in project.env.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    stock = dict(zip(printed[::2], map(float, printed[1::2]), strict=True))
    assert set(stock) == {"summary", "which-doctor"}

    import torch
    from transformers import AutoModelForCausalLM

    from pipeline.moelora import saving

    adapter = saving.load(
        AutoModelForCausalLM.from_pretrained(project.root / "models/base"), tmp_path / "release/moelora"
    )
    adapter.model.eval()
    for task, value in stock.items():
        with torch.no_grad(), adapter.tasks([task]):
            native = adapter.model(torch.arange(2, 60)[None]).logits.double().sum().item()
        assert native == pytest.approx(value, abs=1e-2)


def test_one_changed_line_costs_its_file_only(project: Project, arrivals: Path) -> None:
    changed = next(path for path in (project.root / "data/inbox").rglob("b.jsonl"))
    lines = changed.read_text().splitlines(keepends=True)
    first = json.loads(lines[0])
    lines[0] = json.dumps(first | {"input": first["input"] + " He was seen again."}) + "\n"
    changed.chmod(0o600)
    changed.unlink()
    changed.write_text("".join(lines))
    project.run(sys.executable, "-m", "dvc", "repro", "deidentify")
    assert project.work("ingest") == {"shards_parsed": 1, "shards_reused": 2}
    assert project.work("deidentify")["documents_detected"] <= 60 * 2
    assert project.work("deidentify")["documents_reused"] > 0


def test_a_killed_flow_goes_on_to_the_bytes_of_dvc_repro(
    project: Project, arrivals: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One clone runs the stages by `dvc repro`; in another a flow is killed (-9) while training, and
    typed again. Both end with the same bytes, as did the first clone's flow."""
    whole = clone(tmp_path_factory.mktemp("whole"), project.prefect)  # type: ignore[attr-defined]
    killed = clone(tmp_path_factory.mktemp("killed"), project.prefect)  # type: ignore[attr-defined]
    whole.moelora("prepare", *arriving(arrivals, "first"))
    whole.run(sys.executable, "-m", "dvc", "repro")
    run = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "retrain", *arriving(arrivals, "first")],
        cwd=killed.root,
        env=killed.env,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    checkpoints = killed.root / "scratch/open/train"
    deadline = time.monotonic() + 240
    while not list(checkpoints.glob("*/step-*/state.json")):
        assert time.monotonic() < deadline and run.poll() is None
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    for line in subprocess.run(
        ["pgrep", "-f", "pipeline.train"], capture_output=True, text=True
    ).stdout.split():
        if Path(f"/proc/{line}/cwd").resolve() == killed.root.resolve():
            os.kill(int(line), signal.SIGKILL)
    killed.retrain(arrivals, "first")
    assert killed.work("train").get("resumed_at_step", 0) > 0
    try:
        assert killed.bytes_of("models/adapter", "models/release") == whole.bytes_of(
            "models/adapter", "models/release"
        )
        assert (killed.root / "dvc.lock").read_bytes() == (whole.root / "dvc.lock").read_bytes()
        assert killed.report("publish")["release"] == whole.report("publish")["release"]
    finally:
        whole.moelora("services", "stop", check=False)
        killed.moelora("services", "stop", check=False)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.jsonl", "", "no record"),
        ("x.parquet", "Quillfeather is not parquet", "no record"),
        ("x.csv", "who,what\nQuillfeather,84620175\n", "no record"),
    ],
)
def test_bad_files_end_with_2_and_say_what_to_do(
    project: Project, tmp_path: Path, name: str, content: str, said: str
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_text(content)
    (tmp_path / "p").mkdir()
    bad = clone(tmp_path / "p", project.prefect)  # type: ignore[attr-defined]
    done = bad.retrain(tmp_path / "in", "bad", check=False)
    bad.moelora("services", "stop", check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Quillfeather" not in done.stdout + done.stderr
    assert said in (done.stdout + done.stderr).lower()
