"""The rules of the house: one name everywhere, and who may import and open what."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pipeline import STAGES, paths
from tests.conftest import ROOT

NO_TORCH = {"ingest", "validate", "deidentify", "split", "resample", "gate", "publish", "registry"}
HEAVY = {"torch", "transformers", "peft", "datasets"}
RAW_PATHS = {"INBOX", "INGESTED", "QUARANTINE"}
RAW_ROOMS = {"ingest", "validate", "deidentify", "paths", "erase", "incoming"}


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path, everywhere: bool = True) -> Iterator[str]:
    """Dotted names that a file imports; ``everywhere`` includes imports inside functions."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(path: Path) -> str:
    """Second part of a module's name: pipeline/train/loop.py is in the room `train`."""
    return path.relative_to(ROOT).with_suffix("").parts[1]


def roots(path: Path, everywhere: bool = True) -> set[str]:
    return {name.split(".")[0] for name in imports(path, everywhere)}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_one_name_everywhere(stage: str) -> None:
    dvc = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    definition = dvc["stages"][stage]
    assert definition["cmd"] == f"python -m pipeline.{stage}"
    assert stage in params
    assert stage in definition["params"]
    assert any(str(paths.report(stage)) in (m if isinstance(m, str) else [*m]) for m in definition["metrics"])
    module = ROOT / "pipeline" / stage
    assert module.with_suffix(".py").is_file() or (module / "__main__.py").is_file()
    assert any((ROOT / "tests/pipeline").rglob(f"test_{stage}*.py"))


def test_dvc_runs_the_stages_in_order() -> None:
    assert tuple(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]) == STAGES


def test_every_code_dependency_of_a_stage_exists() -> None:
    for stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values():
        for path in stage["deps"]:
            if path.startswith("pipeline/"):
                assert (ROOT / path).exists(), path


def test_a_stage_depends_on_the_modules_it_imports() -> None:
    """A change of code that decides a stage's bytes must make DVC run it again."""
    # registry: what it hands out is the bytes that a release's id names, whatever its code.
    plumbing = {"errors", "params", "paths", "stage", "files", "cache", "digests", "registry", "workers"}
    for stage, definition in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items():
        if "pipeline" in definition["deps"]:
            continue
        named = {Path(dep).stem for dep in definition["deps"] if dep.startswith("pipeline/")}
        for path in sources("pipeline"):
            if room(path) == stage:
                parts = {name.split(".")[1] for name in imports(path) if name.startswith("pipeline.")}
                used = {part for part in parts if is_room(part)} - plumbing - {stage}
                assert used <= named, (stage, path.name, used - named)


def is_room(name: str) -> bool:
    module = ROOT / "pipeline" / name
    return module.is_dir() or module.with_suffix(".py").is_file()


def test_raw_outputs_go_to_the_private_remote_only() -> None:
    dvc = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    outs = dvc["stages"]["ingest"]["outs"]
    assert outs == [
        {str(paths.INGESTED): {"remote": "private"}},
        {str(paths.QUARANTINE): {"remote": "private"}},
    ]


def test_pipeline_knows_neither_prefect_nor_dvc_nor_flows() -> None:
    for path in sources("pipeline"):
        assert not roots(path) & {"prefect", "dvc", "flows"}, path


def test_flows_know_only_the_open_rooms_of_the_pipeline() -> None:
    allowed = {"records", "registry", "params", "paths", "errors", "pages", "STAGES"}
    allowed |= {"digests", "files"}  # plumbing
    allowed |= {"erase", "verify"}  # what a person asks for, beside the stages
    for path in sources("flows"):
        # A command may need another room; it opens that inside its own function.
        command = room(path) in {"cli", "doctor"}
        names = imports(path, everywhere=not command)
        rooms = {name.split(".")[1] for name in names if name.startswith("pipeline.")}
        assert rooms <= allowed, (path, rooms - allowed)
        assert not roots(path, everywhere=not command) & HEAVY, path


def test_the_method_imports_torch_and_model_types_only() -> None:
    for path in (ROOT / "pipeline/moelora").glob("*.py"):
        others = {name.split(".")[1] for name in imports(path) if name.startswith("pipeline.")}
        assert others <= {"moelora", "errors", "digests", "files"}, (path, others)


def test_only_registry_imports_boto3() -> None:
    users = {
        path.relative_to(ROOT).as_posix()
        for f in ("pipeline", "flows")
        for path in sources(f)
        if roots(path) & {"boto3", "botocore", "s3transfer"}
    }
    assert {Path(user).parent.as_posix() for user in users} == {"pipeline/registry"}


def test_data_stages_and_gate_import_no_torch() -> None:
    for path in sources("pipeline"):
        if room(path) in {
            "ingest",
            "validate",
            "deidentify",
            "split",
            "resample",
            "gate",
            "publish",
            "registry",
        }:
            assert not roots(path) & HEAVY, path


def test_pages_read_reports_and_import_no_torch() -> None:
    for path in (ROOT / "pipeline/pages").glob("*.py"):
        assert not roots(path) & HEAVY, path


def test_only_raw_stages_name_the_folders_of_raw_text() -> None:
    for path in sources("pipeline"):
        if room(path) not in RAW_ROOMS:
            tree = ast.parse(path.read_text())
            named = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)} | {
                n.id for n in ast.walk(tree) if isinstance(n, ast.Name)
            }
            assert not named & RAW_PATHS, (path, named & RAW_PATHS)


def test_nothing_unsafe_is_called() -> None:
    for path in sources("pipeline") + sources("flows"):
        text = path.read_text()
        for word in ("trust_remote_code=True", "pickle", "torch.load("):
            assert word not in text, (path, word)
        if "yaml" in imports(path):  # PyYAML; ruamel.yaml's round-trip loader makes no objects
            assert "yaml.load(" not in text, path
