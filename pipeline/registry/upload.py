"""Sending files: large ones in parts, several at once, each with a sum that S3 compares.

A file is read twice: once for its digest and the sums of its parts, and again as it is sent. S3
refuses bytes that do not give those sums, so that what lies there is what was digested.
"""

import base64
import contextlib
import hashlib
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.errors import ReleaseCorrupt
from pipeline.registry.client import CONNECTIONS, status
from pipeline.registry.download import check_object
from pipeline.registry.manifest import ABOUT_THE_FILES, File
from pipeline.registry.meter import Meter
from pipeline.registry.release import object_key
from pipeline.registry.store import Store, in_parallel

PART = 8 << 20  # bytes; larger files travel in parts of this size
MOST_PARTS = 10_000  # of an object, by S3's rules
BLOCK = 1 << 20  # bytes read at once

COPIED = "copied"
"""Label of an object that was copied inside S3: its other labels are its publisher's word alone."""

_REFUSED = ("BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "InvalidChecksum", "IncompleteBody")


@dataclass(frozen=True)
class Source:
    """A file to publish: its place on this disk, and the sums of its parts as CRC-32 in base64."""

    file: File
    local: Path
    part: int  # bytes of each part but the last
    sums: tuple[str, ...]


def scan(folder: Path) -> list[Source]:
    """The files of a release in ``folder``, read and digested, sorted by path."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    wanted = [(path, local) for path, local in sorted(found.items()) if path not in ABOUT_THE_FILES]
    return [source for _, source in in_parallel(_digested, wanted)]


def _digested(item: tuple[str, Path]) -> Source:
    path, local = item
    part = max(PART, -(-local.stat().st_size // MOST_PARTS))
    part += -part % BLOCK
    digest, size, sums, crc = hashlib.sha256(), 0, [], 0
    with local.open("rb") as opened:
        while block := opened.read(BLOCK):
            if size and size % part == 0:
                sums.append(_base64(crc.to_bytes(4)))
                crc = 0
            digest.update(block)
            crc = zlib.crc32(block, crc)
            size += len(block)
    sums.append(_base64(crc.to_bytes(4)))
    file: File = {"path": path, "size": size, "sha256": digest.hexdigest()}
    return Source(file, local, part, tuple(sums))


def upload(store: Store, release: str, sources: list[Source], meter: Meter) -> None:
    """Send files to where they belong in a release.

    Raises ReleaseCorrupt where a file is not what it was when it was scanned. What was begun in
    parts and not finished is withdrawn, unless the process is killed.
    """
    begun: list[tuple[Source, str]] = []
    try:
        for source in sources:
            if len(source.sums) > 1:
                begun.append((source, _begin(store, release, source)))
        _send(store, release, sources, begun, meter)
    except BaseException as error:
        for source, upload_id in begun:
            _abort(store, release, source, upload_id)
        if isinstance(error, ClientError) and error.response["Error"].get("Code") in _REFUSED:
            raise _changed(release) from error
        raise


def _send(
    store: Store, release: str, sources: list[Source], begun: list[tuple[Source, str]], meter: Meter
) -> None:
    """All parts of all files through one pool, so that neither many files nor a large one wait."""
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        try:
            small = [
                pool.submit(_put, store, release, source, meter)
                for source in sources
                if len(source.sums) == 1
            ]
            parts = [
                [
                    pool.submit(_put_part, store, release, source, upload_id, number, meter)
                    for number in range(1, len(source.sums) + 1)
                ]
                for source, upload_id in begun
            ]
            for done in small:
                done.result()
            for (source, upload_id), waiting in zip(begun, parts, strict=True):
                _complete(store, release, source, upload_id, [part.result() for part in waiting])
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _put(store: Store, release: str, source: Source, meter: Meter) -> None:
    data = _read(release, source, 1)
    store.client.put_object(
        Bucket=store.bucket,
        Key=object_key(store, release, source.file["path"]),
        Body=data,
        Metadata={"sha256": source.file["sha256"]},
        ChecksumSHA256=_base64(bytes.fromhex(source.file["sha256"])),
    )
    meter.add(len(data))


def _begin(store: Store, release: str, source: Source) -> str:
    answer = store.client.create_multipart_upload(
        Bucket=store.bucket,
        Key=object_key(store, release, source.file["path"]),
        Metadata={"sha256": source.file["sha256"]},
        ChecksumAlgorithm="CRC32",
    )
    return str(answer["UploadId"])


def _put_part(
    store: Store, release: str, source: Source, upload_id: str, number: int, meter: Meter
) -> dict[str, Any]:
    data = _read(release, source, number)
    answer = store.client.upload_part(
        Bucket=store.bucket,
        Key=object_key(store, release, source.file["path"]),
        UploadId=upload_id,
        PartNumber=number,
        Body=data,
        ChecksumCRC32=source.sums[number - 1],
    )
    meter.add(len(data))
    return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC32": source.sums[number - 1]}


def _complete(
    store: Store, release: str, source: Source, upload_id: str, parts: list[dict[str, Any]]
) -> None:
    try:
        store.client.complete_multipart_upload(
            Bucket=store.bucket,
            Key=object_key(store, release, source.file["path"]),
            UploadId=upload_id,
            MultipartUpload={"Parts": parts},
        )
    except ClientError as error:
        # Where the answer to a first try was lost, the repeat finds the upload gone and the object there.
        if status(error) != 404 or not is_there(store, release, source.file):
            raise


def _abort(store: Store, release: str, source: Source, upload_id: str) -> None:
    """Withdraw an upload as far as S3 lets us now; the error that led here is the one to tell."""
    key = object_key(store, release, source.file["path"])
    with contextlib.suppress(BotoCoreError, ClientError):
        store.client.abort_multipart_upload(Bucket=store.bucket, Key=key, UploadId=upload_id)


def _read(release: str, source: Source, number: int) -> bytes:
    """Part ``number`` of a file, from 1."""
    start = (number - 1) * source.part
    length = min(source.part, source.file["size"] - start)
    with source.local.open("rb") as opened:
        opened.seek(start)
        data = opened.read(length)
    if len(data) != length:
        raise _changed(release)
    return data


def is_there(store: Store, release: str, file: File) -> bool:
    """Whether an object of a release holds this file, as S3 was told when it took it."""
    key = object_key(store, release, file["path"])
    try:
        head = store.client.head_object(Bucket=store.bucket, Key=key, ChecksumMode="ENABLED")
    except ClientError as error:
        if status(error) == 404 or store.lacks(key, error):
            return False
        raise
    if head["ContentLength"] != file["size"] or head["Metadata"].get("sha256") != file["sha256"]:
        return False
    if COPIED not in head["Metadata"] or head.get("ChecksumSHA256") == _base64(bytes.fromhex(file["sha256"])):
        return True
    # Labelled before anybody compared it: its publisher may have been killed in between.
    return check_object(store, release, file) is None


def _changed(release: str) -> ReleaseCorrupt:
    return ReleaseCorrupt(f"the files of release {release} changed while they were published: publish again")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
