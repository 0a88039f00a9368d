"""Reading releases: every byte is compared with the manifest before anybody gets it."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.errors import RegistryError, ReleaseCorrupt, ReleaseNotFound, ReleaseUntrusted
from pipeline.registry.client import ATTEMPTS, status
from pipeline.registry.folder import pulled, verify_folder
from pipeline.registry.manifest import ABOUT_THE_FILES, MANIFEST, SIGNATURE, File, parse_manifest
from pipeline.registry.meter import Meter, Tell
from pipeline.registry.partial import Partial, partial_folder
from pipeline.registry.release import list_objects, manifest_bytes, object_key, read_manifest
from pipeline.registry.store import Store, in_parallel
from pipeline.registry.tombstone import refuse_erased
from pipeline.registry.trust import check_signature, trusted_manifest

BLOCK = 1 << 20  # bytes read at once
WHOLE = 64 << 20  # bytes of a file that is read into memory, at most
PART = 8 << 20  # bytes asked for at once by pull


def read(store: Store, release: str, path: str) -> bytes:
    """See Registry.read."""
    for file in trusted_manifest(store, release)["files"]:
        if file["path"] == path:
            if file["size"] > WHOLE:
                raise ReleaseCorrupt(f"release {release}: {path} has more than {WHOLE} bytes")
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
        if store.lacks(key, error):
            raise ReleaseNotFound(f"release {release} has no file {path}") from None
        raise
    data: bytes = answer["Body"].read()
    return data


def pull(
    store: Store,
    release: str,
    folder: Path | None,
    tell: Tell | None = None,
    manifest_sha256: str | None = None,
) -> Path:
    """See Registry.pull."""
    target = pulled(release) if folder is None else folder
    if not target.name or (target.exists() and not target.is_dir()):
        raise RegistryError(f"{target} is no new or empty folder: name one")
    try:
        refuse_erased(store, release)
    except BotoCoreError:
        # What lies here already needs no server.
        if not target.is_dir():
            raise
    if _is_here(target, release, replaceable=folder is None):
        _check_promoted(release, (target / MANIFEST).read_bytes(), manifest_sha256)
        return target
    about = {MANIFEST: manifest_bytes(store, release)}
    _check_promoted(release, about[MANIFEST], manifest_sha256)
    manifest = parse_manifest(about[MANIFEST], release)
    if (signature := check_signature(store, release, manifest)) is not None:
        about[SIGNATURE] = signature
    with partial_folder(target, release) as temporary:
        if _is_here(target, release, replaceable=folder is None):
            return target
        partial = Partial(temporary)
        _check_sizes(store, release, manifest["files"])
        _fetch(store, release, manifest["files"], partial, tell)
        for name, data in about.items():
            (partial.files / name).write_bytes(data)
        if target.exists():
            shutil.rmtree(target)
        partial.files.rename(target)
    return target


def _check_promoted(release: str, manifest: bytes, promoted: str | None) -> None:
    """Raise ReleaseCorrupt unless this is the manifest that a channel was moved to: an id of 16 digits
    alone could be met by other files of somebody who may publish."""
    if promoted is not None and hashlib.sha256(manifest).hexdigest() != promoted:
        raise ReleaseCorrupt(f"release {release}: its {MANIFEST} is not the one that was promoted")


def _check_sizes(store: Store, release: str, files: list[File]) -> None:
    """Raise ReleaseCorrupt unless S3 lists each file with the size that the manifest claims: no room is
    made here for what is not there."""
    sizes = list_objects(store, release)
    problems = [
        f"missing file {file['path']}"
        if file["path"] not in sizes
        else f"changed file {file['path']}: {sizes[file['path']]} bytes instead of {file['size']}"
        for file in files
        if sizes.get(file["path"]) != file["size"]
    ]
    if problems:
        raise ReleaseCorrupt(f"release {release}: {'; '.join(problems)}")


def _is_here(target: Path, release: str, replaceable: bool) -> bool:
    """Whether a release lies in ``target``. Raises RegistryError where something else does."""
    try:
        verify_folder(target, release)
    except ReleaseNotFound:
        return False
    except ReleaseCorrupt as error:
        if not replaceable and any(target.iterdir()):
            if isinstance(error, ReleaseUntrusted):
                raise
            text = f"{target} holds something else than release {release}: name an empty folder"
            raise RegistryError(text) from None
        return False
    return True


def _fetch(store: Store, release: str, files: list[File], partial: Partial, tell: Tell | None) -> None:
    """Bring all files to ``partial``. Raises ReleaseCorrupt, which names those at fault."""
    meter = Meter(sum(file["size"] for file in files), tell)
    problems = _fetch_parts(store, release, files, partial, meter)

    def is_wrong(file: File) -> bool:
        return not partial.is_whole(file["path"], file["size"], file["sha256"])

    sound = [file for file in files if file["path"] not in problems]
    wrong = [file for file, each in in_parallel(is_wrong, sound) if each]
    # What a crash of this machine left half written is fetched anew; what came now is as S3 has it.
    again = [file for file in wrong if partial.forget(file["path"])]
    problems |= _fetch_parts(store, release, again, partial, Meter(0, None))
    for file in wrong:
        if file["path"] not in problems and is_wrong(file):
            problems[file["path"]] = f"changed file {file['path']}: its SHA-256 is another"
    for path in problems:
        partial.forget(path)
    if problems:
        raise ReleaseCorrupt(f"release {release}: {'; '.join(problems[path] for path in sorted(problems))}")


def _fetch_parts(
    store: Store, release: str, files: list[File], partial: Partial, meter: Meter
) -> dict[str, str]:
    """Bring the parts that are not here yet; what is wrong, by path."""
    parts = [(file, start) for file in files for start in range(0, max(1, file["size"]), PART)]

    def fetch(part: tuple[File, int]) -> str | None:
        file, start = part
        length = min(PART, file["size"] - start)
        if not partial.holds(file["path"], start):
            data = _get_part(store, release, file, start, length)
            if isinstance(data, str):
                return data
            partial.write(file["path"], start, data)
        meter.add(length)
        return None

    return {file["path"]: text for (file, _), text in in_parallel(fetch, parts) if text}


def _get_part(store: Store, release: str, file: File, start: int, length: int) -> bytes | str:
    """Bytes of a file from ``start``, or what is wrong with it."""
    wanted = {"Range": f"bytes={start}-{start + length - 1}"} if length else {}
    key = object_key(store, release, file["path"])
    for attempt in range(1, ATTEMPTS + 1):
        try:
            answer = store.client.get_object(Bucket=store.bucket, Key=key, **wanted)
            ranged = answer.get("ContentRange")
            size = int(ranged.rpartition("/")[2]) if ranged else answer["ContentLength"]
            if size != file["size"]:
                answer["Body"].close()
                return f"changed file {file['path']}: {size} bytes instead of {file['size']}"
            data: bytes = answer["Body"].read()
            return data
        except ClientError as error:
            if store.lacks(key, error):
                return f"missing file {file['path']}"
            if status(error) == 416:
                return f"changed file {file['path']}: fewer than {file['size']} bytes"
            raise
        except BotoCoreError:
            if attempt == ATTEMPTS:
                raise
    raise AssertionError("unreachable")


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
    checked = in_parallel(lambda file: check_object(store, release, file), manifest["files"])
    problems = trust + [text for _, text in checked if text]
    return problems + [f"extra file {path}" for path in extra if path not in ABOUT_THE_FILES]


def verify_sizes(store: Store, release: str, manifest_sha256: str) -> list[str]:
    """What is wrong with a release that was verified before, as far as its signature and a list of it
    show: for a rollback, which may not wait for every byte.

    Raises ReleaseNotFound, ReleaseErased, ReleaseUntrusted.
    """
    refuse_erased(store, release)
    data = manifest_bytes(store, release)
    if hashlib.sha256(data).hexdigest() != manifest_sha256:
        return [f"its {MANIFEST} is not the one that was promoted"]
    manifest = parse_manifest(data, release)
    check_signature(store, release, manifest)
    sizes, files = list_objects(store, release), manifest["files"]
    extra = sorted(sizes.keys() - {file["path"] for file in files} - set(ABOUT_THE_FILES))
    return (
        [f"missing file {file['path']}" for file in files if file["path"] not in sizes]
        + [f"changed file {f['path']}" for f in files if sizes.get(f["path"], f["size"]) != f["size"]]
        + [f"extra file {path}" for path in extra]
    )


def check_object(store: Store, release: str, file: File) -> str | None:
    """What is wrong with a file of a release, every byte of it read, or None."""
    return _stream(store, release, file, lambda _block: None, lambda: None)


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
            if store.lacks(key, error):
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
