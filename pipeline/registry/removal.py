"""Removing a release: hidden first, then its bytes, as far as the bucket's object lock allows.

s3://BUCKET/PREFIX/removals/<id>.json    {by, reason, at} while it goes on, or after it was cut off
"""

import json
from datetime import UTC, datetime
from typing import Any

from pipeline.digests import canonical_json
from pipeline.errors import ReleaseNotFound
from pipeline.registry.manifest import MANIFEST
from pipeline.registry.objects import Lock, lock_of
from pipeline.registry.release import checked_id, object_key
from pipeline.registry.store import Store

MOST = 1000  # objects of one request, by S3's rules


def mark_removal(store: Store, release: str, by: str, reason: str) -> None:
    """Announce that a release is about to be removed: nobody publishes or promotes it from now on."""
    body = {"by": by, "reason": reason, "at": datetime.now(UTC).isoformat()}
    store.put(_key(store, release), canonical_json(body).encode())


def unmark_removal(store: Store, release: str) -> None:
    """Take the announcement back."""
    store.client.delete_object(Bucket=store.bucket, Key=_key(store, release))


def unmark_stale(store: Store, release: str, before: datetime) -> None:
    """Take back an announcement made before a time, of a removal that never began."""
    data = store.get(_key(store, release))
    try:
        stale = data is not None and datetime.fromisoformat(json.loads(data)["at"]) < before
    except (ValueError, KeyError, TypeError):
        stale = True
    if stale:
        unmark_removal(store, release)


def marked_removals(store: Store) -> list[str]:
    """Releases whose removal goes on or was cut off."""
    start = store.key("removals", "")
    return [item["Key"][len(start) :].removesuffix(".json") for item in store.list(start)]


def refuse_removed(store: Store, release: str) -> None:
    """Raise ReleaseNotFound while a release is being removed."""
    if store.get(_key(store, release)) is not None:
        raise ReleaseNotFound(f"release {release} is being removed: `moelora prune --apply` finishes that")


def remove_release(store: Store, release: str) -> list[Lock]:
    """Delete all objects of a release, and all their versions; what an object lock forbids.

    From the first request on no reader sees it. In a bucket without versions nothing is locked.
    """
    store.client.delete_object(Bucket=store.bucket, Key=object_key(store, release, MANIFEST))
    start = object_key(store, release, "")
    # Twice: somebody who was publishing it may have added to it meanwhile.
    for _ in range(2):
        _delete(store, [{"Key": item["Key"]} for item in store.list(start)])
    # Last, so that a manifest which a publisher wrote meanwhile is gone, or was written after all of this.
    store.client.delete_object(Bucket=store.bucket, Key=object_key(store, release, MANIFEST))
    refused = _delete(store, _versions(store, start, "Versions"))
    # The marker of a deletion stays where a version does: without it the version would be back.
    locked = {each["Key"] for each in refused}
    markers = _versions(store, start, "DeleteMarkers")
    _delete(store, [each for each in markers if each["Key"] not in locked])
    return [
        lock_of(store.client, store.bucket, each["Key"], {"VersionId": each["VersionId"]})
        or Lock(each["Key"], each["Code"], None)
        for each in refused
    ]


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


def _key(store: Store, release: str) -> str:
    return store.key("removals", f"{checked_id(release)}.json")
