"""Channels: named pointers at a release, moved by compare-and-swap."""

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from pipeline.digests import canonical_json
from pipeline.errors import PointerMoved, RegistryError, ReleaseCorrupt, ReleaseNotFound
from pipeline.registry.client import is_absent
from pipeline.registry.download import verify
from pipeline.registry.history import append
from pipeline.registry.release import checked_id, manifest_bytes
from pipeline.registry.store import Store

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_FIELDS = ("release", "manifest_sha256", "previous", "by", "reason", "at", "intention")


@dataclass(frozen=True)
class Channel:
    """A named pointer at a release, as it was when read."""

    name: str
    release: str
    manifest_sha256: str
    previous: str | None  # the release it pointed at before
    by: str  # as claimed
    reason: str
    at: str  # ISO 8601, UTC, clock of whoever moved it
    intention: str  # id of the history entry written before the move
    etag: str  # S3's name of this version: the next move is conditional on it


def read_channel(store: Store, name: str) -> Channel | None:
    """See Registry.channel."""
    try:
        answer = store.client.get_object(Bucket=store.bucket, Key=_key(store, name))
        body = answer["Body"].read()
    except ClientError as error:
        if is_absent(error):
            return None
        raise
    try:
        pointer = json.loads(body)
        channel = Channel(name=name, etag=answer["ETag"], **{key: pointer[key] for key in _FIELDS})
        checked_id(channel.release)
    except (ValueError, KeyError, TypeError, ReleaseNotFound):
        raise RegistryError(f"channel {name} holds no pointer: set it anew by an administrator") from None
    return channel


def move(
    store: Store, name: str, release: str, by: str, reason: str, expected: Channel | None, event: str
) -> Channel:
    """See Registry.move."""
    key = _key(store, name)
    problems = verify(store, release)
    if problems:
        raise ReleaseCorrupt(f"release {release} is not moved to: {'; '.join(problems)}")
    previous = None if expected is None else expected.release
    facts = {"channel": name, "previous": previous}
    intention = append(store, "intended", release, by, reason, intended=event, **facts)
    pointer: dict[str, Any] = {
        "release": release,
        "manifest_sha256": hashlib.sha256(manifest_bytes(store, release)).hexdigest(),
        "previous": previous,
        "by": by,
        "reason": reason,
        "at": datetime.now(UTC).isoformat(),
        "intention": intention,
    }
    condition = {"IfNoneMatch": "*"} if expected is None else {"IfMatch": expected.etag}
    etag = store.put(key, canonical_json(pointer).encode(), **condition)
    now = read_channel(store, name) if etag is None else Channel(name=name, etag=etag, **pointer)
    if now is None or now.intention != intention:
        winner = None if now is None else now.release
        append(store, "lost", release, by, reason, intention=intention, winner=winner, **facts)
        raise PointerMoved(_lost(name, now))
    append(store, event, release, by, reason, intention=intention, **facts)
    return now


def _key(store: Store, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ReleaseNotFound(f"{name!r} is no channel name: use lower-case letters, digits and hyphens")
    return store.key("channels", f"{name}.json")


def _lost(name: str, now: Channel | None) -> str:
    if now is None:
        return f"{name} is no longer set: look at `moelora releases` and decide again"
    return (
        f"{name} was moved first, to {now.release} by {now.by} at {now.at} ({now.reason}): "
        "look at it and decide again"
    )
