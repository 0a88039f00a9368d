"""Publish the release the gate passed: ``python -m pipeline.publish``.

Reads models/release, models/base, the reports of the stages before it and dvc.lock; writes the
release to the registry that ``publish.registry`` names, reports/publish.json, and what a person
reads of the run: reports/evaluation.html (see ``pages``). Where the gate blocked, or no registry
is configured, nothing is published: the report says why, exit code 0.

A release is the files of models/release and five about them: README.md (the model card),
metrics.json, gate.json, profile.json and lineage.json. They hold stable facts only, so that the
same inputs give the same release id; who, when and which git commit go to the registry's history.
No record's text is in any of them. Channels are not moved here.
"""

import json
import os
import subprocess
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline import STAGES, paths, signing
from pipeline.digests import canonical_json, dvc_digest, folder_digest
from pipeline.errors import PipelineError
from pipeline.files import link_or_copy
from pipeline.pages import evaluation
from pipeline.pages.card import model_card
from pipeline.params import Params
from pipeline.registry import Registry
from pipeline.stage import Progress, Report, main

PACKAGES = ("faker", "numpy", "polars", "presidio-analyzer", "spacy")
"""Packages of the data stages whose version may change a release's bytes; export's report names those
of the machine that trained, which may be another and the only one with PyTorch."""

RAW_INPUT = "data/inbox"
"""Path of ingest's input in dvc.lock."""


def run(params: Params, progress: Progress) -> Report:
    """Publish, or say why not; write the page of the evaluation either way.

    Raises PipelineError where a report is missing or tells of other files than those at hand,
    RegistryError where the registry fails; a reader then sees no release.
    """
    reports = evaluation.read() | {"publish": {}}
    # Before anything is uploaded: a registry that does not answer must not cost people the page.
    evaluation.write(reports, margin=params.gate.margin)
    report = _publish(params, progress)
    if report["published"]:
        evaluation.write(reports | {"publish": report}, margin=params.gate.margin)
    return report


def _publish(params: Params, progress: Progress) -> Report:
    gate = _report("gate")
    if gate["verdict"] not in ("pass", "overridden"):
        return _unpublished(f"the gate's verdict is {gate['verdict']}")
    if params.publish.registry is None:
        return _unpublished("publish.registry is null")
    if folder_digest(paths.RELEASE) != gate["release_digest"]:
        raise PipelineError(f"the gate judged other files than {paths.RELEASE} holds: dvc repro publish")
    registry = Registry.open(params.publish.registry)
    key = signing.private_key()
    paths.SCRATCH.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=paths.SCRATCH, prefix="release-") as temporary:
        folder = Path(temporary)
        progress.update(0, 1, "assembling the release")
        assemble(folder, params)
        if key is not None:
            signing.sign(folder, key)
        facts = {"by": _actor(), "reason": f"gate: {gate['verdict']}", "git_commit": _git_commit()}
        receipt = registry.publish(
            folder,
            facts,
            tell=lambda done, total: progress.update(
                done, total, f"uploading, {done / 1e6:.0f} of {total / 1e6:.0f} MB"
            ),
        )
    if gate["verdict"] == "overridden" and not _is_told(registry, receipt.release):
        registry.append_history("overridden", receipt.release, **gate["override"])
    progress.update(1, 1, f"release {receipt.release}")
    progress.count(files_uploaded=receipt.uploaded, files_copied=receipt.copied)
    return {
        "published": True,
        "release": receipt.release,
        "files": receipt.files,
        "bytes": receipt.bytes,
        "reason": None,
    }


def _is_told(registry: Registry, release: str) -> bool:
    """Whether the history says already that the gate was overridden."""
    return any(each["event"] == "overridden" and each["release"] == release for each in registry.history())


def _unpublished(reason: str) -> Report:
    print(f"publish: nothing published: {reason}", flush=True)
    return {"published": False, "release": None, "files": 0, "bytes": 0, "reason": reason}


