"""Unchanged files of earlier releases, copied inside S3 instead of sent again."""

import base64

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.errors import ReleaseCorrupt, ReleaseNotFound
from pipeline.registry.download import check_object
from pipeline.registry.manifest import File
from pipeline.registry.release import list_releases, object_key, read_manifest
from pipeline.registry.store import Store, in_parallel
from pipeline.registry.upload import COPIED

LOOK_BACK = 3  # newest releases whose files may be copied
LARGEST = 5 << 30  # bytes; S3 copies no larger object in one request

Place = tuple[str, str]
"""A release and the path of a file in it."""


def find_places(store: Store, release: str) -> dict[str, Place]:
    """Where the newest releases other than ``release`` hold files, by the file's SHA-256."""
    newest = [each.id for each in list_releases(store) if each.id != release][-LOOK_BACK:]

    def files(earlier: str) -> list[File]:
        try:
            return read_manifest(store, earlier)["files"]
        except (ReleaseCorrupt, ReleaseNotFound):
            return []

    return {
        file["sha256"]: (earlier, file["path"])
        for earlier, found in in_parallel(files, newest)
        for file in found
        if file["size"] <= LARGEST
    }


def copy(store: Store, release: str, file: File, place: Place) -> bool:
    """Copy a file of an earlier release; False where that is gone or is not what its manifest says."""
    try:
        answer = store.client.copy_object(
            Bucket=store.bucket,
            Key=object_key(store, release, file["path"]),
            CopySource={"Bucket": store.bucket, "Key": object_key(store, *place)},
            Metadata={"sha256": file["sha256"], COPIED: "1"},
            MetadataDirective="REPLACE",
            ChecksumAlgorithm="SHA256",
        )
    except (BotoCoreError, ClientError):  # a shortcut: the file itself is at hand
        return False
    told = answer["CopyObjectResult"].get("ChecksumSHA256")
    if told is not None:
        return bool(told == base64.b64encode(bytes.fromhex(file["sha256"])).decode())
    # A server that tells no sum is not taken at its word.
    return check_object(store, release, file) is None
