"""Which S3 is spoken to, and what is said where it does not answer."""

import os
import shutil
from pathlib import Path

import pytest

from pipeline import registry
from pipeline.errors import (
    ParamsError,
    RegistryUnavailable,
)
from pipeline.registry import Registry
from tests.conftest import Checkout
from tests.pipeline.registry.releases import FACTS, folder_of


def test_a_wrong_key_is_told_with_the_remedy(registry_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "else")
    for act in (Registry.releases, Registry.history, Registry.channel):
        with pytest.raises(RegistryUnavailable, match=r"refuses .*moelora doctor"):
            act(Registry.open(registry_url))


def test_a_server_that_is_down_is_told_with_the_remedy(
    registry_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    store = Registry.open(registry_url)
    with pytest.raises(RegistryUnavailable, match=r"127\.0\.0\.1:1.*cannot be reached.*moelora doctor"):
        store.publish(folder_of(tmp_path / "made"), FACTS)


def test_a_missing_bucket_is_told(aws: Path, tmp_path: Path) -> None:
    store = Registry.open("s3://no-such-bucket/registry")
    for act in (store.releases, lambda: store.publish(folder_of(tmp_path / "made"), FACTS)):
        with pytest.raises(RegistryUnavailable, match="no such bucket"):
            act()


def test_a_profile_that_is_none_is_told(registry_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(RegistryUnavailable, match=r"nobody.*moelora doctor"):
        Registry.open(registry_url)


@pytest.mark.parametrize("url", ["moelora/x", "s3://moelora", "s3://moelora/", "s3://m/../x", "s3://m o/x"])
def test_another_kind_of_url_is_refused(url: str) -> None:
    with pytest.raises(ParamsError, match="s3://BUCKET/PREFIX"):
        Registry.open(url)


def test_local_is_this_checkouts_server_whatever_else_is_configured(
    s3: Path, checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "another")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("HOME", str(checkout.root))
    (checkout.root / ".aws").mkdir()
    (checkout.root / ".aws/config").write_text("[default]\nendpoint_url = http://127.0.0.1:1\n")
    with pytest.raises(RegistryUnavailable, match="moelora services start"):
        Registry.open("local")
    registry.LOCAL_CONFIG.parent.mkdir(parents=True)
    shutil.copy(s3, registry.LOCAL_CONFIG)
    assert Registry.open("local").releases() == []


def test_a_bucket_is_never_looked_for_on_the_local_server(
    aws: Path, checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.LOCAL_CONFIG.parent.mkdir(parents=True)
    shutil.copy(aws, registry.LOCAL_CONFIG)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    assert "amazonaws.com" in Registry.open("s3://moelora/registry").address


def test_the_local_servers_file_is_not_mixed_with_the_environment(
    s3: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "else")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert registry.answers(s3)
