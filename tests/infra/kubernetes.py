"""The manifests, the job template and the Helm values as they are read."""

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from tests.infra.files import INFRA, Json


def manifests() -> list[Json]:
    """What the base holds, before kustomize."""
    names = yaml.safe_load((INFRA / "kubernetes/kustomization.yaml").read_text())["resources"]
    files = [(INFRA / "kubernetes" / name).read_text() for name in names]
    return [found for text in files for found in yaml.safe_load_all(text)]


def workloads() -> list[Json]:
    return [each for each in manifests() if each["kind"] in ("Deployment", "Job")]


def workload(name: str) -> Json:
    return next(each for each in workloads() if each["metadata"]["name"] == name)


def container(workload: Json) -> Json:
    (only,) = workload["spec"]["template"]["spec"]["containers"]
    return dict(only)


def job_template() -> Json:
    template: Json = json.loads((INFRA / "kubernetes/gpu-job-template.json").read_text())
    return template


def gpu_job() -> Json:
    """The Job that Prefect makes of the template, with its defaults."""
    values = {name: each.get("default") for name, each in job_template()["variables"]["properties"].items()}
    values |= {"name": "run", "labels": {"run": "1"}, "command": ["prefect", "flow-run", "execute"]}

    def filled(part: Any) -> Any:
        if isinstance(part, dict):
            return {name: filled(each) for name, each in part.items()}
        if isinstance(part, list):
            return [filled(each) for each in part]
        found = re.fullmatch(r"{{ (\w+) }}", part) if isinstance(part, str) else None
        return values[found[1]] if found else part

    job: Json = filled(job_template()["job_configuration"]["job_manifest"])
    for name in ("parallelism", "completions"):  # Prefect's worker wants them in the Pod, where Kubernetes
        assert job["spec"]["template"]["spec"].pop(name) == 1  # knows them not and drops them
    return job


def helm() -> Json:
    values: Json = yaml.safe_load((INFRA / "kubernetes/prefect-server.values.yaml").read_text())
    return values


def secrets_named(pod: Json) -> set[str]:
    """Names of the Secrets that a Pod refers to, by whatever way there is."""
    names = set()
    for part in nodes(pod):
        for reference in ("secretKeyRef", "secretRef"):
            if reference in part:
                names.add(part[reference]["name"])
        if "secretName" in part:
            names.add(part["secretName"])
    return names


def nodes(part: Any) -> Iterator[Json]:
    if isinstance(part, dict):
        yield part
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from nodes(each)
