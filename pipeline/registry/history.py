"""The history of a registry: append-only entries, an object each.

A move of a channel leaves two: ``intended`` before the pointer moves, and its outcome after it.
Where the mover was killed between them, or could not write the second, a reader finds out from
the pointer and from ``replaces``, which chains each intention to the one of the move before.
"""

import hashlib
import json
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pipeline.digests import canonical_json
from pipeline.errors import RegistryError
from pipeline.registry.store import Store, in_parallel

Entry = dict[str, Any]

DIGITS = 32  # of the digest in an entry's id; entries of before had 8 random ones

LOST = "lost"
"""Outcome of an intention that somebody else's move came before."""


def append(store: Store, event: str, release: str | None, by: str, reason: str, **facts: Any) -> str:
    """See Registry.append_history."""
    now = datetime.now(UTC)
    body = facts | {"event": event, "release": release, "by": by, "reason": reason, "at": now.isoformat()}
    data = canonical_json(body | {"nonce": secrets.token_hex(8)}).encode()
    entry = f"{key_time(now)}-{_digest(data)}"
    key = _key(store, entry)
    if store.put(key, data, IfNoneMatch="*") is None and store.get(key) != data:
        raise RegistryError(f"history entry {entry} exists already: do it again")
    return entry


def read_entries(store: Store, since: datetime | None = None) -> list[Entry]:
    """All entries as they were written, or those ``since`` a time, in order of time."""
    start = store.key("history", "")
    keys = [item["Key"] for item in store.list(start, start + key_time(since) if since else "")]
    found = in_parallel(lambda key: _parse(key[len(start) : -len(".json")], store.get(key)), keys)
    return [entry for _, entry in found if entry is not None]


def read_entry(store: Store, entry: str) -> Entry | None:
    """One entry by its id, or None where there is none. Raises RegistryError where it was overwritten:
    its id holds its digest, so that a pointer vouches for the whole way back from it."""
    data = store.get(_key(store, entry))
    told = entry.rpartition("-")[2]
    if data is not None and len(told) == DIGITS and told != _digest(data):
        raise RegistryError(f"history entry {entry} was overwritten: an administrator looks")
    return _parse(entry, data)


def has_entry(store: Store, event: str, release: str) -> bool:
    """Whether the history tells of ``event`` for ``release``."""
    return any(entry["event"] == event and entry["release"] == release for entry in read_entries(store))


def unsettled(entries: list[Entry]) -> list[Entry]:
    """Intentions without an outcome among ``entries``."""
    settled = {entry["intention"] for entry in entries if "intention" in entry}
    return [entry for entry in entries if entry["event"] == "intended" and entry["id"] not in settled]


def reconcile(entries: list[Entry], pointers: Callable[[], dict[str, str]]) -> list[Entry] | None:
    """``entries`` and, behind each intention whose outcome is missing, the outcome there must have
    been, with ``reconciled: true``. An intention that may still come true stays as it is.

    ``pointers()`` gives the intention that each channel now owes its place to. None where one of
    them is newer than ``entries``: read them again.
    """
    waiting = {entry["id"] for entry in unsettled(entries)}
    if not waiting:
        return entries
    now = pointers()
    by_id = {entry["id"]: entry for entry in entries}
    if not by_id.keys() >= set(now.values()):
        return None
    won = _came_true(entries, by_id, set(now.values()))
    told: list[Entry] = []
    for entry in entries:
        told.append(entry)
        if entry["id"] in waiting:
            if entry["id"] in won:
                told.append(_outcome(entry, entry["intended"]))
            elif now.get(entry["channel"]) != entry.get("replaces"):
                told.append(_outcome(entry, LOST))
    return told


def _came_true(entries: list[Entry], by_id: dict[str, Entry], now: set[str]) -> set[str]:
    """Intentions that became a move: told so, in force now, or replaced by one that became a move."""
    moved = [entry for entry in entries if "intention" in entry and entry["event"] != LOST]
    found = now | {entry["intention"] for entry in moved}
    ahead = list(found)
    while ahead:
        before = by_id.get(ahead.pop(), {}).get("replaces")
        if before is not None and before not in found:
            found.add(before)
            ahead.append(before)
    return found


def _outcome(intention: Entry, event: str) -> Entry:
    facts = {key: value for key, value in intention.items() if key not in ("intended", "replaces")}
    made = {"event": event, "intention": intention["id"], "id": f"{intention['id']}-reconciled"}
    return facts | made | {"reconciled": True}


def key_time(moment: datetime) -> str:
    """A time as it stands in the keys of entries, which sort by it."""
    return f"{moment.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:DIGITS]


def _key(store: Store, entry: str) -> str:
    return store.key("history", f"{entry}.json")


def _parse(entry: str, body: bytes | None) -> Entry | None:
    if body is None:
        return None
    try:
        found: Entry = json.loads(body)
        if not found.keys() >= {"event", "release", "by", "reason", "at"}:
            raise ValueError
        return found | {"id": entry}
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise RegistryError(f"history entry {entry} is none: an administrator looks") from None
