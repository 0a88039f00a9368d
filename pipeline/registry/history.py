"""The history of a registry: append-only entries, an object each."""

import json
import secrets
from datetime import UTC, datetime
from typing import Any

from pipeline.digests import canonical_json
from pipeline.errors import RegistryError
from pipeline.registry.store import Store, in_parallel


def append(store: Store, event: str, release: str | None, by: str, reason: str, **facts: Any) -> str:
    """See Registry.append_history."""
    now = datetime.now(UTC)
    entry = f"{now:%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(4)}"
    body = facts | {"event": event, "release": release, "by": by, "reason": reason, "at": now.isoformat()}
    key, data = store.key("history", f"{entry}.json"), canonical_json(body).encode()
    if store.put(key, data, IfNoneMatch="*") is None and store.get(key) != data:
        raise RegistryError(f"history entry {entry} exists already: do it again")
    return entry


def read_history(store: Store) -> list[dict[str, Any]]:
    """See Registry.history."""
    keys = [item["Key"] for item in store.list(store.key("history", ""))]
    bodies = in_parallel(store.get, sorted(keys))
    return [
        json.loads(body) | {"id": key.rpartition("/")[2].removesuffix(".json")}
        for key, body in bodies
        if body is not None
    ]


def has_entry(store: Store, event: str, release: str) -> bool:
    """Whether the history tells of ``event`` for ``release``."""
    return any(entry["event"] == event and entry["release"] == release for entry in read_history(store))