def assemble(folder: Path, params: Params) -> None:
    """Fill ``folder`` with the files of the release, the same bytes for the same inputs."""
    for source in sorted(paths.RELEASE.rglob("*")):
        if source.is_file():
            link_or_copy(source, folder / source.relative_to(paths.RELEASE))
    gate, metrics = _report("gate"), _report("evaluate")
    profile = _report("split")["profile"] | {"deidentification": _deidentification()}
    about = {
        "metrics.json": metrics,
        "gate.json": gate,
        "profile.json": profile,
        "lineage.json": lineage(params),
    }
    for name, value in about.items():
        (folder / name).write_text(canonical_json(value), encoding="utf-8")
    card = model_card(_base_name(params), metrics, gate, profile, params.publish.data_licences)
    (folder / "README.md").write_text(card, encoding="utf-8")


def _deidentification() -> dict[str, Any]:
    """Counts that tell whether later data holds more identifiers, or hides them better."""
    report = _report("deidentify")
    return {
        "rows": report["rows"]["out"],
        "found": report["found"],
        "independent": report["independent"],
        "recall": report["recall_overall"],
        "residual_records": report["residual_records"],
    }


def lineage(params: Params) -> dict[str, Any]:
    """What a release was made from: dvc.lock entries of the stages before, digests of the input
    files, parameters, key id, base model, package versions.

    Raises PipelineError where dvc.lock tells of another run or of other parameters.
    """
    used = params.model_dump(mode="json", by_alias=True, exclude={"base", "publish"})
    stages = _locked_stages()
    _check_params(params, stages)
    return {
        "stages": stages,
        "inputs": sorted(shard["shard"] for shard in _report("ingest")["shards"]),
        "params": used,
        "key_id": _report("deidentify")["key_id"],
        "base": {
            "model": _base_name(params),
            "revision": params.base.revision,
            "digest": folder_digest(paths.BASE),
        },
        "packages": {name: metadata.version(name) for name in PACKAGES} | _report("export")["packages"],
    }


def _base_name(params: Params) -> str:
    """The base as a model hub or a package knows it; of a local folder its name, not its path."""
    model = params.base.model
    return Path(model).name if Path(model).is_absolute() or Path(model).is_dir() else model


def _report(stage: str) -> dict[str, Any]:
    path = paths.report(stage)
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        raise PipelineError(f"{path} is missing or no JSON: dvc repro publish") from None
    return report


def _locked_stages() -> dict[str, Any]:
    """The entries of dvc.lock, once its reports are those at hand; none where DVC did not run.

    Without the inbox, whose digest holds names of files and batches: ``inputs`` names the contents.
    """
    try:
        lock = yaml.safe_load(paths.DVC_LOCK.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    entries = {name: lock["stages"][name] for name in STAGES[:-1] if name in lock["stages"]}
    for stage, entry in entries.items():
        for out in entry.get("outs", []):
            report = paths.report(stage)
            if out["path"] == report.as_posix() and out["md5"] != dvc_digest(report):
                raise PipelineError(f"dvc.lock tells of another run than {report}: dvc repro publish")
    if "ingest" in entries:
        deps = [dep for dep in entries["ingest"].get("deps", []) if dep["path"] != RAW_INPUT]
        entries["ingest"] = entries["ingest"] | {"deps": deps}
    return entries


def _check_params(params: Params, stages: dict[str, Any]) -> None:
    """Raise PipelineError where a stage of dvc.lock ran with other parameters than those of now.

    Compared as the stages read them: YAML writes one number in many ways.
    """
    now = params.model_dump(mode="json", by_alias=True)
    for stage, entry in stages.items():
        locked = {
            section: values
            for section, values in entry.get("params", {}).get(str(paths.PARAMS), {}).items()
            if section in now
        }
        try:
            then = Params.model_validate(now | locked).model_dump(mode="json", by_alias=True)
        except ValidationError:
            then = {}
        if then != now:
            raise PipelineError(f"{stage} ran with other parameters than {paths.PARAMS}: moelora retrain")


def _actor() -> str:
    return os.environ.get("MOELORA_ACTOR") or os.environ.get("USER") or "unknown"


def _git_commit() -> str | None:
    """The commit checked out here, or None where there is no repository, commit or git."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--verify", "HEAD"], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() or None


if __name__ == "__main__":
    main("publish", run)
