"""What infra/ names is there."""

import ast

import yaml

from pipeline import STAGES
from tests.conftest import ROOT


def test_every_deployment_names_a_flow_of_ours() -> None:
    deployments = yaml.safe_load((ROOT / "infra/prefect.yaml").read_text())["deployments"]
    names = {"retrain", "gpu-stage", "watch", "promote", "rollback"}
    assert {deployment["name"] for deployment in deployments} == names
    for deployment in deployments:
        path, function = deployment["entrypoint"].split(":")
        defined = {
            node.name: node for node in ast.parse((ROOT / path).read_text()).body if hasattr(node, "name")
        }
        arguments = {argument.arg for argument in defined[function].args.args}
        assert set(deployment.get("parameters", {})) <= arguments


def test_readme_lists_every_stage() -> None:
    readme = (ROOT / "README.md").read_text()
    assert all(f"| `{stage}` |" in readme for stage in STAGES)
