"""Channels: named pointers at a release, moved by compare-and-swap."""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.digests import canonical_json
from pipeline.errors import PointerMoved, RegistryError, ReleaseCorrupt, ReleaseNotFound
from pipeline.registry.download import verify, verify_sizes
from pipeline.registry.history import LOST, Entry, append, read_entries, read_entry, reconcile
from pipeline.registry.release import checked_id, manifest_bytes
from pipeline.registry.removal import refuse_removed
from pipeline.registry.store import Store, in_parallel
from pipeline.registry.tombstone import refuse_erased

CHAMPION = "champion"
"""The channel that people and servers follow unless they name another."""

CANDIDATE = "candidate"
"""The channel of the newest release that a retraining brought forth."""

READS = 5  # of a history that grows while it is read

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


@dataclass(frozen=True)
class Move:
    """A wish to point a channel at a release; ``facts``: what else the history is to say of it."""

    channel: str
    release: str
    by: str
    reason: str
    event: str = "promoted"
    facts: dict[str, Any] | None = None


def read_channel(store: Store, name: str) -> Channel | None:
    """See Registry.channel."""
    found = store.get_version(_key(store, name))
    if found is None:
        return None
    body, etag = found
    try:
        pointer = json.loads(body)
        channel = Channel(name=name, etag=etag, **{key: pointer[key] for key in _FIELDS})
        checked_id(channel.release)
    except (ValueError, KeyError, TypeError, ReleaseNotFound):
        raise RegistryError(f"channel {name} holds no pointer: set it anew by an administrator") from None
    return channel


def read_channels(store: Store) -> list[Channel]:
    """See Registry.channels."""
    start = store.key("channels", "")
    names = [item["Key"][len(start) :].removesuffix(".json") for item in store.list(start)]
    found = in_parallel(lambda name: read_channel(store, name), [n for n in names if _NAME.fullmatch(n)])
    return [channel for _, channel in found if channel is not None]


def move(store: Store, wish: Move, expected: Channel | None, promoted_manifest: str | None = None) -> Channel:
    """See Registry.move. A release that was verified when it was promoted with the manifest of SHA-256
    ``promoted_manifest`` is not read again."""
    key = _key(store, wish.channel)
    problems = (
        verify(store, wish.release)
        if promoted_manifest is None
        else verify_sizes(store, wish.release, promoted_manifest)
    )
    if problems:
        raise ReleaseCorrupt(f"release {wish.release} is not moved to: {'; '.join(problems)}")
    manifest = hashlib.sha256(manifest_bytes(store, wish.release)).hexdigest()
    facts: Entry = (wish.facts or {}) | {
        "channel": wish.channel,
        "release": wish.release,
        "by": wish.by,
        "reason": wish.reason,
        "previous": None if expected is None else expected.release,
        "manifest_sha256": manifest,
    }
    replaces = None if expected is None else expected.intention
    intention = append(store, "intended", intended=wish.event, replaces=replaces, **facts)
    # After the intention, which a prune looks for before it removes anything.
    refuse_removed(store, wish.release)
    refuse_erased(store, wish.release)
    if hashlib.sha256(manifest_bytes(store, wish.release)).hexdigest() != manifest:
        raise ReleaseCorrupt(f"release {wish.release} changed meanwhile: moelora verify {wish.release}")
    pointer = {name: facts[name] for name in ("release", "manifest_sha256", "previous", "by", "reason")}
    pointer |= {"at": datetime.now(UTC).isoformat(), "intention": intention}
    now = _swap(store, key, wish.channel, pointer, expected)
    if now is None or now.intention != intention:
        _tell(store, LOST, intention=intention, winner=now.release if now else None, **facts)
        raise PointerMoved(_lost(wish.channel, now))
    _tell(store, wish.event, intention=intention, **facts)
    return now


def _swap(
    store: Store, key: str, name: str, pointer: dict[str, Any], expected: Channel | None
) -> Channel | None:
    """Write ``pointer`` if the channel still is as ``expected``; what stands there afterwards."""
    condition = {"IfNoneMatch": "*"} if expected is None else {"IfMatch": expected.etag}
    try:
        etag = store.put(key, canonical_json(pointer).encode(), **condition)
    except (BotoCoreError, ClientError):
        # It may have been written all the same, with the answer lost.
        now = read_channel(store, name)
        if now is None or now.intention != pointer["intention"]:
            raise
        return now
    return read_channel(store, name) if etag is None else Channel(name=name, etag=etag, **pointer)


def _tell(store: Store, event: str, **facts: Any) -> None:
    """Add an outcome, or leave it to readers to find: the pointer has moved, or has not, by now."""
    with contextlib.suppress(BotoCoreError, ClientError):
        append(store, event, **facts)


def told_history(store: Store) -> list[Entry]:
    """See Registry.history."""

    def pointers() -> dict[str, str]:
        return {channel.name: channel.intention for channel in read_channels(store)}

    for _ in range(READS):
        entries = reconcile(read_entries(store), pointers)
        if entries is not None:
            return entries
    # A pointer whose intention the history lacks: nothing can be concluded from it.
    return read_entries(store)


def walk_moves(store: Store, channel: Channel) -> Iterator[Entry]:
    """The moves that brought a channel to where it is, the newest first, a request each: ``release``,
    ``previous``, ``intended``, ``manifest_sha256`` (not of moves made before it was kept)."""
    oldest: Entry = asdict(channel) | {"intended": "promoted"}
    seen: set[str] = set()
    ahead: str | None = channel.intention
    while ahead is not None and ahead not in seen:
        seen.add(ahead)
        entry = read_entry(store, ahead)
        if entry is None:
            break
        yield entry
        oldest, ahead = entry, entry.get("replaces")
    if "event" not in oldest:  # the intention itself is not to be found
        yield oldest
    if oldest["previous"] is not None:
        yield {"release": oldest["previous"], "previous": None, "intended": "promoted"}


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
