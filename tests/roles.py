"""SeaweedFS as infra/compose runs it, on loopback: a key for each role, with the rights of infra/s3."""

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import yaml

from flows import local_s3
from tests.conftest import ROOT

COMPOSE = ROOT / "infra/compose"


def services() -> dict[str, Any]:
    """The services of compose.yaml."""
    return yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]


def secrets_in(folder: Path) -> Path:
    """A folder with the secrets that make_secrets.py makes."""
    spec = importlib.util.spec_from_file_location("make_secrets", COMPOSE / "make_secrets.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(folder)
    return folder


@contextmanager
def running(made: Path, data: Path) -> Iterator[str]:
    """The command of `weed` and the script of `buckets` as they stand; the address of S3."""
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
        for argument in services()["weed"]["command"]
    ]
    command += [f"-{part}.port={ports[part]}" for part in ("master", "volume", "filer")]
    url = f"http://127.0.0.1:{ports['s3']}"
    with (data.parent / "weed.log").open("wb") as log:
        server = subprocess.Popen(
            [Path(sys.executable).parent / "weed", *command], cwd=data, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 60
        while not healthy(url):
            assert time.monotonic() < deadline, (data.parent / "weed.log").read_text()
            time.sleep(0.1)
        script = services()["buckets"]["command"]
        for _ in range(2):  # again, with the buckets there
            subprocess.run(
                [sys.executable, "-c", *script], env=os.environ | keys(made, "admin", url), check=True
            )
        yield url
    finally:
        server.kill()
        server.wait()


def keys(made: Path, role: str, url: str) -> dict[str, str]:
    """What a role's environment says of S3."""
    lines = (made / f"secrets/{role}.env").read_text().split()
    own = dict(line.split("=", 1) for line in lines)
    return own | {"AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": "us-east-1", "NO_PROXY": "127.0.0.1"}


def healthy(url: str) -> bool:
    """By the address that the health check of compose asks."""
    try:
        with build_opener(ProxyHandler({})).open(f"{url}/healthz", timeout=2) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False
