"""Reading releases: every byte is compared with the manifest before anybody gets it."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.errors import RegistryError, ReleaseCorrupt, ReleaseNotFound, ReleaseUntrusted
from pipeline.files import new_folder
from pipeline.registry.client import ATTEMPTS, is_absent
from pipeline.registry.folder import pulled, verify_folder
from pipeline.registry.manifest import ABOUT_THE_FILES, MANIFEST, SIGNATURE, File, parse_manifest
from pipeline.registry.release import list_objects, manifest_bytes, object_key, read_manifest
from pipeline.registry.store import Store, in_parallel
from pipeline.registry.tombstone import refuse_erased
from pipeline.registry.trust import check_signature, trusted_manifest

BLOCK = 1 << 20  # bytes read at once


def read(store: Store, release: str, path: str) -> bytes:
    """See Registry.read."""
    for file in trusted_manifest(store, release)["files"]:
        if file["path"] == path:
            parts: list[bytes] = []
            problem = _stream(store, release, file, parts.append, parts.clear)
            if problem is not None:
                raise ReleaseCorrupt(f"release {release}: {problem}")
            return b"".join(parts)
    raise ReleaseNotFound(f"release {release} has no file {path}")


def read_start(store: Store, release: str, path: str, count: int) -> bytes:
    """See Registry.read_start."""
    key = object_key(store, release, path)
    try:
        answer = store.client.get_object(Bucket=store.bucket, Key=key, Range=f"bytes=0-{count - 1}")
    except ClientError as error:
        if is_absent(error):
            raise ReleaseNotFound(f"release {release} has no file {path}") from None
        raise
    data: bytes = answer["Body"].read()
    return data


def pull(store: Store, release: str, folder: Path | None) -> Path:
    """See Registry.pull."""
    target = pulled(release) if folder is None else folder
    try:
        refuse_erased(store, release)
    except BotoCoreError:
        if not target.is_dir():
            raise
    # What lies here already needs no server.
    try:
        verify_folder(target, release)
        return target
    except ReleaseNotFound:
        pass
    except ReleaseCorrupt as error:
        if folder is not None and any(folder.iterdir()):
            if isinstance(error, ReleaseUntrusted):
                raise
            text = f"{folder} holds something else than release {release}: name an empty folder"
            raise RegistryError(text) from None
    about = {MANIFEST: manifest_bytes(store, release)}
    manifest = parse_manifest(about[MANIFEST], release)
    if (signature := check_signature(store, release, manifest)) is not None:
        about[SIGNATURE] = signature
    with new_folder(target) as temporary:
        for name, data in about.items():
            (temporary / name).write_bytes(data)

        def fetch(file: File) -> str | None:
            path = temporary / file["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as output:

                def restart() -> None:
                    output.seek(0)
                    output.truncate()

                return _stream(store, release, file, output.write, restart)

        problems = [text for _, text in in_parallel(fetch, manifest["files"]) if text]
        if problems:
            raise ReleaseCorrupt(f"release {release}: {'; '.join(problems)}")
        verify_folder(temporary, release)
    return target


def verify(store: Store, release: str) -> list[str]:
    """See Registry.verify."""
    refuse_erased(store, release)
    try:
        manifest = read_manifest(store, release)
    except ReleaseCorrupt as error:
        return [str(error)]
    try:
        check_signature(store, release, manifest)
        trust = []
    except ReleaseUntrusted as error:
        trust = [str(error)]
    extra = sorted(set(list_objects(store, release)) - {file["path"] for file in manifest["files"]})

    def check(file: File) -> str | None:
        return _stream(store, release, file, lambda _block: None, lambda: None)

    problems = trust + [text for _, text in in_parallel(check, manifest["files"]) if text]
    return problems + [f"extra file {path}" for path in extra if path not in ABOUT_THE_FILES]


def _stream(
    store: Store,
    release: str,
    file: File,
    write: Callable[[bytes], object],
    restart: Callable[[], None],
) -> str | None:
    """Hand a file's bytes to ``write``; what is wrong with them, or None.

    ``restart`` takes back what was written when a download breaks off.
    """
    key = object_key(store, release, file["path"])
    for attempt in range(1, ATTEMPTS + 1):
        try:
            body = store.client.get_object(Bucket=store.bucket, Key=key)["Body"]
        except ClientError as error:
            if is_absent(error):
                return f"missing file {file['path']}"
            raise
        digest, size = hashlib.sha256(), 0
        try:
            with body:
                while block := body.read(BLOCK):
                    size += len(block)
                    if size > file["size"]:
                        return f"changed file {file['path']}: longer than {file['size']} bytes"
                    digest.update(block)
                    write(block)
        except BotoCoreError:
            if attempt == ATTEMPTS:
                raise
            restart()
            continue
        if size != file["size"]:
            return f"changed file {file['path']}: {size} bytes instead of {file['size']}"
        if digest.hexdigest() != file["sha256"]:
            return f"changed file {file['path']}: its SHA-256 is another"
        return None
    raise AssertionError("unreachable")
