"""What a registry need not keep: a plan first, then its removal."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from pipeline.registry.channel import read_channels, walk_moves
from pipeline.registry.client import status
from pipeline.registry.history import append, read_entries, unsettled
from pipeline.registry.manifest import MANIFEST
from pipeline.registry.objects import Lock
from pipeline.registry.release import Release, is_release_id, list_objects, list_releases
from pipeline.registry.removal import (
    mark_removal,
    marked_removals,
    remove_release,
    unmark_removal,
    unmark_stale,
)
from pipeline.registry.rollback import ways_back
from pipeline.registry.store import Store
from pipeline.registry.tombstone import is_erased

UNFINISHED = timedelta(days=1)
"""Age from which a publication without a manifest counts as given up."""

UNDECIDED = timedelta(hours=1)
"""Age up to which an intention to move a channel keeps its release."""


@dataclass(frozen=True)
class Plan:
    """What a prune would do.

    ``kept``: why, by release. ``removed``: whole releases, the oldest first. ``unfinished``: ids of
    publications that were given up, or of removals that were cut off. ``uploads``: keys and ids of
    uploads in parts that were given up.
    """

    kept: dict[str, str]
    removed: tuple[Release, ...]
    unfinished: tuple[str, ...]
    uploads: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Pruned:
    """What a prune did; ``spared``: releases that somebody was about to use after all."""

    removed: tuple[str, ...]
    spared: tuple[str, ...]
    locked: tuple[Lock, ...]


def plan_prune(store: Store, keep: int) -> Plan:
    """See Registry.plan_prune."""
    whole = list_releases(store)
    newest = {each.id: f"among the {keep} newest" for each in whole[::-1][:keep]}
    reasons = newest | _used(store)
    kept = {each.id: reasons[each.id] for each in whole if each.id in reasons}
    removed = tuple(each for each in whole if each.id not in kept)
    given_up = _given_up(store) | (set(marked_removals(store)) - {each.id for each in removed})
    return Plan(kept, removed, tuple(sorted(given_up - kept.keys())), tuple(_given_up_uploads(store)))


def prune(store: Store, plan: Plan, by: str, reason: str) -> Pruned:
    """See Registry.prune."""
    removed, spared, locked = [], [], []
    for release in [each.id for each in plan.removed] + list(plan.unfinished):
        mark_removal(store, release, by, reason)
        # After the announcement: whoever wants the release from now on sees it.
        completed = release in plan.unfinished and MANIFEST in list_objects(store, release)
        if completed or release in _used(store):
            unmark_removal(store, release)
            spared.append(release)
            continue
        append(store, "pruning", release, by, reason)
        kept = remove_release(store, release)
        locked += kept
        append(store, "pruned", release, by, reason)
        if not kept:  # else the next prune goes on with it
            unmark_removal(store, release)
        removed.append(release)
    # What a killed prune announced and never began, and the plan now keeps.
    for release in plan.kept.keys() & set(marked_removals(store)):
        unmark_stale(store, release, datetime.now(UTC) - UNDECIDED)
    for key, upload_id in plan.uploads:
        _abort(store, key, upload_id)
    return Pruned(tuple(removed), tuple(spared), tuple(locked))


def _used(store: Store) -> dict[str, str]:
    """Releases that channels point at, would go back to, or are about to be pointed at, and why."""
    used: dict[str, str] = {}
    for entry in unsettled(read_entries(store, datetime.now(UTC) - UNDECIDED)):
        used[entry["release"]] = f"{entry['by']} is moving {entry['channel']} to it"
    channels = read_channels(store)
    for channel in channels:
        ways = ways_back(list(walk_moves(store, channel)))
        back = next((each for each in ways if not is_erased(store, each)), None)
        used |= {each: f"{channel.name} before" for each in (channel.previous, back) if each is not None}
    return used | {channel.release: channel.name for channel in channels}


def _given_up(store: Store) -> set[str]:
    """Ids below which objects lie without a manifest, none of them written lately."""
    start = store.key("releases", "")
    newest: dict[str, datetime] = {}
    whole = set()
    for item in store.list(start):
        release, _, path = item["Key"][len(start) :].partition("/")
        newest[release] = max(item["LastModified"], newest.get(release, item["LastModified"]))
        if path == MANIFEST:
            whole.add(release)
    limit = datetime.now(UTC) - UNFINISHED
    return {each for each, at in newest.items() if is_release_id(each) and each not in whole and at < limit}


def _given_up_uploads(store: Store) -> list[tuple[str, str]]:
    pages = store.client.get_paginator("list_multipart_uploads").paginate(
        Bucket=store.bucket, Prefix=store.key("releases", "")
    )
    found: list[dict[str, Any]] = [each for page in pages for each in page.get("Uploads", [])]
    limit = datetime.now(UTC) - UNFINISHED
    return [(each["Key"], each["UploadId"]) for each in found if each["Initiated"] < limit]


def _abort(store: Store, key: str, upload_id: str) -> None:
    try:
        store.client.abort_multipart_upload(Bucket=store.bucket, Key=key, UploadId=upload_id)
    except ClientError as error:
        if status(error) != 404:  # gone by itself
            raise
