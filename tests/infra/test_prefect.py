"""What infra/ names is there, alike everywhere, and no secret."""

import ast
import re
from importlib import util

import yaml

from pipeline import STAGES
from tests.conftest import ROOT
from tests.infra.compose import compose, is_ours
from tests.infra.files import INFRA, run, texts
from tests.infra.images import dockerfile
from tests.infra.kubernetes import container, helm, job_template, workloads


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


def test_no_file_holds_a_secret() -> None:
    value = re.compile(
        r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY|://[^/\s:$]+:[^@\s$]+@(?!host)"
        r"|(?i:password|secret_access_key|auth_string|deid_key)[\"']?[ \t]*[=:][ \t]*[\"']?[A-Za-z0-9+/_-]{12,}"
    )
    for path, text in texts():
        assert not value.search(text), path
    for line in (INFRA / "compose/example.env").read_text().splitlines():
        name, _, default = line.partition("=")
        assert name.startswith("#") or name == "MOELORA_INBOX" or not default, line


def test_secrets_that_are_made_are_ignored_by_git() -> None:
    made = ["infra/compose/.env", "infra/compose/secrets/cpu.env", "infra/terraform/terraform.tfstate"]
    run("git", "check-ignore", "--no-index", *made)


def test_every_image_has_a_version() -> None:
    ours = {"moelora:cpu", "moelora:gpu"}  # built from this repository
    used = {service["image"] for service in compose().values()} - ours
    bases = {line.split()[1] for line in dockerfile() if line.startswith("FROM ")}
    used |= {base for base in bases if ":" in base}
    kustomization = yaml.safe_load((INFRA / "kubernetes/kustomization.yaml").read_text())
    used |= {f"{image['newName']}:{image['newTag']}" for image in kustomization["images"]}
    used.add(job_template()["variables"]["properties"]["image"]["default"])
    image = helm()["global"]["prefect"]["image"]
    used.add(f"{image['repository']}:{image['prefectTag']}")
    assert all(re.fullmatch(r"[a-z0-9./-]+:v?\d+\.\d+[\w.-]*", each) for each in used), used
    known = {image["name"] for image in kustomization["images"]}
    assert {container(workload)["image"] for workload in workloads()} <= known


def test_prefect_has_one_version_everywhere() -> None:
    pinned = re.search(r"^prefect==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert pinned is not None
    assert compose()["prefect"]["image"].startswith(f"prefecthq/prefect:{pinned[1]}-")
    assert helm()["global"]["prefect"]["image"]["prefectTag"].startswith(f"{pinned[1]}-")


def test_leases_are_kept_where_prefect_knows_of() -> None:
    name = "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"
    values = {compose()["prefect"]["environment"][name]}
    values |= {each["value"] for each in helm()["server"]["env"] if each["name"] == name}
    assert len(values) == 1
    assert util.find_spec(values.pop()) is not None


def test_every_command_is_one_of_ours() -> None:
    from flows.cli import app

    ours = {
        command.name or command.callback.__name__.replace("_", "-")  # type: ignore[union-attr]
        for command in app.registered_commands
    }
    started = {service["command"][0] for service in compose().values() if is_ours(service)}
    started |= {container(workload)["args"][0] for workload in workloads()}
    assert started == {"work", "deploy"}
    assert started <= ours
