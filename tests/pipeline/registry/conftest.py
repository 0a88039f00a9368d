"""A release in a registry of its own; a server whose buckets and keys are restricted."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import local_s3
from pipeline.registry import Registry
from tests.conftest import ROOT
from tests.pipeline.registry.releases import FACTS, folder_of

ROLES = ("reader", "publisher", "promoter", "admin")


@pytest.fixture
def published(empty_registry: Registry, tmp_path: Path) -> str:
    return empty_registry.publish(folder_of(tmp_path / "made"), FACTS).release


@pytest.fixture(scope="session")
def guarded_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """SeaweedFS that encrypts where a bucket asks for it, with a key for each policy of infra/s3 on
    ``s3://moelora/guarded``: the path of the root key's AWS config file."""
    folder = tmp_path_factory.mktemp("guarded") / "s3"
    folder.mkdir()
    root = {
        "name": "root",
        "credentials": [_credentials("root")],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    roles = [{"name": role, "credentials": [_credentials(role)], "policyNames": [role]} for role in ROLES]
    policies = [{"name": role, "content": policy(role)} for role in ROLES]
    (folder / "keys.json").write_text(json.dumps({"identities": [root, *roles], "policies": policies}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEED_S3_SSE_KEK", "ab" * 32)
        local_s3.start(folder, "moelora")
    yield local_s3.config_file(folder)
    local_s3.stop(folder)


def policy(role: str) -> str:
    """A policy of infra/s3 for ``s3://moelora/guarded`` and the champion."""
    text = (ROOT / f"infra/s3/{role}.json").read_text()
    for word, value in {"BUCKET": "moelora", "PREFIX": "guarded", "CHANNEL": "champion"}.items():
        text = text.replace(word, value)
    return text


def _credentials(role: str) -> dict[str, str]:
    return {"accessKey": f"{role}-key", "secretKey": f"{role}-secret"}
