"""Objects of any S3 bucket: read, and deleted for good, all versions of them, or what forbids it."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from boto3.session import Session
from botocore.exceptions import BotoCoreError, ClientError

from pipeline.errors import RegistryUnavailable
from pipeline.registry.client import ATTEMPTS, as_registry_errors, client_config, status


class Lock(NamedTuple):
    """Why an object stays; ``until``: ISO 8601, or None where no date ends it."""

    key: str
    mode: str  # GOVERNANCE, COMPLIANCE, LEGAL HOLD, or what S3 answers
    until: str | None


class Objects:
    """What lies below ``s3://bucket/prefix``. Raises RegistryUnavailable, RegistryError."""

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self.address = f"s3://{bucket}/{prefix}"

    @classmethod
    def open(cls, url: str, options: Mapping[str, str]) -> "Objects":
        """The bucket of ``s3://bucket/prefix`` with the options of a DVC remote, and boto3's standard
        configuration where those say nothing."""
        parts = urlsplit(url)
        try:
            session = Session(
                aws_access_key_id=options.get("access_key_id"),
                aws_secret_access_key=options.get("secret_access_key"),
                aws_session_token=options.get("session_token"),
                region_name=options.get("region"),
                profile_name=options.get("profile"),
            )
            endpoint = options.get("endpointurl")
            client = session.client("s3", endpoint_url=endpoint, config=client_config(ATTEMPTS, endpoint))
        except BotoCoreError as error:
            raise RegistryUnavailable(f"{url}: its configuration cannot be used: {error}") from error
        return cls(client, parts.netloc, parts.path.strip("/"))

    def keys(self, below: str) -> Iterator[str]:
        """Keys below the prefix that start with ``below``, without the prefix."""
        with as_registry_errors(self.address):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + below):
                for item in page.get("Contents", []):
                    yield item["Key"].removeprefix(self._prefix)

    def entries(self) -> Iterator[tuple[str, int, str]]:
        """Key without the prefix, bytes and ETag of each object below the prefix."""
        with as_registry_errors(self.address):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix):
                for item in page.get("Contents", []):
                    yield item["Key"].removeprefix(self._prefix), item["Size"], item["ETag"].strip('"')

    def download(self, key: str, target: Path) -> None:
        """Write an object to a file, a part at a time."""
        with as_registry_errors(self.address):
            self._client.download_file(self._bucket, self._prefix + key, str(target))

    def read(self, key: str) -> bytes:
        """An object's bytes."""
        with as_registry_errors(self.address):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)
            data: bytes = answer["Body"].read()
        return data

    def lock(self, key: str) -> Lock | None:
        """What forbids to delete the object as it is now; None where nothing does, or cannot."""
        with as_registry_errors(self.address):
            return self._lock(self._prefix + key, {})

    def delete(self, key: str) -> Lock | None:
        """Delete every version of an object; the lock that forbids it, or None where it is gone."""
        whole, refused = self._prefix + key, None
        with as_registry_errors(self.address):
            for version in self._versions(whole):
                try:
                    self._client.delete_object(Bucket=self._bucket, Key=whole, **version)
                except ClientError as error:
                    if status(error) not in (400, 403):
                        raise
                    code = error.response["Error"].get("Code", "refused")
                    refused = refused or self._lock(whole, version) or Lock(key, code, None)
        return refused

    def _versions(self, key: str) -> list[dict[str, str]]:
        pages = self._client.get_paginator("list_object_versions")
        found = [
            {"VersionId": item["VersionId"]}
            for page in pages.paginate(Bucket=self._bucket, Prefix=key)
            for item in (*page.get("Versions", []), *page.get("DeleteMarkers", []))
            if item["Key"] == key and item.get("VersionId") is not None
        ]
        return found if found and self._keeps_versions() else [{}]

    def _keeps_versions(self) -> bool:
        """Whether a deletion without a version leaves what it deletes: also of objects that are older
        than the bucket's versions, whose version is called "null"."""
        try:
            return "Status" in self._client.get_bucket_versioning(Bucket=self._bucket)
        except ClientError:
            return True

    def _lock(self, key: str, version: dict[str, str]) -> Lock | None:
        found = lock_of(self._client, self._bucket, key, version)
        return None if found is None else found._replace(key=key.removeprefix(self._prefix))


def lock_of(client: Any, bucket: str, key: str, version: Mapping[str, str]) -> Lock | None:
    """What forbids to delete an object, or a ``VersionId`` of it. Raises botocore's connection errors."""
    try:
        held = client.get_object_legal_hold(Bucket=bucket, Key=key, **version)["LegalHold"]
        if held["Status"] == "ON":
            return Lock(key, "LEGAL HOLD", None)
    except (ClientError, KeyError):  # buckets without locks answer so
        pass
    try:
        kept = client.get_object_retention(Bucket=bucket, Key=key, **version)["Retention"]
    except (ClientError, KeyError):
        return None
    until: datetime = kept["RetainUntilDate"].astimezone(UTC)
    return Lock(key, kept["Mode"], until.isoformat()) if until > datetime.now(UTC) else None
