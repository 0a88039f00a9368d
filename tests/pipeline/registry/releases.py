"""Small releases, and hands that reach behind the registry's back."""

import json
from pathlib import Path
from typing import Any

from pipeline import registry
from pipeline.digests import listing_digest
from pipeline.registry import Registry

BIG = registry.PART + 12_345  # bytes: travels in two parts
FACTS = {"by": "Ann", "reason": "a test"}
FILES = {
    "README.md": b"card\n",
    "tasks/a/adapter_config.json": b"{}",
    "moelora/adapter.safetensors": b"weights",
}


def folder_of(path: Path, files: dict[str, bytes] = FILES) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def put(store: Registry, key: str, data: bytes) -> None:
    """Write an object behind the registry's back."""
    store.store.client.put_object(Bucket=store.store.bucket, Key=f"{store.store.prefix}/{key}", Body=data)


def remove(store: Registry, key: str) -> None:
    store.store.client.delete_object(Bucket=store.store.bucket, Key=f"{store.store.prefix}/{key}")


def put_manifest(store: Registry, files: list[dict[str, Any]], changes: dict[str, Any] | None = None) -> str:
    """A manifest by an attacker who makes the id fit the digests."""
    release = listing_digest({file["path"]: file["sha256"] for file in files})[:16]
    manifest = {"release": release, "files": files} | (changes or {})
    put(store, f"releases/{release}/manifest.json", json.dumps(manifest).encode())
    return release
