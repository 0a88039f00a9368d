"""Releases and channels in S3: the only module that speaks to it.

    s3://BUCKET/PREFIX/releases/<id>/…files…
                                  /manifest.json   path, size and SHA-256 of each file; written last,
                                                   If-None-Match: * : its presence IS the release
    s3://BUCKET/PREFIX/channels/<name>.json        the release a channel points at; moved by If-Match
    s3://BUCKET/PREFIX/history/<time>-<random>.json    append-only

    id = first 16 hex digits of the SHA-256 over the sorted ``sha256  path`` lines of the files

A reader never sees a release without its manifest, and every byte it gets has been compared with
the manifest, whose list must itself give the release's id.

``publish.registry`` alone decides which S3 it is: ``local`` is this checkout's server, by the file
that flows.local_s3 leaves in scratch/services; ``s3://BUCKET/PREFIX`` is found by boto3's standard
configuration (AWS_ENDPOINT_URL, profiles, roles) and by nothing else.

>>> registry = Registry.open("s3://my-bucket/registry")
>>> registry.pull(registry.channel("champion").release)
"""

import base64
import functools
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ParamSpec, TypedDict, TypeVar
from urllib.parse import urlsplit

import botocore.session
from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from s3transfer.manager import TransferConfig, TransferManager

from pipeline import paths
from pipeline.digests import canonical_json, listing, listing_digest
from pipeline.errors import (
    ParamsError,
    PointerMoved,
    RegistryError,
    RegistryUnavailable,
    ReleaseCorrupt,
    ReleaseNotFound,
)
from pipeline.files import new_folder

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
ABOUT_THE_FILES = (MANIFEST, SIGNATURE)
"""Objects of a release that describe its files and are none of them."""

LOCAL_CONFIG = paths.SERVICES / "aws_config"
"""AWS config file of the local S3 server: endpoint and keys."""

LOCAL = "local"
"""Value of ``publish.registry`` that names the local S3 server."""

LOCAL_BUCKET = "moelora"
LOCAL_URL = f"s3://{LOCAL_BUCKET}/registry"

BLOCK = 1 << 20  # bytes read at once
PART = 8 << 20  # bytes; larger files travel in parts of this size
CONNECTIONS = 8
ATTEMPTS = 3  # of a request, and of a download that breaks off

_URL = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/([\w.-]+(?:/[\w.-]+)*)", re.ASCII)
_RELEASE = re.compile(r"[0-9a-f]{16}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHANNEL = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_POINTER = ("release", "manifest_sha256", "previous", "by", "reason", "at", "intention")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")

P = ParamSpec("P")
T = TypeVar("T")


class File(TypedDict):
    """A line of a manifest; ``size`` in bytes, ``sha256`` in hex, ``path`` relative and POSIX."""

    path: str
    size: int
    sha256: str


class Manifest(TypedDict):
    """What manifest.json holds; ``files`` sorted by path."""

    release: str
    files: list[File]


@dataclass(frozen=True)
class Receipt:
    """What a publication did; ``already`` where the release had been there before."""

    release: str
    files: int
    bytes: int
    already: bool
    uploaded: int  # files sent by this call


@dataclass(frozen=True)
class Release:
    """A whole release; ``published_at`` is S3's time of its manifest, ISO 8601 in UTC."""

    id: str
    published_at: str
    files: int
    bytes: int


@dataclass(frozen=True)
class Channel:
    """A named pointer at a release, as it was when read."""

    name: str
    release: str
    manifest_sha256: str
    previous: str | None  # the release it pointed at before
    by: str  # as claimed
    reason: str
    at: str  # ISO 8601, UTC, clock of whoever moved it
    intention: str  # id of the history entry written before the move
    etag: str  # S3's name of this version: the next move is conditional on it


def connect(config: Path | None = None, attempts: int = ATTEMPTS) -> Any:
    """An S3 client by boto3's standard chain, or by the [default] profile of ``config`` alone.

    Raises RegistryUnavailable where the configuration itself is broken.
    """
    try:
        session = botocore.session.Session()
        endpoint = None
        if config is not None:
            # An explicit profile keeps credentials of the environment out.
            session.set_config_variable("profile", "default")
            session.set_config_variable("config_file", str(config))
            session.set_config_variable("credentials_file", os.devnull)
            endpoint = session.get_scoped_config().get("endpoint_url")
        client = Session(botocore_session=session).client(
            "s3", endpoint_url=endpoint, config=_client_config(attempts, endpoint)
        )
    except BotoCoreError as error:
        raise RegistryUnavailable(f"The S3 configuration cannot be used: {error}. {_REMEDY}") from error
    return client


