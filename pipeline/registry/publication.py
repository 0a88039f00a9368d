"""Publishing: files first, the manifest last and only if absent."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.digests import canonical_json
from pipeline.errors import ReleaseCorrupt
from pipeline.registry.history import append, has_entry
from pipeline.registry.manifest import MANIFEST, Manifest, manifest_of
from pipeline.registry.meter import Meter, Tell
from pipeline.registry.release import list_objects, object_key, read_manifest
from pipeline.registry.removal import refuse_removed
from pipeline.registry.reuse import copy, find_places
from pipeline.registry.store import Store, in_parallel
from pipeline.registry.tombstone import refuse_erased
from pipeline.registry.trust import put_signature, signature_to_send
from pipeline.registry.upload import Source, is_there, scan, upload


@dataclass(frozen=True)
class Receipt:
    """What a publication did; ``already`` where the release had been there before."""

    release: str
    files: int
    bytes: int
    already: bool
    uploaded: int  # files sent by this call
    copied: int  # files copied by this call from earlier releases, inside S3


def publish(store: Store, folder: Path, facts: dict[str, Any], tell: Tell | None = None) -> Receipt:
    """See Registry.publish."""
    sources = scan(folder)
    manifest = manifest_of([source.file for source in sources])
    release, size = manifest["release"], sum(file["size"] for file in manifest["files"])
    refuse_erased(store, release)
    signature = signature_to_send(folder, manifest)
    meter = Meter(size, tell)
    # Not trusted by presence of the manifest alone: what is lost or cut short is sent again.
    absent = _absent(store, release, sources, meter)
    to_send = _copy_known(store, release, absent, meter)
    upload(store, release, to_send, meter)
    put_signature(store, manifest, signature)
    refuse_removed(store, release)
    # Again, since it may have been withdrawn while its files were sent.
    refuse_erased(store, release)
    data = canonical_json(manifest).encode()
    already = store.put(object_key(store, release, MANIFEST), data, IfNoneMatch="*") is None
    if already and read_manifest(store, release) != manifest:
        raise ReleaseCorrupt(f"release {release} is published with another manifest: moelora verify")
    _complete(store, release, sources, manifest, signature)
    if not (already and has_entry(store, "published", release)):
        append(store, "published", release, **facts)
    return Receipt(release, len(sources), size, already, len(to_send), len(absent) - len(to_send))


def _complete(
    store: Store, release: str, sources: list[Source], manifest: Manifest, signature: bytes | None
) -> None:
    """Send again what a prune removed between our looking for it and our manifest."""
    refuse_removed(store, release)
    sizes = list_objects(store, release)
    lost = [source for source in sources if sizes.get(source.file["path"]) != source.file["size"]]
    if lost:
        upload(store, release, lost, Meter(0, None))
        put_signature(store, manifest, signature)


def _absent(store: Store, release: str, sources: list[Source], meter: Meter) -> list[Source]:
    """The files that the registry does not hold yet."""
    sizes = list_objects(store, release)
    there = [source for source in sources if sizes.get(source.file["path"]) == source.file["size"]]
    same = in_parallel(lambda source: is_there(store, release, source.file), there)
    known = {source.file["path"] for source, holds in same if holds}
    for source in there:
        if source.file["path"] in known:
            meter.add(source.file["size"])
    return [source for source in sources if source.file["path"] not in known]


def _copy_known(store: Store, release: str, absent: list[Source], meter: Meter) -> list[Source]:
    """Copy what earlier releases hold; the files that are left to send."""
    places = find_places(store, release) if absent else {}

    def copied(source: Source) -> bool:
        place = places.get(source.file["sha256"])
        if place is None or not copy(store, release, source.file, place):
            return False
        meter.add(source.file["size"])
        return True

    return [source for source, done in in_parallel(copied, absent) if not done]
