"""A retraining whose workers hold no more than their roles' keys, and what S3 then refuses them."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError

from tests import roles
from tests.bench.orchestration.project import idle, make, set_params
from tests.bench.table import Row
from tests.service import Service, until

RAW = "moelora-raw"


def rows(folder: Path) -> list[Row]:
    """Whether the work is done with these keys, and raw data refused to the GPU worker."""
    folder.mkdir()
    made = folder / "secrets-of-roles"
    made.mkdir()
    with roles.running(roles.secrets_in(made), folder / "s3") as url:
        service = make(folder / "service", steps=8)
        config = service.root / ".dvc/config"
        text = config.read_text().replace("../scratch/remotes/shared", "s3://moelora-shared")
        config.write_text(text.replace("../scratch/remotes/private", "s3://moelora-raw"))
        set_params(service, {"publish.registry": "s3://moelora-registry/registry"})
        try:
            done = _retrained(service, made, url)
            raw = list(_objects(roles.keys(made, "admin", url)))
            refused = {role: _refused(raw, roles.keys(made, role, url)) for role in ("cpu", "gpu", "promote")}
            by_dvc = _dvc_is_refused(service, roles.keys(made, "gpu", url))
            note = (
                f"of the {len(raw)} in the bucket; promote {refused['promote']}; dvc fetch there: refused"
                * by_dvc
            )
            return [
                Row("retraining with each worker's own key: published", int(done), None, ">=", 1),
                Row(
                    "raw objects refused to the GPU worker's key",
                    refused["gpu"],
                    None,
                    ">=",
                    max(1, len(raw)),
                    note,
                ),
                Row("raw objects refused to the data worker's key", refused["cpu"], None, "<=", 0),
            ]
        finally:
            service.down()


def _retrained(service: Service, made: Path, url: str) -> bool:
    said = service.moelora("ui")
    service.api = next(word for word in said.split() if word.startswith("http://127.0.0.1:")) + "/api"
    service.moelora("deploy", "--watch", str(service.drop))
    start = (
        "import sys; from flows import local_prefect; local_prefect.ensure(); "
        "from flows import local_workers; local_workers.start(sys.argv[1])"
    )
    for role in ("cpu", "gpu", "promote"):
        env = service.env | roles.keys(made, role, url)
        subprocess.run([sys.executable, "-c", start, role], cwd=service.root, env=env, check=True)
    for file in sorted((service.root / "data/inbox/first").glob("*.jsonl")):
        (service.drop / file.name).write_bytes(file.read_bytes())
    until(lambda: service.runs("retrain"), 120)
    idle(service)
    return service.runs("retrain")[0]["state"]["name"] == "Published"


def _objects(keys: dict[str, str]) -> Iterator[str]:
    pages = _client(keys).get_paginator("list_objects_v2").paginate(Bucket=RAW)
    return (item["Key"] for page in pages for item in page.get("Contents", []))


def _refused(raw: list[str], keys: dict[str, str]) -> int:
    """How many of these objects S3 forbids to read."""
    count = 0
    for key in raw:
        try:
            _client(keys).get_object(Bucket=RAW, Key=key)["Body"].read()
        except ClientError as error:
            count += error.response["Error"]["Code"] == "AccessDenied"
    return count


def _dvc_is_refused(service: Service, keys: dict[str, str]) -> bool:
    """Whether `dvc fetch` of the inbox fails in the GPU worker's clone for want of rights."""
    clone = service.clone("gpu", "gpu-stage")
    (clone / "data/inbox.dvc").write_text((service.clone("cpu", "retrain") / "data/inbox.dvc").read_text())
    command = [sys.executable, "-m", "dvc", "fetch", "data/inbox.dvc"]
    done = subprocess.run(command, cwd=clone, env=service.env | keys, capture_output=True, text=True)
    return done.returncode != 0 and "Forbidden" in done.stderr


def _client(keys: dict[str, str]) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=keys["AWS_ENDPOINT_URL"],
        region_name=keys["AWS_DEFAULT_REGION"],
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
    )
