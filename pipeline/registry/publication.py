"""Publishing: files first, the manifest last and only if absent."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3transfer.manager import TransferConfig, TransferManager

from pipeline.digests import canonical_json
from pipeline.errors import ReleaseCorrupt
from pipeline.registry.client import CONNECTIONS
from pipeline.registry.history import append, has_entry
from pipeline.registry.manifest import MANIFEST, File, list_files, manifest_of
from pipeline.registry.release import list_objects, object_key, read_manifest
from pipeline.registry.store import Store, in_parallel
from pipeline.registry.tombstone import refuse_erased
from pipeline.registry.trust import put_signature, signature_to_send

PART = 8 << 20  # bytes; larger files travel in parts of this size


@dataclass(frozen=True)
class Receipt:
    """What a publication did; ``already`` where the release had been there before."""

    release: str
    files: int
    bytes: int
    already: bool
    uploaded: int  # files sent by this call


def publish(store: Store, folder: Path, facts: dict[str, Any]) -> Receipt:
    """See Registry.publish."""
    files = list_files(folder)
    manifest = manifest_of(folder, files)
    release = manifest["release"]
    refuse_erased(store, release)
    signature = signature_to_send(folder, manifest)
    # Not trusted by presence of the manifest alone: what is lost or cut short is sent again.
    there = list_objects(store, release)
    wanted = [file for file in manifest["files"] if there.get(file["path"]) == file["size"]]
    known = {file["path"] for file, same in in_parallel(_is_same(store, release), wanted) if same}
    absent = [file for file in manifest["files"] if file["path"] not in known]
    upload(store, folder, release, absent)
    if list_files(folder) != files:
        raise ReleaseCorrupt(f"the files of release {release} changed while they were published")
    put_signature(store, manifest, signature)
    data = canonical_json(manifest).encode()
    already = store.put(object_key(store, release, MANIFEST), data, IfNoneMatch="*") is None
    if already and read_manifest(store, release) != manifest:
        raise ReleaseCorrupt(f"release {release} is published with another manifest: moelora verify")
    if not (already and has_entry(store, "published", release)):
        append(store, "published", release, **facts)
    size = sum(file["size"] for file in manifest["files"])
    return Receipt(release, len(files), size, already, len(absent))


def upload(store: Store, folder: Path, release: str, files: list[File]) -> None:
    """Send ``files`` of ``folder``, large ones in parts, each with sums that S3 checks."""
    config = TransferConfig(
        multipart_threshold=PART, multipart_chunksize=PART, max_request_concurrency=CONNECTIONS
    )
    with TransferManager(store.client, config) as transfers:
        futures = [
            transfers.upload(
                str(folder / file["path"]),
                store.bucket,
                object_key(store, release, file["path"]),
                extra_args={"Metadata": {"sha256": file["sha256"]}, **_upload_checksum(file)},
            )
            for file in files
        ]
        for future in futures:
            future.result()


def _is_same(store: Store, release: str) -> Callable[[File], bool]:
    def same(file: File) -> bool:
        head = store.client.head_object(Bucket=store.bucket, Key=object_key(store, release, file["path"]))
        return bool(head["Metadata"].get("sha256") == file["sha256"])

    return same


def _upload_checksum(file: File) -> dict[str, str]:
    """Make S3 refuse bytes other than the listed ones; of parts it knows only their own sums."""
    if file["size"] >= PART:
        return {"ChecksumAlgorithm": "SHA256"}
    return {"ChecksumSHA256": base64.b64encode(bytes.fromhex(file["sha256"])).decode()}
