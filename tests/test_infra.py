"""What infra/ holds is accepted by the tools it is written for, names what is there, and gives every role
no more than its work needs. Docker, clusters and clouds are not asked: infra/README.md says so."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from importlib import util
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import hcl2
import kubernetes_validate
import pytest
import yaml
from policy_sentry.querying.actions import get_action_data

from flows import local_s3
from pipeline import STAGES
from tests.conftest import ROOT

INFRA = ROOT / "infra"
ROLES = ("cpu", "gpu", "promote")
KUBERNETES = "1.34"
Json = dict[str, Any]


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    """A validator, found in this environment first; what it says is the failure's text."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [shutil.which(command[0], path=path) or command[0], *command[1:]],
        cwd=cwd,
        env=os.environ | {"TF_CLI_CONFIG_FILE": os.devnull},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def needs(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not on PATH: what only it can tell was not checked")


def texts() -> Iterator[tuple[Path, str]]:
    """The files of infra/ that git knows, and their text."""
    listed = subprocess.run(
        ["git", "ls-files", "infra"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.split():
        yield Path(name), (ROOT / name).read_text()


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


# Of all of them


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


@pytest.mark.xfail(strict=True, reason="`work` and `deploy` are being written; this mark goes with them")
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


# Images


def dockerfile() -> list[str]:
    """Its instructions, one a line."""
    text = (INFRA / "images/Dockerfile").read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_dockerfile_pleases_hadolint() -> None:
    run("hadolint", "--failure-threshold", "style", INFRA / "images/Dockerfile")


def test_images_run_moelora_as_nobody_special_and_send_no_telemetry() -> None:
    lines = dockerfile()
    assert 'ENTRYPOINT ["moelora"]' in lines
    assert [line for line in lines if line.startswith("USER ")] == ["USER 10001"]
    for target in ("cpu", "gpu"):
        assert f"FROM worker AS {target}" in lines
    environment = next(line for line in lines if line.startswith("ENV "))
    assert "DO_NOT_TRACK=1" in environment
    assert "PREFECT_SERVER_ANALYTICS_ENABLED=false" in environment
    assert not re.search(r"^(ARG|ENV) .*(KEY|SECRET|TOKEN|PASSWORD)", "\n".join(lines), re.M)


def test_images_install_what_make_installs() -> None:
    make = (ROOT / "Makefile").read_text()
    apart = set(re.findall(r"--no-deps (\S+)", make))
    installs = [line for line in dockerfile() if line.startswith("RUN pip install")]
    assert len(installs) == 2
    for line in installs:
        assert line.count("--constraint constraints.txt") == 2
        assert apart <= set(line.split())
    assert ["whl/cpu" in line for line in installs] == [True, False]


def test_nothing_is_sent_to_the_builder_but_what_is_named() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"
    named = [rule[1:].removesuffix("/**") for rule in rules if rule.startswith("!")]
    assert all((ROOT / name).exists() for name in named)
    assert not any(
        name.startswith(("data", "models", "reports", "scratch", "infra/compose")) for name in named
    )


def test_git_gets_its_credential_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("username=robot\npassword=a token\n")
    script = (INFRA / "images/git-credential-file").read_text()
    helper = tmp_path / "helper"
    helper.write_text(script.replace("/run/secrets/git", str(tmp_path / "secret")))
    helper.chmod(0o755)
    for action, expected in (("fill", "password=a token"), ("approve", "")):
        done = subprocess.run(
            ["git", "-c", "credential.helper=", "-c", f"credential.helper={helper}", "credential", action],
            input="protocol=https\nhost=git.example.org\nusername=robot\npassword=x\n"
            if action == "approve"
            else "protocol=https\nhost=git.example.org\n",
            capture_output=True,
            text=True,
            env=os.environ | {"GIT_TERMINAL_PROMPT": "0"},
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert expected in done.stdout
    assert (tmp_path / "secret").read_text().endswith("a token\n")


# Compose


def compose() -> dict[str, Json]:
    services: dict[str, Json] = document()["services"]
    return services


def document() -> Json:
    read: Json = yaml.safe_load((INFRA / "compose/compose.yaml").read_text())
    return read


def is_ours(service: Json) -> bool:
    """Whether `moelora` itself runs in it."""
    return service["image"].startswith("moelora:") and "entrypoint" not in service


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A copy of infra/ with secrets made."""
    shutil.copytree(INFRA, tmp_path / "infra", ignore=shutil.ignore_patterns("secrets", ".env", "inbox"))
    folder = tmp_path / "infra/compose"
    run(sys.executable, folder / "make_secrets.py")
    (folder / "secrets/signing-key.pem").touch()
    return folder


def test_compose_file_keeps_to_the_specification() -> None:
    check = (sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec")
    run(*check, INFRA / "compose/compose.yaml")


def test_compose_file_pleases_docker_compose(made: Path) -> None:
    command = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]
    needs(command[0])
    if subprocess.run([*command, "version"], capture_output=True).returncode != 0:
        pytest.skip("docker has no compose plugin: only the specification's schema was asked")
    text = (made / ".env").read_text()
    (made / ".env").write_text(text.replace("REPOSITORY=", "REPOSITORY=https://git.example.org/it.git"))
    run(*command, "config", "--quiet", cwd=made)
    (made / ".env").write_text(re.sub("PREFECT_AUTH_STRING=.*", "PREFECT_AUTH_STRING=", text))
    with pytest.raises(AssertionError, match="PREFECT_AUTH_STRING"):
        run(*command, "config", "--quiet", cwd=made)


def test_the_door_to_s3_opens_on_one_port() -> None:
    text = (INFRA / "compose/haproxy.cfg").read_text()
    assert re.findall(r"^ +(?:bind|server) +(.*?)(?: check.*)?$", text, re.M) == [":8333", "weed weed:8333"]
    needs("haproxy")
    run("haproxy", "-c", "-f", INFRA / "compose/haproxy.cfg")


def test_secrets_are_made_once_and_closed(made: Path) -> None:
    kept = {path: path.read_bytes() for path in [made / ".env", *(made / "secrets").iterdir()]}
    run(sys.executable, made / "make_secrets.py")
    assert {path: path.read_bytes() for path in kept} == kept
    assert (made / "secrets").stat().st_mode & 0o777 == 0o700
    assert (made / ".env").stat().st_mode & 0o777 == 0o600
    assert len({(made / f"secrets/{role}.env").read_text() for role in ROLES}) == len(ROLES)
    referenced = {name for service in compose().values() for name in service.get("env_file", [])}
    referenced |= {secret["file"] for secret in document()["secrets"].values()}
    assert all((made / name).is_file() for name in referenced)


def test_compose_gives_each_worker_its_own_and_no_more() -> None:
    services = compose()
    for role in ROLES:
        own = services[role]
        assert own["command"] == ["work", role]
        assert own["networks"] == [role]
        others = set(ROLES) - {role}
        assert not {f"secrets/{other}.env" for other in others} & set(own["env_file"])
        assert not {f"git-{other}" for other in others} & secrets_of(own)
        assert not {f"{other}:/var/lib/moelora" for other in others} & set(map(str, own["volumes"]))
    holders = {
        name for name, service in services.items() if "secrets/deid.env" in service.get("env_file", [])
    }
    assert holders == {"cpu"}
    assert {name for name, service in services.items() if "signing-key" in secrets_of(service)} == {"cpu"}
    assert {name for name, service in services.items() if "/inbox" in json.dumps(service.get("volumes"))} == {
        "cpu"
    }
    assert {name for name, service in services.items() if "s3" in secrets_of(service)} == {"weed"}
    assert services["gpu"]["env_file"] == ["secrets/gpu.env"]
    assert services["gpu"]["volumes"] == ["gpu:/var/lib/moelora"]


def secrets_of(service: Json) -> set[str]:
    return {each if isinstance(each, str) else each["source"] for each in service.get("secrets", [])}


def test_a_worker_meets_prefect_and_s3_and_nothing_else() -> None:
    services = compose()
    for role in (*ROLES, "deploy"):
        met = {
            name for name, each in services.items() if set(each["networks"]) & set(services[role]["networks"])
        }
        expected = {role, "prefect"} | ({"s3"} if role in ROLES else set())
        assert met - {"buckets"} == expected, role  # buckets ends before a worker starts
    assert {name for name, each in services.items() if "storage" in each["networks"]} == {"weed", "s3"}
    assert {name for name, each in services.items() if "database" in each["networks"]} == {
        "postgres",
        "prefect",
    }
    networks = document()["networks"]
    assert all(networks[name] == {"internal": True} for name in ("database", "storage", "deploy"))


def test_compose_publishes_on_loopback_only() -> None:
    published = [port for service in compose().values() for port in service.get("ports", [])]
    assert published == ["127.0.0.1:4200:4200"]
    assert not any({"network_mode", "privileged", "pid"} & set(service) for service in compose().values())


def test_compose_services_end_and_come_back_in_order() -> None:
    services = compose()
    for role in ROLES:
        assert services[role]["stop_grace_period"] == "60s"
        assert services[role]["restart"] == "unless-stopped"
        assert services[role]["depends_on"] == {
            "prefect": {"condition": "service_healthy"},
            "deploy": {"condition": "service_completed_successfully"},
            "buckets": {"condition": "service_completed_successfully"},
        }
    for service in services.values():
        for name, how in service.get("depends_on", {}).items():
            assert how["condition"] != "service_healthy" or "healthcheck" in services[name]
    devices = services["gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]
    assert not any("deploy" in service for name, service in services.items() if name != "gpu")


def test_every_key_of_compose_does_its_work_and_no_more(made: Path, tmp_path: Path) -> None:
    """The command of `weed` and the script of `buckets` as they stand, on loopback."""
    data = tmp_path / "data"
    data.mkdir()
    ports = local_s3._free_ports()
    here = {
        "-dir": str(data),
        "-s3.ip.bind": "127.0.0.1",
        "-s3.port": str(ports["s3"]),
        "-s3.config": str(made / "secrets/s3.json"),
    }
    command = [
        f"{name}={here[name]}" if (name := argument.partition("=")[0]) in here else argument
        for argument in compose()["weed"]["command"]
    ]
    command += [f"-{part}.port={ports[part]}" for part in ("master", "volume", "filer")]
    url = f"http://127.0.0.1:{ports['s3']}"
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [Path(sys.executable).parent / "weed", *command], cwd=data, stdout=log, stderr=log
        )
    try:
        until = time.monotonic() + 60
        while not healthy(url):
            assert time.monotonic() < until, (tmp_path / "log").read_text()
            time.sleep(0.1)
        admin = environment(made, "admin", url)
        script = compose()["buckets"]["command"]
        for _ in range(2):  # again, with the buckets there
            subprocess.run([sys.executable, "-c", *script], env=admin, check=True)
        keys = {
            "moelora-raw": "files/md5/00/11",
            "moelora-shared": "files/md5/00/11",
            "moelora-registry": "registry/releases/0123456789abcdef/README.md",
        }
        for bucket, key in keys.items():
            assert s3_may(admin, "put", bucket, key)
        may = {
            role: {
                (bucket, act)
                for bucket, key in keys.items()
                for act in ("get", "list", "put", "delete")
                if s3_may(environment(made, role, url), act, bucket, key)
            }
            for role in ROLES
        }
        read, add = {"get", "list"}, {"get", "list", "put"}
        assert may == {
            "cpu": {(bucket, act) for bucket in keys for act in add},
            "gpu": {("moelora-shared", act) for act in add} | {("moelora-registry", act) for act in read},
            "promote": {("moelora-registry", act) for act in read},
        }
        champion = ("moelora-registry", "registry/channels/champion.json")
        assert [role for role in ROLES if s3_may(environment(made, role, url), "put", *champion)] == [
            "promote"
        ]
    finally:
        server.kill()
        server.wait()


def healthy(url: str) -> bool:
    """By the address that the health check of compose asks."""
    try:
        with build_opener(ProxyHandler({})).open(f"{url}/healthz", timeout=2) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def environment(folder: Path, role: str, url: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    lines = (folder / f"secrets/{role}.env").read_text().split()
    own = dict(line.split("=", 1) for line in lines)
    return clean | own | {"AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": "us-east-1", "NO_PROXY": "127.0.0.1"}


def s3_may(keys: dict[str, str], act: str, bucket: str, key: str) -> bool:
    """Whether S3 lets the owner of these keys do it; a refusal is the only other answer."""
    import boto3
    from botocore.exceptions import ClientError

    client = boto3.client(
        "s3",
        endpoint_url=keys["AWS_ENDPOINT_URL"],
        region_name=keys["AWS_DEFAULT_REGION"],
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
    )
    try:
        if act == "list":
            client.list_objects_v2(Bucket=bucket, Prefix="registry/")
        elif act == "put":
            client.put_object(Bucket=bucket, Key=key, Body=b"x")
        else:
            getattr(client, f"{act}_object")(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] == "AccessDenied":
            return False
        raise
    return True


# Kubernetes


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


# Terraform


@cache
def configuration() -> Json:
    """All blocks of infra/terraform: kind, then labels, then the body; quotes of strings taken off."""
    blocks: Json = {}
    for path in sorted((INFRA / "terraform").glob("*.tf")):
        with path.open() as file:
            for kind, found in unquoted(hcl2.load(file)).items():
                for block in found if isinstance(found, list) else []:
                    merge(blocks.setdefault(kind, {}), block)
    return blocks


def unquoted(part: Any) -> Any:
    if isinstance(part, dict):
        return {name.strip('"'): unquoted(each) for name, each in part.items() if not name.startswith("__")}
    if isinstance(part, list):
        return [unquoted(each) for each in part]
    return part[1:-1] if isinstance(part, str) and part[:1] == part[-1:] == '"' else part


def merge(into: Json, more: Json) -> None:
    for name, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            merge(into[name], value)
        else:
            into[name] = value


def grants() -> list[dict[str, str]]:
    return list(configuration()["locals"]["grants"].values())


@cache
def statements(role: str) -> list[Json]:
    """A role's rights in S3, as Terraform makes them of infra/s3."""
    text = (INFRA / "terraform/roles.tf").read_text()
    replaced = set(re.findall(r'"(BUCKET|PREFIX|CHANNEL)",', text))
    assert replaced == {"BUCKET", "PREFIX", "CHANNEL"}
    return [
        statement
        for grant in grants()
        if grant["role"] == role
        for statement in json.loads(policy(grant["policy"], grant["bucket"]))["Statement"]
    ]


def policy(name: str, bucket: str) -> str:
    text = (INFRA / f"s3/{name}.json").read_text()
    for word, value in {"BUCKET": f"ours-{bucket}", "PREFIX": "registry", "CHANNEL": "champion"}.items():
        text = text.replace(word, value)
    return text


def allowed(role: str, action: str, resource: str) -> bool:
    """Conditions are taken as met: they can only narrow."""
    return any(
        any(fnmatchcase(action, each) for each in statement["Action"])
        and any(fnmatchcase(f"arn:aws:s3:::{resource}", each) for each in statement["Resource"])
        for statement in statements(role)
    )


def test_terraform_files_are_formatted_hcl() -> None:
    assert set(configuration()) >= {"terraform", "variable", "locals", "resource", "data", "output"}
    needs("terraform")
    run("terraform", "fmt", "-check", "-diff", INFRA / "terraform")


@pytest.mark.network
def test_terraform_accepts_the_configuration(tmp_path: Path) -> None:
    """Needs the provider, which `init` downloads."""
    needs("terraform")
    shutil.copytree(INFRA, tmp_path / "infra")
    run("terraform", "init", "-backend=false", cwd=tmp_path / "infra/terraform")
    run("terraform", "validate", cwd=tmp_path / "infra/terraform")


def test_every_reference_in_terraform_resolves() -> None:
    blocks = configuration()
    text = "\n".join(path.read_text() for path in (INFRA / "terraform").glob("*.tf"))
    text = re.sub(r"^\s*#.*", "", text, flags=re.M)
    assert set(re.findall(r"\bvar\.(\w+)", text)) == set(blocks["variable"])
    assert set(re.findall(r"\blocal\.(\w+)", text)) == set(blocks["locals"])
    for kind, prefix in (("data", r"\bdata\."), ("resource", r"(?<!data\.)\b")):
        for type_, name in re.findall(prefix + r"(aws_\w+)\.(\w+)", text):
            assert name in blocks[kind].get(type_, {}), f"{type_}.{name}"
    for name in re.findall(r'file\("\$\{path\.module\}/([^$]+)', text):
        assert (INFRA / "terraform" / name).is_dir()
    assert all(each.get("description") and each.get("type") for each in blocks["variable"].values())
    assert all(each.get("description") for each in blocks["output"].values())


def test_buckets_are_closed_encrypted_and_versioned() -> None:
    resources = configuration()["resource"]
    for kind in (
        "public_access_block",
        "ownership_controls",
        "versioning",
        "server_side_encryption_configuration",
        "lifecycle_configuration",
        "policy",
    ):
        assert resources[f"aws_s3_bucket_{kind}"]["this"]["for_each"] == "${local.buckets}", kind
    closed = resources["aws_s3_bucket_public_access_block"]["this"]
    assert all(closed[name] is True for name in closed if name not in ("for_each", "bucket"))
    assert len(closed) == 6
    assert resources["aws_kms_key"]["bucket"]["for_each"] == "${local.buckets}"
    (statement,) = configuration()["data"]["aws_iam_policy_document"]["tls_only"]["statement"]
    assert statement["effect"] == "Deny"
    assert statement["condition"][0]["variable"] == "aws:SecureTransport"


def test_policies_name_actions_of_aws_on_what_they_act_on() -> None:
    """By AWS's own list: `s3:GetObject` on a bucket, or a misspelt action, would grant nothing."""
    used = {(grant["policy"], grant["bucket"]) for grant in grants()} | {("admin", "registry")}
    assert {f"{name}.json" for name, _ in used} == {path.name for path in (INFRA / "s3").glob("*.json")}
    for name, bucket in used:
        text = policy(name, bucket)
        assert not re.search("BUCKET|PREFIX|CHANNEL", text)
        document = json.loads(text)
        assert document["Version"] == "2012-10-17"
        for statement in document["Statement"]:
            assert set(statement) <= {"Sid", "Effect", "Action", "Resource", "Condition"}
            for action in statement["Action"]:
                known = get_action_data(*action.split(":")).get("s3", [])
                assert known, (name, action)
                kinds = [re.sub(r"\$\{\w+\}", "[^:]+", each["resource_arn_format"]) for each in known]
                kinds = [kind.replace("[^:]+:s3:::[^:]+", "aws:s3:::[^/]+") for kind in kinds if kind != "*"]
                for resource in statement["Resource"]:
                    assert any(re.fullmatch(kind, resource) for kind in kinds), (name, action, resource)
                keys = {key for each in known for key in each["condition_keys"]}
                assert {key for each in statement.get("Condition", {}).values() for key in each} <= keys
    assert not get_action_data("s3", "PutObjekt")


def test_aws_gives_each_role_its_own_and_no_more() -> None:
    reads = {
        "cpu": {"ours-raw", "ours-shared", "ours-registry"},
        "gpu": {"ours-shared", "ours-registry"},
        "promote": {"ours-registry"},
        "reader": {"ours-registry"},
    }
    assert {grant["role"] for grant in grants()} == set(reads)
    champion = "ours-registry/registry/channels/champion.json"
    release = "ours-registry/registry/releases/0123456789abcdef/README.md"
    for role, buckets in reads.items():
        found = {
            bucket
            for bucket in reads["cpu"]
            if allowed(role, "s3:GetObject", f"{bucket}/registry/any")
            or allowed(role, "s3:ListBucket", bucket)
        }
        assert found == buckets, role
        assert not any(
            "Delete" in action or "*" in action for each in statements(role) for action in each["Action"]
        )
    assert [role for role in reads if allowed(role, "s3:PutObject", champion)] == ["promote"]
    assert [role for role in reads if allowed(role, "s3:PutObject", release)] == ["cpu"]
    assert [role for role in reads if allowed(role, "s3:PutObject", "ours-shared/files/any")] == [
        "cpu",
        "gpu",
    ]
    roles = configuration()["resource"]["aws_iam_role_policy"]
    assert {each["for_each"] for each in roles.values()} == {"${local.grants}"}


def test_compose_and_aws_grant_the_same(made: Path) -> None:
    identities = json.loads((made / "secrets/s3.json").read_text())["identities"]
    of_compose = {each["name"]: set(each["policyNames"]) for each in identities if "policyNames" in each}
    of_aws = {
        role: {f"{each['policy']}-moelora-{each['bucket']}" for each in grants() if each["role"] == role}
        for role in ROLES
    }
    assert of_compose == of_aws
