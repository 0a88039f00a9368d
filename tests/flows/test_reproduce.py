"""A release made anew in a clone: real git, DVC, S3 and training, on a tiny base model."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pipeline.registry import connect
from tests.retrained import PRIVATE, retrained
from tests.test_end_to_end import Project

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, s3: Path) -> Iterator[Project]:
    client = connect(s3)
    if PRIVATE not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket=PRIVATE, ObjectLockEnabledForBucket=True)
    project = retrained(tmp_path_factory.mktemp("reproduce"), s3)
    yield project
    project.moelora("services", "stop", check=False)


@pytest.fixture(scope="module")
def release(project: Project) -> str:
    return project.report("publish")["release"]


def test_the_lineage_leads_back_to_commit_data_and_parameters(project: Project, release: str) -> None:
    found = json.loads(project.moelora("lineage", release, "--json").stdout)
    commit = found["commit"]["git_commit"]
    locked = yaml.safe_load(project.run("git", "show", f"{commit}:dvc.lock").stdout)["stages"]
    assert found["stages"]["train"] == locked["train"]
    assert found["stages"].keys() == set(locked) - {"publish"}
    assert found["inputs"] == sorted(shard["shard"] for shard in project.report("ingest")["shards"])
    assert found["params"]["resample"]["records"] == 64
    assert found["commit"]["branch"].startswith("retrain/first-")
    shown = project.moelora("lineage", release).stdout
    for said in (
        commit,
        locked["train"]["outs"][0]["md5"],
        found["inputs"][0],
        found["base"]["digest"],
        "torch ",
    ):
        assert said in shown
    assert "Featherstone" not in shown


def test_a_release_is_made_again_byte_for_byte(project: Project, release: str, tmp_path: Path) -> None:
    shutil.rmtree(project.root / ".dvc/cache")  # all comes from the remotes
    done = project.moelora("reproduce", release, "--to", str(tmp_path / "again"), "--json", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["verdict"] == f"the adapter of {release} is byte-identical"
    assert (result["began_with"], result["differs"], result["versions"]) == ("ingest", False, {})
    assert set(result["stages"].values()) == {"same"}
    assert result["files"] == {"compared": 6, "different": []}
    before, after = (
        (root / "models/release/moelora/adapter.safetensors").read_bytes()
        for root in (project.root, tmp_path / "again")
    )
    assert before == after
    assert (tmp_path / "again").stat().st_mode & 0o077 == 0
    assert project.run("git", "status", "--porcelain", "--", "pipeline", "flows").stdout == ""


def test_without_the_key_it_begins_with_deidentified_data_and_says_what_differs_first(
    project: Project, release: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another seed stands for another machine: train is the first stage that gives other bytes."""
    other = Project(project.root, project.env | {"MOELORA_DEID_KEY": "", "MOELORA_TEST": "1"})
    folder = tmp_path / "again"
    code = f"""
import json, sys
from pathlib import Path
from flows import reproduce
from flows.cli import ready
from pipeline.lineage import trace
registry = ready.registry()
found = trace(registry, {release!r})
pull = reproduce.pull_data
def pull_and_change(trace, folder):
    began = pull(trace, folder)
    params = folder / "params.yaml"
    text = params.read_text()
    at = text.index("train:")
    params.write_text(text[:at] + text[at:].replace("  seed: 17", "  seed: 18", 1))
    return began
reproduce.pull_data = pull_and_change
digests = {{file["path"]: file["sha256"] for file in registry.manifest({release!r})["files"]}}
result = reproduce.reproduce(found, digests, Path({str(folder)!r}), lambda line: None)
original = registry.pull({release!r}) / "moelora"
result["adapter"] = reproduce.adapter_difference(original, Path({str(folder)!r}) / "models/release/moelora")
print("RESULT", json.dumps(result), flush=True)
print(*reproduce.told(result), sep="\\n")
"""
    done = other.run(sys.executable, "-c", code)
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    result = json.loads(line.removeprefix("RESULT "))
    assert result["began_with"] == "split"
    assert result["stages"] == {"split": "same", "resample": "same", "train": "differs", "export": "differs"}
    assert result["first"]["stage"] == "train"
    assert "models/adapter" in [out["path"] for out in result["first"]["outs"]]
    assert "train is the first stage that differs" in result["verdict"]
    assert 0 < result["adapter"]["relative"] < 10
    assert "adapter: largest difference" in done.stdout


def test_what_cannot_be_had_is_said(project: Project, release: str, tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used/thesis.txt").write_text("mine")
    done = project.moelora("reproduce", release, "--to", str(tmp_path / "used"), check=False)
    assert (done.returncode, "is in use" in done.stderr) == (2, True), done.stderr
    (tmp_path / "empty").mkdir()
    elsewhere = Project(tmp_path / "empty", project.env)
    shutil.copytree(
        project.root, elsewhere.root / "c", ignore=shutil.ignore_patterns(".git", "scratch", "cache")
    )
    elsewhere.root = elsewhere.root / "c"
    elsewhere.run("git", "init", "-q")
    done = elsewhere.moelora("reproduce", release, check=False)
    assert done.returncode == 2
    assert "is not in this clone: fetch branch retrain/first-" in done.stderr
