"""Files that arrive: found, taken once when they are complete, and linked into the service's inbox.

    source          a folder, or s3://BUCKET/PREFIX
    complete        nothing about the file has changed for SETTLE seconds, or its SHA-256 stands beside
                    it in `<name>.sha256`; an object in S3 is whole as soon as it is there
    taken           copied, so that later writing to the source changes nothing; each content once
    no data         empty, cut short, or not what its name says: copied into quarantine with a reason

The record of what was seen, ``arrivals.json``, names files and so is as private as the inbox. What
is told to others are counts and the names of batches.
"""

import gzip
import json
import os
import re
import secrets
import shutil
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple, Protocol

from flows import home, inbox
from pipeline import paths
from pipeline.errors import DataError
from pipeline.files import write_atomically
from pipeline.registry import Objects

SETTLE = 4.0
"""Seconds without a change after which a file of a folder is complete."""

BY_HAND = "by-hand"

DIGEST = ".sha256"
SHA256 = re.compile(r"[0-9a-fA-F]{64}\b")

UTF16 = re.compile(rb"\xff\xfe|\xfe\xff|[^\0]\0[^\0]\0|\0[^\0]\0[^\0]")
"""How its texts begin: with a mark, or with letters of which every other byte is zero."""

MAGIC = {".gz": b"\x1f\x8b", ".zst": b"\x28\xb5\x2f\xfd", ".parquet": b"PAR1"}
"""How files of these kinds begin."""


class Offer(NamedTuple):
    """A file at a source; ``stamp`` changes when its content does."""

    key: str
    path: Path  # below the source
    size: int
    stamp: str


class Source(Protocol):
    """Where files arrive."""

    settles: bool  # whether a file may be seen while it is being written

    def offers(self) -> Iterator[Offer]: ...

    def fetch(self, offer: Offer, target: Path) -> None: ...

    def is_unchanged(self, offer: Offer) -> bool: ...


class Folder:
    """A folder of this machine."""

    settles = True

    def __init__(self, root: Path) -> None:
        self._root = root

    def offers(self) -> Iterator[Offer]:
        for path in sorted(self._root.rglob("*")):
            below = path.relative_to(self._root)
            try:
                # A link would be read with this worker's rights, wherever it leads.
                plain = path.is_file() and not path.is_symlink()
                if plain and not any(part.startswith(".") for part in below.parts):
                    yield Offer(str(path), below, *_stamp(path.stat()))
            except OSError:
                continue  # gone while we looked

    def fetch(self, offer: Offer, target: Path) -> None:
        shutil.copyfile(offer.key, target)

    def is_unchanged(self, offer: Offer) -> bool:
        return _stamp(Path(offer.key).stat()) == (offer.size, offer.stamp)


class Bucket:
    """Objects below an S3 prefix, by boto3's standard configuration."""

    settles = False

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._objects = Objects.open(url, {})

    def offers(self) -> Iterator[Offer]:
        for key, size, etag in self._objects.entries():
            parts = [part for part in key.split("/") if part]
            if parts and not key.endswith("/") and not any(part.startswith(".") for part in parts):
                yield Offer(f"{self._url}/{key}", Path(*parts), size, etag)

    def fetch(self, offer: Offer, target: Path) -> None:
        self._objects.download(offer.key.removeprefix(f"{self._url}/"), target)

    def is_unchanged(self, offer: Offer) -> bool:  # noqa: ARG002  # an object is replaced as a whole
        return True


def open_source(named: str) -> Source:
    """The source that a name stands for. Raises DataError where it is no folder of this machine, or one
    that holds the service's own files."""
    if named.startswith("s3://"):
        return Bucket(named)
    folder = Path(named)
    if not folder.is_absolute() or not folder.is_dir():
        raise DataError(f"{named} is no folder of this machine by its full path: mend moelora_sources")
    for own in (home.folder(), Path.cwd(), Path(home.repository())):
        if own.resolve().is_relative_to(folder.resolve()):
            raise DataError(f"{named} holds the service's own files: name a folder for what arrives")
    return Folder(folder)