def _client_config(attempts: int, endpoint: str | None) -> Config:
    loopback = urlsplit(endpoint or "").hostname == "127.0.0.1"
    return Config(
        connect_timeout=3,
        read_timeout=30,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=2 * CONNECTIONS,
        # Downloads are compared with the manifest's SHA-256, which makes S3's own sums superfluous.
        response_checksum_validation="when_required",
        # A proxy set for the internet must not be asked for this machine's own server.
        proxies={} if loopback else None,
    )


_REMEDY = (
    "publish.registry in params.yaml decides: `local` is this checkout's server (`moelora services start`), "
    "s3://BUCKET/PREFIX is found by AWS_PROFILE or keys and AWS_ENDPOINT_URL; `moelora doctor` looks at it"
)


@contextmanager
def _as_registry_errors(address: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        code = error.response["Error"].get("Code", "")
        status = _status(error)
        if status in (401, 403) or code in ("InvalidAccessKeyId", "SignatureDoesNotMatch"):
            what = f"refuses {error.operation_name} ({code})"
        elif code == "NoSuchBucket":
            what = "has no such bucket; buckets are made by you, never by a run"
        elif status >= 500 or status == 429:
            what = f"cannot answer {error.operation_name} now ({code})"
        else:
            raise RegistryError(f"{address}: {error.operation_name} failed with {code}") from error
        raise RegistryUnavailable(f"S3 at {address} {what}. {_REMEDY}") from error
    except BotoCoreError as error:
        raise RegistryUnavailable(f"S3 at {address} cannot be reached: {error}. {_REMEDY}") from error


def _registry_errors(method: Callable[P, T]) -> Callable[P, T]:
    """Let nothing of botocore out of a method of Registry."""

    @functools.wraps(method)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        registry: Any = args[0]
        with _as_registry_errors(registry.address):
            return method(*args, **kwargs)

    return wrapped


def answers(config: Path) -> bool:
    """Whether the S3 server named by an AWS config file answers its keys."""
    try:
        connect(config, attempts=1).list_buckets()
    except (BotoCoreError, ClientError, RegistryUnavailable):
        return False
    return True


def prepare_bucket(config: Path, bucket: str) -> None:
    """Make a bucket where it is absent, and prove that objects can be stored in it: for the local
    server, which answers before its disks do; all other buckets are their owner's.

    Raises RegistryUnavailable.
    """
    client = connect(config, attempts=1)
    with _as_registry_errors(f"{client.meta.endpoint_url}/{bucket}"):
        if bucket not in {each["Name"] for each in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=bucket)
        client.put_object(Bucket=bucket, Key="probe", Body=b"probe")
        client.delete_object(Bucket=bucket, Key="probe")


def location(url: str) -> str:
    """``s3://BUCKET/PREFIX`` of a value of ``publish.registry``."""
    return LOCAL_URL if url == LOCAL else url


def is_release_id(name: str) -> bool:
    """Whether ``name`` has the form of a release's id."""
    return _RELEASE.fullmatch(name) is not None


def pulled(release: str) -> Path:
    """Where a release lies that was pulled without naming a folder."""
    return paths.cache_root() / "open" / "releases" / _checked_release(release)


def verify_folder(folder: Path, release: str) -> None:
    """Check that a pulled folder's files give the release's id: no file changed, missing or added.

    Raises ReleaseNotFound where there is no such folder; ReleaseCorrupt, which names the files
    where the folder still has its manifest.
    """
    _checked_release(release)
    if not folder.is_dir():
        raise ReleaseNotFound(f"release {release} is not here: moelora pull {release}")
    found = _listing(folder)
    if listing_digest(found)[:16] == release:
        return
    try:
        expected = _digests(_parse_manifest((folder / MANIFEST).read_bytes(), release))
        problems = _differences(expected, found)
    except (OSError, ReleaseCorrupt):
        problems = [f"its files give the id {listing_digest(found)[:16]}"]
    raise ReleaseCorrupt(f"release {release} on this disk: {'; '.join(problems)}: moelora pull {release}")


class Registry:
    """The releases, channels and history below one S3 prefix.

    Every method raises RegistryUnavailable where S3 does not answer, refuses access or has no
    such bucket, and RegistryError for any other answer it cannot use.
    """

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix
        self.address = f"{client.meta.endpoint_url}/{bucket}/{prefix}"

    @classmethod
    def open(cls, url: str) -> "Registry":
        """The registry at ``s3://BUCKET/PREFIX``, or the ``local`` one; asks nothing of the server yet.

        Raises ParamsError for another kind of url, RegistryUnavailable for a broken AWS
        configuration or a local server that never ran.
        """
        bucket, prefix = _parse(location(url))
        if url == LOCAL and not LOCAL_CONFIG.is_file():
            raise RegistryUnavailable("the local S3 server never ran here: moelora services start")
        return cls(connect(LOCAL_CONFIG if url == LOCAL else None), bucket, prefix)

    # Publishing ------------------------------------------------------------------------------

    @_registry_errors
    def publish(self, folder: Path, facts: dict[str, Any]) -> Receipt:
        """Publish the files below ``folder``, and say so in the history with ``facts``.

        ``facts`` holds ``by`` and ``reason``, and what else is true of this publication but not
        of the release. Files already there are not sent again; killed at any moment, the same
        call completes it. Of two publishers of the same files both succeed.

        Raises ReleaseCorrupt where a name is unsafe, the files change meanwhile, or the id is
        taken by another manifest.
        """
        files = _listing(folder)
        manifest = _manifest(folder, files)
        release = manifest["release"]
        # Not trusted by presence of the manifest alone: what is lost or cut short is sent again.
        there = self._objects(release)
        wanted = [file for file in manifest["files"] if there.get(file["path"]) == file["size"]]
        known = {file["path"] for file, same in self._in_parallel(self._is_same(release), wanted) if same}
        absent = [file for file in manifest["files"] if file["path"] not in known]
        self._upload(folder, release, absent)
        if _listing(folder) != files:
            raise ReleaseCorrupt(f"the files of release {release} changed while they were published")
        data = canonical_json(manifest).encode()
        already = self._put(self._release_key(release, MANIFEST), data, IfNoneMatch="*") is None
        if already and self.manifest(release) != manifest:
            raise ReleaseCorrupt(f"release {release} is published with another manifest: moelora verify")
        if not (already and self._has_history("published", release)):
            self.append_history("published", release, **facts)
        size = sum(file["size"] for file in manifest["files"])
        return Receipt(release, len(files), size, already, len(absent))

    def _upload(self, folder: Path, release: str, files: list[File]) -> None:
        config = TransferConfig(
            multipart_threshold=PART, multipart_chunksize=PART, max_request_concurrency=CONNECTIONS
        )
        with TransferManager(self._client, config) as transfers:
            futures = [
                transfers.upload(
                    str(folder / file["path"]),
                    self._bucket,
                    self._release_key(release, file["path"]),
                    extra_args={"Metadata": {"sha256": file["sha256"]}, **_upload_checksum(file)},
                )
                for file in files
            ]
            for future in futures:
                future.result()

    def _is_same(self, release: str) -> Callable[[File], bool]:
        def same(file: File) -> bool:
            key = self._release_key(release, file["path"])
            head = self._client.head_object(Bucket=self._bucket, Key=key)
            return bool(head["Metadata"].get("sha256") == file["sha256"])

        return same

    # Reading ---------------------------------------------------------------------------------

    @_registry_errors
    def releases(self) -> list[Release]:
        """All whole releases, the oldest first."""
        start = self._key("releases", "")
        found: dict[str, list[dict[str, Any]]] = {}
        for item in self._list(start):
            release, _, path = item["Key"][len(start) :].partition("/")
            found.setdefault(release, []).append(item | {"Path": path})
        whole = []
        for release, items in found.items():
            published = [item["LastModified"] for item in items if item["Path"] == MANIFEST]
            if published and is_release_id(release):
                files = [item["Size"] for item in items if item["Path"] not in ABOUT_THE_FILES]
                at = published[0].astimezone(UTC).isoformat()
                whole.append(Release(release, at, len(files), sum(files)))
        return sorted(whole, key=lambda release: (release.published_at, release.id))

    @_registry_errors
    def exists(self, release: str) -> bool:
        """Whether a release is there, whole as far as its manifest says (see ``verify``)."""
        try:
            self.manifest(release)
        except ReleaseNotFound:
            return False
        return True

    @_registry_errors
    def manifest(self, release: str) -> Manifest:
        """The files of a release, its names safe and its digests giving the release's id.

        Raises ReleaseNotFound, ReleaseCorrupt.
        """
        return _parse_manifest(self._manifest_bytes(release), release)

    @_registry_errors
    def read(self, release: str, path: str) -> bytes:
        """One file of a release, compared with its digest. Raises ReleaseNotFound, ReleaseCorrupt."""
        for file in self.manifest(release)["files"]:
            if file["path"] == path:
                parts: list[bytes] = []
                problem = self._stream(release, file, parts.append, parts.clear)
                if problem is not None:
                    raise ReleaseCorrupt(f"release {release}: {problem}")
                return b"".join(parts)
        raise ReleaseNotFound(f"release {release} has no file {path}")

    def read_each(self, releases: list[str], path: str) -> dict[str, bytes]:
        """``read`` of the same file of many releases, several at once."""
        return dict(self._in_parallel(lambda release: self.read(release, path), releases))

    @_registry_errors
    def pull(self, release: str, folder: Path | None = None) -> Path:
        """Copy a release to ``folder`` (``pulled(release)`` by default), whole and verified, or not
        at all; nothing is copied where it lies there already.

        Raises ReleaseNotFound; ReleaseCorrupt; RegistryError where ``folder`` holds something else.
        """
        target = pulled(release) if folder is None else folder
        try:
            verify_folder(target, release)
            return target
        except ReleaseNotFound:
            pass
        except ReleaseCorrupt:
            if folder is not None and any(folder.iterdir()):
                text = f"{folder} holds something else than release {release}: name an empty folder"
                raise RegistryError(text) from None
        about = {MANIFEST: self._manifest_bytes(release)}
        manifest = _parse_manifest(about[MANIFEST], release)
        if (signature := self._get(self._release_key(release, SIGNATURE))) is not None:
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

                    return self._stream(release, file, output.write, restart)

            problems = [text for _, text in self._in_parallel(fetch, manifest["files"]) if text]
            if problems:
                raise ReleaseCorrupt(f"release {release}: {'; '.join(problems)}")
            verify_folder(temporary, release)
        return target

    @_registry_errors
    def verify(self, release: str) -> list[str]:
        """What is wrong with a published release: a line for each missing, changed or extra file.

        Reads every byte of it. Raises ReleaseNotFound.
        """
        try:
            manifest = self.manifest(release)
        except ReleaseCorrupt as error:
            return [str(error)]
        extra = sorted(set(self._objects(release)) - {file["path"] for file in manifest["files"]})

        def check(file: File) -> str | None:
            return self._stream(release, file, lambda _block: None, lambda: None)

        problems = [text for _, text in self._in_parallel(check, manifest["files"]) if text]
        return problems + [f"extra file {path}" for path in extra if path not in ABOUT_THE_FILES]

    def _stream(
        self,
        release: str,
        file: File,
        write: Callable[[bytes], object],
        restart: Callable[[], None],
    ) -> str | None:
        """Hand a file's bytes to ``write``; what is wrong with them, or None.

        ``restart`` takes back what was written when a download breaks off.
        """
        key = self._release_key(release, file["path"])
        for attempt in range(1, ATTEMPTS + 1):
            try:
                body = self._client.get_object(Bucket=self._bucket, Key=key)["Body"]
            except ClientError as error:
                if _is_absent(error):
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

    # Channels --------------------------------------------------------------------------------

    @_registry_errors
    def channel(self, name: str = "champion") -> Channel | None:
        """Where a channel points now, or None where it was never set. Raises RegistryError."""
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._channel_key(name))
            body = answer["Body"].read()
        except ClientError as error:
            if _is_absent(error):
                return None
            raise
        try:
            pointer = json.loads(body)
            channel = Channel(name=name, etag=answer["ETag"], **{key: pointer[key] for key in _POINTER})
            _checked_release(channel.release)
        except (ValueError, KeyError, TypeError, ReleaseNotFound):
            raise RegistryError(f"channel {name} holds no pointer: set it anew by an administrator") from None
        return channel

    @_registry_errors
    def move(
        self,
        channel: str,
        release: str,
        by: str,
        reason: str,
        expected: Channel | None,
        event: str = "promoted",
    ) -> Channel:
        """Point a channel at a release, if it is still as ``expected``: what ``channel()`` gave
        before the decision was made, None for a channel never set.

        The release is verified first. The intention enters the history before the move, ``event``
        or ``lost`` after it, both with the intention's id, so that a crash between them shows.

        Raises PointerMoved, which names the winner; ReleaseNotFound; ReleaseCorrupt.
        """
        key = self._channel_key(channel)
        problems = self.verify(release)
        if problems:
            raise ReleaseCorrupt(f"release {release} is not moved to: {'; '.join(problems)}")
        previous = None if expected is None else expected.release
        facts = {"channel": channel, "previous": previous}
        intention = self.append_history("intended", release, by, reason, intended=event, **facts)
        pointer: dict[str, Any] = {
            "release": release,
            "manifest_sha256": hashlib.sha256(self._manifest_bytes(release)).hexdigest(),
            "previous": previous,
            "by": by,
            "reason": reason,
            "at": datetime.now(UTC).isoformat(),
            "intention": intention,
        }
        condition = {"IfNoneMatch": "*"} if expected is None else {"IfMatch": expected.etag}
        etag = self._put(key, canonical_json(pointer).encode(), **condition)
        now = self.channel(channel) if etag is None else Channel(name=channel, etag=etag, **pointer)
        if now is None or now.intention != intention:
            winner = None if now is None else now.release
            self.append_history("lost", release, by, reason, intention=intention, winner=winner, **facts)
            raise PointerMoved(_lost(channel, now))
        self.append_history(event, release, by, reason, intention=intention, **facts)
        return now

    # History ---------------------------------------------------------------------------------

    @_registry_errors
    def append_history(self, event: str, release: str | None, by: str, reason: str, **facts: Any) -> str:
        """Add an entry, never to be changed, and return its id: ``<UTC time>-<random>``."""
        now = datetime.now(UTC)
        entry = f"{now:%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(4)}"
        body = facts | {"event": event, "release": release, "by": by, "reason": reason, "at": now.isoformat()}
        key, data = self._key("history", f"{entry}.json"), canonical_json(body).encode()
        if self._put(key, data, IfNoneMatch="*") is None and self._get(key) != data:
            raise RegistryError(f"history entry {entry} exists already: do it again")
        return entry

    @_registry_errors
    def history(self) -> list[dict[str, Any]]:
        """All entries in order of time: ``id``, ``event``, ``release``, ``by``, ``reason``, ``at`` and
        the event's own facts."""
        keys = [item["Key"] for item in self._list(self._key("history", ""))]
        bodies = self._in_parallel(self._get, sorted(keys))
        return [
            json.loads(body) | {"id": key.rpartition("/")[2].removesuffix(".json")}
            for key, body in bodies
            if body is not None
        ]

    def _has_history(self, event: str, release: str) -> bool:
        return any(entry["event"] == event and entry["release"] == release for entry in self.history())

    # Objects ---------------------------------------------------------------------------------

    def _key(self, *parts: str) -> str:
        return "/".join((self._prefix, *parts))

    def _release_key(self, release: str, path: str) -> str:
        return self._key("releases", _checked_release(release), path)

    def _channel_key(self, name: str) -> str:
        if not _CHANNEL.fullmatch(name):
            raise ReleaseNotFound(f"{name!r} is no channel name: use lower-case letters, digits and hyphens")
        return self._key("channels", f"{name}.json")

    def _manifest_bytes(self, release: str) -> bytes:
        data = self._get(self._release_key(release, MANIFEST))
        if data is None:
            raise ReleaseNotFound(f"no release {release} at {self.address}: moelora releases lists them")
        return data

    def _objects(self, release: str) -> dict[str, int]:
        """Path and size in bytes of every object of a release, whole or not."""
        start = self._release_key(release, "")
        return {item["Key"][len(start) :]: item["Size"] for item in self._list(start)}

    def _list(self, start: str) -> Iterator[dict[str, Any]]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=start)
        for page in pages:
            yield from page.get("Contents", [])

    def _get(self, key: str) -> bytes | None:
        try:
            data: bytes = self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        except ClientError as error:
            if _is_absent(error):
                return None
            raise
        return data

    def _put(self, key: str, data: bytes, **condition: str) -> str | None:
        """Write an object on a condition; its ETag, or None where the condition does not hold.

        None does not prove that somebody else wrote: where the answer to a first try was lost,
        the repeat finds its own object in the way. Callers look at what stands there.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                answer = self._client.put_object(Bucket=self._bucket, Key=key, Body=data, **condition)
                return str(answer["ETag"])
            except ClientError as error:
                # AWS answers 409 while another write is under way, and 404 to If-Match where the
                # object is gone.
                if _status(error) == 409 and attempt < ATTEMPTS:
                    continue
                if _status(error) in (409, 412) or _is_absent(error):
                    return None
                raise
        raise AssertionError("unreachable")

    @staticmethod
    def _in_parallel(work: Callable[[Any], T], items: list[Any]) -> list[tuple[Any, T]]:
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            return list(zip(items, pool.map(work, items), strict=True))


def _parse(url: str) -> tuple[str, str]:
    match = _URL.fullmatch(url)
    if match is None or not {".", ".."}.isdisjoint(match[2].split("/")):
        raise ParamsError("publish.registry must be local or look like s3://BUCKET/PREFIX")
    return match[1], match[2]


def _checked_release(release: str) -> str:
    if not is_release_id(release):
        raise ReleaseNotFound(f"{release!r} is no release id (16 hex digits): moelora releases lists them")
    return release


def _listing(folder: Path) -> dict[str, str]:
    return {path: digest for path, digest in listing(folder).items() if path not in ABOUT_THE_FILES}


def _manifest(folder: Path, files: dict[str, str]) -> Manifest:
    manifest: Manifest = {
        "release": listing_digest(files)[:16],
        "files": [
            {"path": path, "size": (folder / path).stat().st_size, "sha256": digest}
            for path, digest in sorted(files.items())
        ],
    }
    _check_manifest(manifest, manifest["release"])
    return manifest


def _parse_manifest(data: bytes, release: str) -> Manifest:
    try:
        manifest: Manifest = json.loads(data)
        _check_manifest(manifest, release)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ReleaseCorrupt(f"release {release}: {MANIFEST} is malformed") from None
    return manifest


def _check_manifest(manifest: Manifest, release: str) -> None:
    """Raise ReleaseCorrupt unless every name is safe to write and the digests give the id.

    Malformed values raise ValueError, KeyError or TypeError.
    """
    if set(manifest) != {"release", "files"}:
        raise ValueError
    for file in manifest["files"]:
        if not _FILE.fullmatch(file["path"]) or file["path"] in ABOUT_THE_FILES:
            raise ReleaseCorrupt(f"release {release}: {file['path']!r} is no safe file name")
        if set(file) != {"path", "size", "sha256"} or not _SHA256.fullmatch(file["sha256"]):
            raise ValueError
        if type(file["size"]) is not int or file["size"] < 0:
            raise ValueError
    digests = _digests(manifest)
    if not digests or len(digests) != len(manifest["files"]):
        raise ReleaseCorrupt(f"release {release}: {MANIFEST} lists no file, or one of them twice")
    if not (listing_digest(digests)[:16] == manifest["release"] == release):
        raise ReleaseCorrupt(f"release {release}: the digests in {MANIFEST} give another id")


def _digests(manifest: Manifest) -> dict[str, str]:
    return {file["path"]: file["sha256"] for file in manifest["files"]}


def _differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    return (
        [f"missing file {path}" for path in sorted(expected.keys() - found.keys())]
        + [f"changed file {p}" for p in sorted(expected.keys() & found.keys()) if expected[p] != found[p]]
        + [f"extra file {path}" for path in sorted(found.keys() - expected.keys())]
    )


def _upload_checksum(file: File) -> dict[str, str]:
    """Make S3 refuse bytes other than the listed ones; of parts it knows only their own sums."""
    if file["size"] >= PART:
        return {"ChecksumAlgorithm": "SHA256"}
    return {"ChecksumSHA256": base64.b64encode(bytes.fromhex(file["sha256"])).decode()}


def _status(error: ClientError) -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


def _is_absent(error: ClientError) -> bool:
    return error.response["Error"].get("Code") in ("NoSuchKey", "404")


def _lost(channel: str, now: Channel | None) -> str:
    if now is None:
        return f"{channel} is no longer set: look at `moelora releases` and decide again"
    return (
        f"{channel} was moved first, to {now.release} by {now.by} at {now.at} ({now.reason}): "
        "look at it and decide again"
    )
