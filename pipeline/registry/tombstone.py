"""Tombstones: releases that may no longer be used, since data they were made from had to be erased.

s3://BUCKET/PREFIX/tombstones/<id>.json    {release, by, reason, at}; written once, read before any use
"""

from datetime import UTC, datetime

from pipeline.digests import canonical_json
from pipeline.errors import ReleaseErased
from pipeline.registry.history import append
from pipeline.registry.release import checked_id
from pipeline.registry.store import Store


def erase(store: Store, release: str, by: str, reason: str) -> bool:
    """See Registry.erase."""
    # The history first: a tombstone that nobody can explain would be worse than an entry too many.
    if is_erased(store, release):
        return False
    append(store, "erased", release, by, reason)
    stone = {"release": release, "by": by, "reason": reason, "at": datetime.now(UTC).isoformat()}
    return store.put(_key(store, release), canonical_json(stone).encode(), IfNoneMatch="*") is not None


def is_erased(store: Store, release: str) -> bool:
    """Whether ``release`` has a tombstone, whatever that says."""
    return store.get(_key(store, release)) is not None


def refuse_erased(store: Store, release: str) -> None:
    """Raise ReleaseErased where ``release`` has a tombstone."""
    if is_erased(store, release):
        raise ReleaseErased(
            f"release {release} was withdrawn, since data it was made from had to be erased: "
            "use one that was made after that, see moelora releases"
        )


def _key(store: Store, release: str) -> str:
    return store.key("tombstones", f"{checked_id(release)}.json")
