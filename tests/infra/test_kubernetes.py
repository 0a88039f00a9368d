"""The manifests keep to the schemas, and every role has its own there and no more. No cluster is asked."""

import re
import subprocess

import kubernetes_validate
import pytest
import yaml

from tests.infra.files import INFRA, ROLES, needs
from tests.infra.kubernetes import (
    container,
    gpu_job,
    helm,
    manifests,
    nodes,
    secrets_named,
    workload,
    workloads,
)

KUBERNETES = "1.34"


@pytest.mark.parametrize("version", [KUBERNETES, kubernetes_validate.latest_version()])
def test_manifests_keep_to_kubernetes_schemas(version: str) -> None:
    for manifest in (*manifests(), gpu_job()):
        kubernetes_validate.validate(manifest, version, strict=True)


def test_base_is_built_by_kustomize() -> None:
    needs("kubectl")
    done = subprocess.run(
        ["kubectl", "kustomize", INFRA / "kubernetes"], capture_output=True, text=True, check=True
    )
    built = list(yaml.safe_load_all(done.stdout))
    for manifest in built:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
        assert manifest["kind"] == "Namespace" or manifest["metadata"]["namespace"] == "moelora"
    images = {container(each)["image"] for each in built if each["kind"] in ("Deployment", "Job")}
    assert images == {"registry.example.org/moelora-cpu:0.1.0", "registry.example.org/moelora-gpu:0.1.0"}


def test_every_pod_is_closed() -> None:
    """By the rules of Pod security's level `restricted`, which the namespace enforces, and more."""
    pods = [each["spec"]["template"]["spec"] for each in (*workloads(), gpu_job())]
    for pod in pods:
        (only,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert only["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC", "activeDeadlineSeconds"} & set(pod)
        assert not any("hostPath" in volume for volume in pod["volumes"])
    assert all(
        each["automountServiceAccountToken"] is False
        for each in manifests()
        if each["kind"] == "ServiceAccount"
    )
    for name in ROLES:
        assert workload(name)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 60
    assert gpu_job()["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 60


def test_kubernetes_holds_secrets_by_reference_only() -> None:
    assert not [each for each in manifests() if each["kind"] == "Secret"]
    for part in nodes([*workloads(), gpu_job()]):
        if "value" in part and "name" in part:
            secret = re.search("KEY|SECRET|PASSWORD|AUTH", part["name"])
            assert not secret or part["value"].startswith("/run/secrets/"), part["name"]


def test_kubernetes_gives_each_worker_its_own_and_no_more() -> None:
    held = {each["metadata"]["name"]: secrets_named(each) for each in workloads()}
    assert held == {
        "cpu": {"prefect-auth", "cpu-s3", "cpu-git", "deid-key", "signing-key"},
        "gpu": {"prefect-auth", "gpu-s3", "gpu-git"},
        "promote": {"prefect-auth", "promote-s3", "promote-git"},
        "deploy": {"prefect-auth"},
    }
    assert secrets_named(gpu_job()) == held["gpu"]
    claims = {
        each["metadata"]["name"]: {part["claimName"] for part in nodes(each) if "claimName" in part}
        for each in workloads()
    }
    assert claims == {"cpu": {"cpu"}, "gpu": {"gpu", "gpu-cache"}, "promote": {"promote"}, "deploy": set()}
    assert {part["claimName"] for part in nodes(gpu_job()) if "claimName" in part} == {"gpu-cache"}
    there = {each["metadata"]["name"] for each in manifests() if each["kind"] == "PersistentVolumeClaim"}
    assert there == set().union(*claims.values()) | {"prefect-server"}
    for name in ROLES:
        assert container(workload(name))["args"] == ["work", name]
        assert workload(name)["spec"]["template"]["spec"]["serviceAccountName"] == name
    gpus = [each for each in workloads() if "nvidia.com/gpu" in container(each)["resources"]["limits"]]
    assert [each["metadata"]["name"] for each in gpus] == ["gpu"]
    assert container(gpu_job())["resources"] == container(gpus[0])["resources"]


def test_network_policies_deny_and_then_cover_every_pod() -> None:
    policies = {
        each["metadata"]["name"]: each["spec"] for each in manifests() if each["kind"] == "NetworkPolicy"
    }
    deny = policies.pop("default-deny")
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    (prefect, outside) = policies["worker"]["egress"]
    assert prefect["ports"] == [{"protocol": "TCP", "port": 4200}]
    assert outside["ports"] == [{"protocol": "TCP", "port": 443}]
    assert {"10.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"} <= set(
        outside["to"][0]["ipBlock"]["except"]
    )
    (covered,) = policies["worker"]["podSelector"]["matchExpressions"]
    assert covered == {"key": "app.kubernetes.io/component", "operator": "In", "values": list(ROLES)}
    components = {
        each["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]
        for each in (*workloads(), gpu_job())
    }
    assert components == {*ROLES, "deploy"}
    assert not any("ingress" in spec for name, spec in policies.items() if name != "prefect-server")


def test_helm_values_ask_for_a_password_and_no_telemetry() -> None:
    values = helm()
    assert values["server"]["basicAuth"] == {"enabled": True, "existingSecret": "prefect-auth"}
    assert values["postgresql"] == {"enabled": False}
    assert values["secret"] == {"create": False, "name": "prefect-database"}
    assert {"name": "PREFECT_SERVER_ANALYTICS_ENABLED", "value": "false"} in values["global"]["prefect"][
        "env"
    ]
    assert values["server"]["replicaCount"] == 1
