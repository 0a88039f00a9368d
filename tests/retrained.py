"""A real project after its first retraining: git, DVC with both remotes in S3, a signed release."""

import configparser
import sys
import uuid
from pathlib import Path

from tests.s3 import BUCKET
from tests.test_end_to_end import Project, arriving, clone, records, write

PRIVATE = "private-data"
"""A bucket with object lock, for the remote of raw data."""


def retrained(root: Path, s3: Path) -> Project:
    """Make the project in ``root`` and retrain it, its registry and remotes in the server of ``s3``."""
    project = clone(root)
    address = configparser.ConfigParser()
    address.read(s3)
    known = address["default"]
    prefix = f"test-{uuid.uuid4().hex[:12]}"
    project.env |= {"AWS_CONFIG_FILE": str(s3), "AWS_SHARED_CREDENTIALS_FILE": str(s3.parent / "none")}
    dvc = (sys.executable, "-m", "dvc")
    for remote, bucket in (("shared", BUCKET), ("private", PRIVATE)):
        options = {
            "url": f"s3://{bucket}/{prefix}/{remote}",
            "endpointurl": known["endpoint_url"],
            "access_key_id": known["aws_access_key_id"],
            "secret_access_key": known["aws_secret_access_key"],
        }
        for name, value in options.items():
            project.run(*dvc, "remote", "modify", "--local", remote, name, value)
    secret = root.with_name(root.name + "-home") / "signing.pem"
    project.moelora("signing-key", "test", "--to", str(secret))
    project.env["MOELORA_SIGNING_KEY"] = str(secret)
    project.run("git", "add", "infra/trusted-keys")
    project.run("git", "commit", "-qm", "trust")
    arrivals = root.with_name(root.name + "-arrivals")
    write(arrivals / "Featherstone.jsonl", records("which-doctor", 40))
    write(arrivals / "b.jsonl", records("summary", 60, start=1000))
    write(arrivals / "c.jsonl", records("summary", 12, start=5000))
    settings = ["--set", f"publish.registry=s3://{BUCKET}/{prefix}/registry"]
    project.moelora("retrain", *arriving(arrivals, "first"), *settings)
    return project
