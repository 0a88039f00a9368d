"""A patient's data removed everywhere: real git, DVC with remotes in S3, registry and object lock."""

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from pipeline.deidentify.drawing import pseudonym
from pipeline.registry import Registry, connect
from pipeline.registry.store import Store
from tests.retrained import PRIVATE, retrained
from tests.test_end_to_end import Project

pytestmark = pytest.mark.slow

GROUP = "Wilhelmina Featherstone 3"
"""Of which-doctor rows 6 and 7, in Featherstone.jsonl alone."""

PSEUDONYM = pseudonym(bytes(range(32)), "group_id", f"group\0{GROUP}")
"""What stands for it after deidentify, with the key of these tests."""


@pytest.fixture(scope="module")
def client(s3: Path) -> Any:
    client = connect(s3)
    if PRIVATE not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket=PRIVATE, ObjectLockEnabledForBucket=True)
    return client


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, s3: Path, client: Any) -> Iterator[Project]:
    project = retrained(tmp_path_factory.mktemp("erasure"), s3)
    yield project
    project.moelora("services", "stop", check=False)


def erase(project: Project, *options: str) -> dict[str, Any]:
    return json.loads(project.moelora("erase", "--group", GROUP, "--json", *options).stdout)


def everything(project: Project, client: Any) -> Iterator[tuple[str, bytes]]:
    """Every file of the checkout and every version of every object in the project's remotes."""
    for path in project.root.rglob("*"):
        # Names of people are in the tests' own text; git's objects hold the code alone.
        if path.is_file() and not {"tests", ".git"} & set(path.relative_to(project.root).parts[:1]):
            yield str(path), path.read_bytes()
    for bucket, prefix in places(project):
        for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Versions", []):
                version = {} if item["VersionId"] == "null" else {"VersionId": item["VersionId"]}
                body = client.get_object(Bucket=bucket, Key=item["Key"], **version)["Body"].read()
                yield f"s3://{bucket}/{item['Key']}", body


def places(project: Project) -> list[tuple[str, str]]:
    own = (project.root / ".dvc/config.local").read_text().splitlines()
    urls = [line.partition("= ")[2] for line in own if "url = s3://" in line]
    return [tuple(url.removeprefix("s3://").split("/", 1)) for url in urls]  # type: ignore[misc]


def spelled(content: bytes) -> bool:
    if content[:4] == b"PAR1":
        content = pl.read_parquet(io.BytesIO(content)).select(~pl.selectors.binary()).write_ndjson().encode()
    text = content.decode("utf-8", "replace")
    return any(f'"{word}"' in text for word in (GROUP, PSEUDONYM))


def test_a_patient_is_removed_everywhere_and_what_a_lock_keeps_is_named(
    project: Project, client: Any
) -> None:
    release = project.report("publish")["release"]
    registry_url = yaml.safe_load((project.root / "params.yaml").read_text())["publish"]["registry"]
    bucket, prefix = registry_url.removeprefix("s3://").split("/", 1)
    registry = Registry(Store(client, bucket, prefix))
    original = project.root.with_name(project.root.name + "-arrivals") / "Featherstone.jsonl"
    before = original.read_bytes()
    held = {name for name, content in everything(project, client) if spelled(content)}
    assert any("data/inbox" in name for name in held)
    assert any("data/predictions" in name or "data/split" in name for name in held)
    for bucket, _ in places(project):
        assert any(name.startswith(f"s3://{bucket}") for name in held)

    plan = erase(project)
    assert erase(project) == plan  # a plan changes nothing
    assert [(each["rows"], each["removed"]) for each in plan["inbox"]] == [(2, False)]
    assert plan["releases"] == [release]
    assert plan["applied"] is None
    assert set(plan["objects"]) == {"cache", "remote private", "remote shared"}
    assert all(count > 3 for count in plan["objects"].values())
    shown = project.moelora("erase", "--group", GROUP).stdout
    assert GROUP not in shown
    assert "Featherstone" not in shown
    assert f"release {release} is withdrawn" in shown

    # One object of raw text may not be deleted for three days.
    locked = next(name for name in sorted(held) if name.startswith(f"s3://{PRIVATE}") and ".dir" not in name)
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
    client.put_object_retention(
        Bucket=PRIVATE,
        Key=locked.removeprefix(f"s3://{PRIVATE}/"),
        Retention={"Mode": "COMPLIANCE", "RetainUntilDate": until},
    )
    (lock,) = erase(project)["locked"]
    assert (lock["mode"], datetime.fromisoformat(lock["until"])) == ("COMPLIANCE", until)

    done = erase(project, "--apply", "--reason", "a request", "--by", "Ann")["applied"]
    assert done["withdrawn"] == [release]
    assert [each["key"] for each in done["locked"]] == [lock["key"]]
    assert original.read_bytes() == before  # what lies outside of the checkout is its owner's
    left = {name for name, content in everything(project, client) if spelled(content)}
    assert left == {locked}
    for folder in ("data/ingested", "data/deidentified", "data/predictions", "models/adapter", "scratch/raw"):
        assert not (project.root / folder).exists()
    assert not list((project.root / "scratch/open").glob("train"))
    refused = project.moelora("pull", release, check=False)
    assert (refused.returncode, "had to be erased" in refused.stderr) == (1, True)
    refused = project.moelora("promote", release, "--reason", "x", check=False)
    assert (refused.returncode, "had to be erased" in refused.stderr) == (1, True), refused.stderr
    (told,) = [entry for entry in registry.history() if entry["event"] == "erased"]
    assert (told["release"], told["by"], told["reason"]) == (release, "Ann", "a request")
    (row,) = json.loads(project.moelora("releases", "--json").stdout)
    assert (row["id"], row["verdict"]) == (release, "refused")

    # The same command goes on with what is left, and the next retraining makes all else anew.
    again = erase(project, "--apply")
    assert again["inbox"] == []
    assert again["applied"]["withdrawn"] == []
    assert [each["key"] for each in again["applied"]["locked"]] == [lock["key"]]
    project.moelora("retrain")
    assert project.report("publish")["release"] != release
    assert project.report("ingest")["rows"]["in"] == 110
    now = {name for name, content in everything(project, client) if spelled(content)}
    assert now == {locked}


def test_a_group_that_is_nowhere_needs_nothing(project: Project) -> None:
    plan = json.loads(project.moelora("erase", "--group", "nobody", "--json").stdout)
    assert (plan["inbox"], plan["paths"], plan["releases"]) == ([], [], [])
    assert set(plan["objects"].values()) == {0}
    assert "nothing of this group" in project.moelora("erase", "--group", "nobody").stdout


def test_without_the_key_nobody_can_be_mapped(project: Project) -> None:
    other = Project(project.root, project.env | {"MOELORA_DEID_KEY": "AAAA"})
    done = other.moelora("erase", "--group", GROUP, check=False)
    assert done.returncode == 2
    assert "MOELORA_DEID_KEY" in done.stderr
    assert GROUP not in done.stderr
