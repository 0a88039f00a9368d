"""Compose accepts its file, and every role has its own there and no more. No container is started."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import roles
from tests.infra.compose import compose, document, s3_may, secrets_of
from tests.infra.files import INFRA, ROLES, needs, run


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
    with roles.running(made, tmp_path / "data") as url:
        admin = roles.keys(made, "admin", url)
        stored = {
            "moelora-raw": "files/md5/00/11",
            "moelora-shared": "files/md5/00/11",
            "moelora-registry": "registry/releases/0123456789abcdef/README.md",
        }
        for bucket, key in stored.items():
            assert s3_may(admin, "put", bucket, key)
        may = {
            role: {
                (bucket, act)
                for bucket, key in stored.items()
                for act in ("get", "list", "put", "delete")
                if s3_may(roles.keys(made, role, url), act, bucket, key)
            }
            for role in ROLES
        }
        read, add = {"get", "list"}, {"get", "list", "put"}
        assert may == {
            "cpu": {(bucket, act) for bucket in stored for act in add},
            "gpu": {("moelora-shared", act) for act in add} | {("moelora-registry", act) for act in read},
            "promote": {("moelora-registry", act) for act in read},
        }
        champion = ("moelora-registry", "registry/channels/champion.json")
        assert [role for role in ROLES if s3_may(roles.keys(made, role, url), "put", *champion)] == [
            "promote"
        ]