@dataclass
class Record:
    """What the watcher knows from one look, and one start, to the next."""

    seen: dict[str, dict[str, str | int]] = field(default_factory=dict)
    """By key: size, stamp, and what became of it: a batch, ``quarantined``, ``already``."""
    taken: list[str] = field(default_factory=list)
    """SHA-256 of each content that was taken: what somebody removed from the inbox stays out of it."""
    last: str | None = None
    """When a file was taken last, or else the watch began; ISO 8601."""
    silence_told: bool = False

    @classmethod
    def load(cls) -> "Record":
        try:
            return cls(**json.loads(_record().read_text()))
        except FileNotFoundError:
            return cls()
        except (ValueError, TypeError):
            raise DataError(
                "arrivals.json in the worker's home is damaged: remove it; contents that are in the inbox "
                "are not taken twice"
            ) from None

    def save(self) -> None:
        write_atomically(_record(), json.dumps(asdict(self)))
        _record().chmod(0o600)

    def has(self, offer: Offer) -> bool:
        known = self.seen.get(offer.key)
        return known is not None and (known["size"], known["stamp"]) == (offer.size, offer.stamp)

    def note(self, offer: Offer, became: str) -> None:
        self.seen[offer.key] = {"size": offer.size, "stamp": offer.stamp, "became": became}


@dataclass
class Look:
    """What one look at the sources brought; counts of files."""

    taken: int = 0
    already: int = 0
    quarantined: int = 0
    ignored: int = 0
    waiting: int = 0
    unreadable: int = 0
    unreachable: int = 0  # sources


class Arrivals:
    """The sources, looked at again and again. ``include``: patterns on file names, as ingest has them."""

    def __init__(self, include: Sequence[str], settle: float = SETTLE) -> None:
        self.record = Record.load()
        self._include = include
        self._settle = settle
        self._since: dict[str, tuple[int, str, float]] = {}
        self._contents = {inbox.digest(path) for path in _files(home.inbox())} | {*self.record.taken}
        self._ignored: set[str] = set()
        shutil.rmtree(_incoming(), ignore_errors=True)

    def look(self, sources: Sequence[str], batch: str) -> Look:
        """Take every complete new file into ``batch``."""
        found = Look()
        for named in sources:
            try:
                self._look_at(open_source(named), batch, found)
            except Exception:  # of any library below: no source keeps another waiting
                found.unreachable += 1
        # Killed before this, the next start finds the contents in the inbox: nothing comes in twice.
        if found.taken:
            self.record.last, self.record.silence_told = _now(), False
        if found.taken or found.already or found.quarantined:
            self.record.save()
        return found

    def silence(self, longest: timedelta) -> timedelta | None:
        """How long no file was taken, where that is ``longest`` or more; said once, until one is."""
        if self.record.last is None:
            self.record.last = _now()
            self.record.save()
        silence = datetime.now(UTC) - datetime.fromisoformat(self.record.last)
        if silence < longest or self.record.silence_told:
            return None
        self.record.silence_told = True
        self.record.save()
        return silence

    def _look_at(self, source: Source, batch: str, found: Look) -> None:
        offers = {offer.key: offer for offer in source.offers()}
        for key, offer in offers.items():
            if key.endswith(DIGEST):
                continue
            if not paths.matches(offer.path, self._include):
                found.ignored += key not in self._ignored
                self._ignored.add(key)
                continue
            beside = offers.get(key + DIGEST)
            known = offer if beside is None else offer._replace(stamp=f"{offer.stamp} {beside.stamp}")
            if self.record.has(known):
                continue
            if beside is None and source.settles and not self._is_settled(offer):
                found.waiting += 1
                continue
            try:
                became = self._take(source, offer, beside, batch, found)
            except Exception:  # boto3's transfers raise plain ones
                found.unreadable += 1  # the others are taken all the same
                continue
            if became is None:
                found.waiting += 1
            else:
                self.record.note(known, became)

    def _is_settled(self, offer: Offer) -> bool:
        size, stamp, since = self._since.get(offer.key, (-1, "", 0.0))
        if (size, stamp) != (offer.size, offer.stamp):
            self._since[offer.key] = (offer.size, offer.stamp, time.monotonic())
            return False
        return time.monotonic() - since >= self._settle

    def _take(
        self, source: Source, offer: Offer, beside: Offer | None, batch: str, found: Look
    ) -> str | None:
        """What became of a file; None where it is still being written."""
        copy = _incoming() / secrets.token_hex(8)
        copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            source.fetch(offer, copy)
            content = inbox.digest(copy)
            if copy.stat().st_size != offer.size or not source.is_unchanged(offer):
                return None
            if content in self._contents:
                if content not in self.record.taken:
                    self.record.taken.append(content)
                found.already += 1
                return "already"
            problem = what_is_wrong(copy, offer.path.name)
            if beside is not None and content != _promised(source, beside):
                if source.settles and not self._is_settled(offer):
                    return None
                problem = "its SHA-256 is not the one beside it"
            if problem:
                self._quarantine(copy, offer, content, problem)
                found.quarantined += 1
                return "quarantined"
            inbox.put(copy, home.inbox(), Path(batch) / offer.path, content)
            self._contents.add(content)
            self.record.taken.append(content)
            found.taken += 1
            return batch
        finally:
            copy.unlink(missing_ok=True)

    def _quarantine(self, copy: Path, offer: Offer, content: str, problem: str) -> None:
        folder = home.folder() / "quarantine"
        folder.mkdir(exist_ok=True, mode=0o700)
        copy.replace(folder / content[:16])
        about = {"file": offer.key, "reason": problem, "at": _now()}
        (folder / f"{content[:16]}.json").write_text(json.dumps(about, indent=1) + "\n")


