"""Releases of a registry: their ids, and which of them are whole."""

import re
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from pipeline.errors import ReleaseNotFound
from pipeline.registry.manifest import ABOUT_THE_FILES, MANIFEST, Manifest, parse_manifest
from pipeline.registry.store import Store

_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Release:
    """A whole release; ``published_at`` is S3's time of its manifest, ISO 8601 in UTC."""

    id: str
    published_at: str
    files: int
    bytes: int


def is_release_id(name: str) -> bool:
    """Whether ``name`` has the form of a release's id."""
    return _ID.fullmatch(name) is not None


def checked_id(release: str) -> str:
    """``release`` itself. Raises ReleaseNotFound where it has not the form of an id."""
    if not is_release_id(release):
        raise ReleaseNotFound(f"{release!r} is no release id (16 hex digits): moelora releases lists them")
    return release


def object_key(store: Store, release: str, path: str) -> str:
    """Key of an object of a release."""
    return store.key("releases", checked_id(release), path)


def list_objects(store: Store, release: str) -> dict[str, int]:
    """Path and size in bytes of every object of a release, whole or not."""
    start = object_key(store, release, "")
    return {item["Key"][len(start) :]: item["Size"] for item in store.list(start)}


def list_releases(store: Store) -> list[Release]:
    """All whole releases, the oldest first."""
    start = store.key("releases", "")
    found: dict[str, list[dict[str, Any]]] = {}
    for item in store.list(start):
        release, _, path = item["Key"][len(start) :].partition("/")
        found.setdefault(release, []).append(item | {"Path": path})
    whole = []
    for release, items in found.items():
        published = [item["LastModified"] for item in items if item["Path"] == MANIFEST]
        if published and is_release_id(release):
            files = [item["Size"] for item in items if item["Path"] not in ABOUT_THE_FILES]
            at = published[0].astimezone(UTC).isoformat()
            whole.append(Release(release, at, len(files), sum(files)))
    return sorted(whole, key=lambda release: (release.published_at, release.id))


def manifest_bytes(store: Store, release: str) -> bytes:
    """manifest.json of a release. Raises ReleaseNotFound."""
    data = store.get(object_key(store, release, MANIFEST))
    if data is None:
        raise ReleaseNotFound(f"no release {release} at {store.address}: moelora releases lists them")
    return data


def read_manifest(store: Store, release: str) -> Manifest:
    """The checked manifest of a release. Raises ReleaseNotFound, ReleaseCorrupt."""
    return parse_manifest(manifest_bytes(store, release), release)
