"""Removing a release: hidden first, then its bytes, as far as the bucket's object lock allows.

s3://BUCKET/PREFIX/removals/<id>.json    {by, reason, at} while it goes on, or after it was cut off
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from pipeline.digests import canonical_json
from pipeline.errors import ReleaseNotFound
from pipeline.registry.manifest import MANIFEST
from pipeline.registry.release import checked_id, object_key
from pipeline.registry.store import Store

MOST = 1000  # objects of one request, by S3's rules


@dataclass(frozen=True)
class Locked:
    """A version of an object that may not be deleted; ``until``: ISO 8601 in UTC, or None where S3
    does not say (a legal hold, or no permission to ask)."""

    key: str
    until: str | None


def mark_removal(store: Store, release: str, by: str, reason: str) -> None:
    """Announce that a release is about to be removed: nobody publishes or promotes it from now on."""
    body = {"by": by, "reason": reason, "at": datetime.now(UTC).isoformat()}
    store.put(_key(store, release), canonical_json(body).encode())


def unmark_removal(store: Store, release: str) -> None:
    """Take the announcement back."""
    store.client.delete_object(Bucket=store.bucket, Key=_key(store, release))


def marked_removals(store: Store) -> list[str]:
    """Releases whose removal goes on or was cut off."""
    start = store.key("removals", "")
    return [item["Key"][len(start) :].removesuffix(".json") for item in store.list(start)]


def refuse_removed(store: Store, release: str) -> None:
    """Raise ReleaseNotFound while a release is being removed."""
    if store.get(_key(store, release)) is not None:
        raise ReleaseNotFound(f"release {release} is being removed: `moelora prune --apply` finishes that")


def remove_release(store: Store, release: str) -> list[Locked]:
    """Delete all objects of a release, and all their versions; what an object lock forbids.

    From the first request on no reader sees it. In a bucket without versions nothing is locked.
    """
    store.client.delete_object(Bucket=store.bucket, Key=object_key(store, release, MANIFEST))
    start = object_key(store, release, "")
    # Twice: somebody who was publishing it may have added to it meanwhile.
    for _ in range(2):
        _delete(store, [{"Key": item["Key"]} for item in store.list(start)])
    refused = _delete(store, _versions(store, start, "Versions"))
    # The marker of a deletion stays where a version does: without it the version would be back.
    locked = {each["Key"] for each in refused}
    markers = _versions(store, start, "DeleteMarkers")
    _delete(store, [each for each in markers if each["Key"] not in locked])
    return [Locked(each["Key"], _locked_until(store, each)) for each in refused]


def _versions(store: Store, start: str, kind: str) -> list[dict[str, str]]:
    pages = store.client.get_paginator("list_object_versions").paginate(Bucket=store.bucket, Prefix=start)
    return [
        {"Key": each["Key"], "VersionId": each["VersionId"]} for page in pages for each in page.get(kind, [])
    ]


def _delete(store: Store, objects: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Delete objects or versions of them; those that S3 refused."""
    refused: list[dict[str, Any]] = []
    for start in range(0, len(objects), MOST):
        batch = {"Objects": objects[start : start + MOST], "Quiet": True}
        answer = store.client.delete_objects(Bucket=store.bucket, Delete=batch)
        refused += answer.get("Errors", [])
    return refused


def _locked_until(store: Store, version: dict[str, Any]) -> str | None:
    try:
        answer = store.client.get_object_retention(
            Bucket=store.bucket, Key=version["Key"], VersionId=version["VersionId"]
        )
    except ClientError:
        return None
    until: datetime = answer["Retention"]["RetainUntilDate"]
    return until.astimezone(UTC).isoformat()


def _key(store: Store, release: str) -> str:
    return store.key("removals", f"{checked_id(release)}.json")