def unread() -> list[str]:
    """Batches of which the inbox holds files that no retraining has read as they are now; sample data is
    none.

    What a person put there goes by the name BY_HAND where its own may be private.
    """
    try:
        read = {batch: {*stamps} for batch, stamps in json.loads(_read().read_text()).items()}
    except (FileNotFoundError, ValueError, TypeError):
        read = {}
    there = inbox.stamps(home.inbox())
    there.pop(inbox.SAMPLE.name, None)
    unread = {batch for batch, stamps in there.items() if not read.get(batch, set()).issuperset(stamps)}
    return sorted({batch if inbox.BATCH.fullmatch(batch) else BY_HAND for batch in unread})


def mark_read(batches: dict[str, list[str]]) -> None:
    """Note what a retraining has read, as ``inbox.stamps`` gives it."""
    write_atomically(_read(), json.dumps(batches))
    _read().chmod(0o600)


def new_batch() -> str:
    """A name for what arrives from now on."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def what_is_wrong(path: Path, name: str) -> str | None:
    """Why a file is no data, as far as its kind tells; None where nothing is known against it. Rows are
    ingest's to judge."""
    suffix = Path(name).suffix.lower()
    with path.open("rb") as file:
        start = file.read(4096)
    if not start:
        return "it is empty"
    magic = MAGIC.get(suffix)
    if magic is not None and not start.startswith(magic):
        return f"it does not begin as {suffix} files do"
    if suffix == ".parquet":
        with path.open("rb") as file:
            file.seek(-4, 2)
            if file.read() != MAGIC[suffix]:
                return "it is cut short"
    if suffix == ".gz" and not _is_whole_gzip(path):
        return "it is cut short"
    if magic is None and b"\0" in start and not UTF16.match(start):
        return "it is no text"
    return None


def _is_whole_gzip(path: Path) -> bool:
    try:
        with gzip.open(path) as file:
            while file.read(1 << 20):
                pass
    except (EOFError, OSError, zlib.error):
        return False
    return True


def _promised(source: Source, beside: Offer) -> str | None:
    """The SHA-256 that a file beside another promises, as `sha256sum` writes it."""
    copy = _incoming() / f"{secrets.token_hex(8)}{DIGEST}"
    try:
        source.fetch(beside, copy)
        found = SHA256.match(copy.read_text(errors="replace"))
    finally:
        copy.unlink(missing_ok=True)
    return found.group().lower() if found else None


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _incoming() -> Path:
    return home.folder() / "incoming"


def _read() -> Path:
    return home.folder() / "read.json"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _stamp(stat: os.stat_result) -> tuple[int, str]:
    return stat.st_size, f"{stat.st_mtime_ns}-{stat.st_ino}"


def _record() -> Path:
    return home.folder() / "arrivals.json"
