"""The publish stage, against a real S3 server."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import paths
from pipeline.digests import canonical_json, folder_digest
from pipeline.errors import PipelineError, RegistryUnavailable
from pipeline.params import Params
from pipeline.publish import run
from pipeline.registry import Registry
from pipeline.stage import Progress
from tests.conftest import Checkout

SCORE = {"score": 0.5, "low": 0.4, "high": 0.6, "malformed": 0}
METRICS = {
    "systems": ["base", "candidate"],
    "tasks": {
        "rqe": {
            "metric": "accuracy",
            "rows": 40,
            "groups": 40,
            "base": SCORE,
            "candidate": SCORE | {"score": 0.75},
        },
        "tiny": {
            "metric": None,
            "rows": 0,
            "base": {"score": None, "low": None, "high": None},
            "candidate": {"score": None, "low": None, "high": None},
        },
    },
    "mean": {"base": SCORE, "candidate": SCORE | {"score": 0.75}},
}
DEIDENTIFY = {
    "key_id": "0123456789abcdef",
    "rows": {"in": 400, "out": 400},
    "found": {"NAME": 70, "DATE": 30},
    "independent": {"groups": 90, "kinds": {"DATE": 20, "NAME": 60}},
    "recall_overall": 0.97,
    "residual_records": 1,
}
PROFILE = {"rows": 400, "languages": {"en": 300, "zh-Hans": 100}, "tasks": {}}


def put_report(stage: str, report: dict[str, Any]) -> None:
    paths.report(stage).parent.mkdir(exist_ok=True)
    paths.report(stage).write_text(canonical_json(report))


def gate(verdict: str, **more: Any) -> dict[str, Any]:
    rules = [{"rule": "floor", "task": "rqe", "outcome": "pass", "figures": {}, "why": "0.750 is above 0.1"}]
    digest = folder_digest(paths.RELEASE)
    facts = {"verdict": verdict, "release_digest": digest, "rules": rules, "undecided": [], "against": "base"}
    return facts | more


@pytest.fixture
def judged(checkout: Checkout) -> Checkout:
    """A checkout in which all stages before publish have run."""
    for name in ("moelora/adapter.safetensors", "tasks/rqe/adapter_model.safetensors"):
        (paths.RELEASE / name).parent.mkdir(parents=True)
        (paths.RELEASE / name).write_bytes(name.encode() * 1000)
    paths.BASE.mkdir()
    (paths.BASE / "config.json").write_text("{}")
    put_report("ingest", {"shards": [{"shard": "b" * 16, "out": 1}, {"shard": "a" * 16, "out": 2}]})
    put_report("deidentify", DEIDENTIFY)
    put_report("split", {"profile": PROFILE})
    put_report("export", {"packages": {"torch": "2.13.0+cu130"}})
    put_report("evaluate", METRICS)
    put_report("gate", gate("pass"))
    return checkout


def publish() -> dict[str, Any]:
    return run(Params.load(), Progress("publish"))


def test_what_the_gate_passed_is_published(
    judged: Checkout, registry_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged.params(publish__registry=registry_url)
    monkeypatch.setenv("MOELORA_ACTOR", "Ann")
    report = publish()
    store = Registry.open(registry_url)
    assert report["published"] is True
    assert report["reason"] is None
    assert report["files"] == 7
    assert store.verify(report["release"]) == []
    folder = store.pull(report["release"])
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "gate.json",
        "lineage.json",
        "manifest.json",
        "metrics.json",
        "moelora",
        "profile.json",
        "tasks",
    }
    assert json.loads((folder / "metrics.json").read_text()) == METRICS
    counts = {"rows": 400, "recall": 0.97, "residual_records": 1}
    counts |= {name: DEIDENTIFY[name] for name in ("found", "independent")}
    assert json.loads((folder / "profile.json").read_text()) == PROFILE | {"deidentification": counts}
    lineage = json.loads((folder / "lineage.json").read_text())
    assert lineage["inputs"] == ["a" * 16, "b" * 16]
    assert lineage["key_id"] == "0123456789abcdef"
    assert lineage["base"]["digest"] == folder_digest(paths.BASE)
    assert lineage["params"]["train"]["rank"] == Params.load().train.rank
    assert lineage["packages"]["torch"] == "2.13.0+cu130"  # of the machine that trained
    assert lineage["packages"]["polars"]
    (entry,) = store.history()
    assert (entry["event"], entry["release"], entry["by"]) == ("published", report["release"], "Ann")
    assert store.channel() is None
    assert list(paths.SCRATCH.glob("release-*")) == []


def test_equal_checkouts_publish_equal_releases(
    judged: Checkout, registry_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged.params(publish__registry=registry_url)
    first = publish()
    second = tmp_path / "another/place"
    shutil.copytree(tmp_path, second, ignore=shutil.ignore_patterns("another", "scratch"))
    monkeypatch.chdir(second)
    monkeypatch.setenv("MOELORA_ACTOR", "somebody else")
    subprocess.run(["git", "init", "-q"], check=True)
    assert publish() == first
    assert len(Registry.open(registry_url).releases()) == 1
    judged.params(publish__registry=f"{registry_url}/elsewhere")
    assert publish() == first


@pytest.mark.parametrize("verdict", ["blocked"])
def test_what_the_gate_blocked_is_not_published(judged: Checkout, registry_url: str, verdict: str) -> None:
    judged.params(publish__registry=registry_url)
    put_report("gate", gate(verdict))
    report = publish()
    assert (report["published"], report["release"]) == (False, None)
    assert verdict in report["reason"]
    assert Registry.open(registry_url).releases() == []


def test_an_override_is_published_and_told(judged: Checkout, registry_url: str) -> None:
    judged.params(publish__registry=registry_url)
    put_report("gate", gate("overridden", override={"by": "Ben", "reason": "needed now"}))
    report = publish()
    told = [(entry["event"], entry["reason"]) for entry in Registry.open(registry_url).history()]
    assert told == [("published", "gate: overridden"), ("overridden", "needed now")]
    assert report["published"] is True


def test_the_page_is_written_whatever_becomes_of_the_release(
    judged: Checkout, registry_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged.params(publish__registry=registry_url)
    put_report("gate", gate("blocked"))
    publish()
    assert "<h1>Blocked</h1>" in paths.EVALUATION_PAGE.read_text()
    put_report("gate", gate("pass"))
    release = publish()["release"]
    assert f"moelora promote {release}" in paths.EVALUATION_PAGE.read_text()
    paths.EVALUATION_PAGE.unlink()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(RegistryUnavailable):
        publish()
    assert "moelora promote RELEASE" in paths.EVALUATION_PAGE.read_text()


def test_without_a_registry_nothing_is_published(judged: Checkout) -> None:
    judged.params(publish__registry=None)
    assert publish() == {
        "published": False,
        "release": None,
        "files": 0,
        "bytes": 0,
        "reason": "publish.registry is null",
    }


def test_other_files_than_the_gate_judged_are_refused(judged: Checkout, registry_url: str) -> None:
    judged.params(publish__registry=registry_url)
    (paths.RELEASE / "moelora/adapter.safetensors").write_bytes(b"other")
    with pytest.raises(PipelineError, match="other files"):
        publish()
    assert Registry.open(registry_url).releases() == []


def test_a_missing_report_is_named(judged: Checkout, registry_url: str) -> None:
    judged.params(publish__registry=registry_url)
    paths.report("evaluate").unlink()
    with pytest.raises(PipelineError, match=r"reports/evaluate\.json is missing"):
        publish()


def test_lineage_has_the_stages_of_dvc_lock(judged: Checkout, registry_url: str) -> None:
    judged.params(publish__registry=registry_url)
    without = publish()["release"]
    md5 = subprocess.run(["md5sum", paths.report("split")], capture_output=True, text=True).stdout.split()[0]
    split = {"cmd": "python -m pipeline.split", "outs": [{"path": "reports/split.json", "md5": md5}]}
    lock = {"schema": "2.0", "stages": {"publish": {"cmd": "x"}, "split": split}}
    paths.DVC_LOCK.write_text(yaml.safe_dump(lock))
    release = publish()["release"]
    assert release != without
    lineage = json.loads(Registry.open(registry_url).read(release, "lineage.json"))
    assert lineage["stages"] == {"split": split}
    put_report("split", {"profile": PROFILE, "changed": True})
    with pytest.raises(PipelineError, match=r"dvc\.lock tells of another run"):
        publish()


def test_names_in_the_inbox_do_not_make_another_release(judged: Checkout, registry_url: str) -> None:
    judged.params(publish__registry=registry_url)
    releases = set()
    for digest in ("a", "b"):
        deps = [{"path": "data/inbox", "md5": digest}, {"path": "pipeline/ingest", "md5": "c"}]
        lock = {"stages": {"ingest": {"cmd": "x", "deps": deps}}}
        paths.DVC_LOCK.write_text(yaml.safe_dump(lock))
        releases.add(publish()["release"])
    (release,) = releases
    lineage = json.loads(Registry.open(registry_url).read(release, "lineage.json"))
    assert lineage["stages"]["ingest"]["deps"] == [{"path": "pipeline/ingest", "md5": "c"}]


def test_a_verdict_by_other_parameters_than_those_of_now_is_refused(
    judged: Checkout, registry_url: str
) -> None:
    judged.params(publish__registry=registry_url)
    sections = yaml.safe_load(paths.PARAMS.read_text())
    entries = {stage: {"params": {"params.yaml": {stage: sections[stage]}}} for stage in ("export", "gate")}
    entries["export"]["params"]["params.yaml"]["export"] = {"tolerance": "1e-4"}  # the same number
    paths.DVC_LOCK.write_text(yaml.safe_dump({"stages": entries}))
    assert publish()["published"] is True
    judged.params(gate__margin=0.01)
    with pytest.raises(PipelineError, match=r"gate ran with other parameters.*moelora retrain"):
        publish()


def test_s3_down_ends_with_1_and_the_remedy(
    judged: Checkout, registry_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged.params(publish__registry=registry_url)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(RegistryUnavailable):
        publish()
    done = subprocess.run([sys.executable, "-m", "pipeline.publish"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "moelora doctor" in done.stderr
    assert not paths.report("publish").exists()


def test_the_commit_is_told(judged: Checkout, registry_url: str) -> None:
    judged.params(publish__registry=registry_url)
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    for command in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-qm", "x", "--allow-empty"],
    ):
        subprocess.run(["git", *command], check=True, env=env)
    publish()
    (entry,) = Registry.open(registry_url).history()
    assert len(entry["git_commit"]) == 40


def test_a_local_base_is_named_without_its_path(judged: Checkout, registry_url: str, tmp_path: Path) -> None:
    params = yaml.safe_load(paths.PARAMS.read_text())
    params["base"]["model"] = str(tmp_path / "models/base")
    params["publish"]["registry"] = registry_url
    paths.PARAMS.write_text(yaml.safe_dump(params))
    release = publish()["release"]
    store = Registry.open(registry_url)
    for name in ("README.md", "lineage.json"):
        text = store.read(release, name).decode()
        assert str(tmp_path) not in text
        assert json.loads(store.read(release, "lineage.json"))["base"]["model"] == "base"
