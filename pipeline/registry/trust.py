"""Whether a release may be used: not withdrawn, and signed where this repository trusts a key."""

from pathlib import Path

from pipeline import signing
from pipeline.registry.manifest import SIGNATURE, Manifest, digests
from pipeline.registry.release import object_key, read_manifest
from pipeline.registry.store import Store
from pipeline.registry.tombstone import refuse_erased


def trusted_manifest(store: Store, release: str) -> Manifest:
    """The manifest of a release that may be used.

    Raises ReleaseNotFound, ReleaseErased, ReleaseUntrusted, ReleaseCorrupt.
    """
    refuse_erased(store, release)
    manifest = read_manifest(store, release)
    check_signature(store, release, manifest)
    return manifest


def check_signature(store: Store, release: str, manifest: Manifest) -> bytes | None:
    """The signature of a release as it lies in the registry. Raises ReleaseUntrusted."""
    signature = store.get(object_key(store, release, SIGNATURE))
    signing.check(release, digests(manifest), signature)
    return signature


def signature_to_send(folder: Path, manifest: Manifest) -> bytes | None:
    """The signature in a folder that is to be published. Raises ReleaseUntrusted."""
    path = folder / SIGNATURE
    signature = path.read_bytes() if path.is_file() else None
    signing.check(manifest["release"], digests(manifest), signature)
    return signature


def put_signature(store: Store, manifest: Manifest, signature: bytes | None) -> None:
    """Store a signature, before the manifest; one that is there and does stays, readers may hold it."""
    release = manifest["release"]
    key = object_key(store, release, SIGNATURE)
    there = store.get(key)
    if signature is not None and not (there and signing.accepts(release, digests(manifest), there)):
        store.put(key, signature)
