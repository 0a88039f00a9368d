"""From a release back to what it was made of: git commit, DVC's stages, shards, parameters, base.

What is stable is in the release's own lineage.json; who, when and which git commit are in the
registry's history, since two clones may make the same release.

>>> trace(registry, "0123456789abcdef")["commit"]["git_commit"]
"""

import json
from typing import Any

from pipeline.errors import ReleaseCorrupt
from pipeline.registry import Registry

LINEAGE = "lineage.json"


def trace(registry: Registry, release: str) -> dict[str, Any]:
    """All that is known of where a release came from, JSON-able.

    ``release, commit`` (see ``commit``), ``history`` (its entries), ``stages`` (dvc.lock's entries of
    ingest to gate), ``inputs`` (the first 16 hex digits of the SHA-256 of every input file),
    ``params, key_id, base`` {model, revision, digest}, ``packages`` {name: version}.

    Raises what ``Registry.read`` does; ReleaseCorrupt where lineage.json is no lineage.
    """
    try:
        lineage: dict[str, Any] = json.loads(registry.read(release, LINEAGE))
        facts = {name: lineage[name] for name in ("stages", "inputs", "params", "key_id", "base", "packages")}
    except (ValueError, KeyError, TypeError):
        raise ReleaseCorrupt(f"release {release}: {LINEAGE} lacks a field that every lineage has") from None
    entries = [entry for entry in registry.history() if entry["release"] == release]
    return {"release": release, "commit": commit(entries), "history": entries, **facts}


def commit(entries: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Of a release's history, the entry whose ``git_commit`` holds its code and its results.

    ``candidate`` names the commit made of the results, with its ``branch``; ``published`` the one that
    was checked out meanwhile, whose dvc.lock may be an older one.
    """
    for event in ("candidate", "published"):
        for entry in entries:
            if entry["event"] == event and entry.get("git_commit"):
                return {key: entry.get(key) for key in ("event", "git_commit", "branch", "by", "at")}
    return None
