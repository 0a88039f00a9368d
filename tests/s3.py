"""A real S3 server for the tests of a session, and a registry of its own for each test."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import local_s3
from pipeline.registry import Registry

BUCKET = "moelora"


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """SeaweedFS on free ports of loopback with random keys: the path of its AWS config file."""
    folder = tmp_path_factory.mktemp("services") / "s3"
    local_s3.start(folder, BUCKET)
    yield local_s3.config_file(folder)
    local_s3.stop(folder)


@pytest.fixture
def aws(s3: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Address that server, and none of the developer's own, by boto3's standard configuration."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(s3))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(s3.parent / "none"))
    return s3


@pytest.fixture
def registry_url(aws: Path) -> str:
    """An empty registry on that server."""
    return f"s3://{BUCKET}/test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def empty_registry(registry_url: str) -> Registry:
    """The opened registry of ``registry_url``."""
    return Registry.open(registry_url)
