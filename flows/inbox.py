"""The inbox: files of task data, linked in by batches; it only grows, until somebody removes a file.

    data/inbox/<batch>/…    a batch is a name for what arrived together, nothing more
    data/inbox/sample/…     sample data, there only as long as nothing else is

Each content lies there once. Names of files are private: only counts and batch names are told.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import paths
from pipeline.errors import DataError, InputError

SAMPLE = paths.INBOX / "sample"
BATCH = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


@dataclass(frozen=True)
class Arrival:
    """What ``link`` did; the counts are of files."""

    batch: str
    linked: int
    already: int  # their content was in the inbox
    ignored: int  # they match no pattern


@dataclass(frozen=True)
class Mirrored:
    """What ``mirror`` found; the counts are of files."""

    files: int
    new: int
    gone: int
    batches: dict[str, list[str]]
    """See ``stamps``."""


def check_batch(batch: str) -> None:
    """Raise InputError unless ``batch`` may be a folder, a part of a branch name and a run's name."""
    if not BATCH.fullmatch(batch) or batch == SAMPLE.name:
        raise InputError(
            f"{batch!r} is no batch name: up to 64 lower-case letters, digits and hyphens, but not `sample`"
        )


def link(folder: Path, include: Sequence[str], batch: str | None = None) -> Arrival:
    """Link the files below ``folder`` whose names match one of ``include`` into the inbox.

    Hard links, or copies where the file system cannot link. ``batch`` is named after the contents
    where none is given. The sample data leaves the inbox when the first file arrives.
    Raises InputError for a bad batch name, DataError where there is no folder or no such file.
    """
    if batch is not None:
        check_batch(batch)
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: name the one that holds the data by --inbox")
    offered = sorted(path for path in folder.rglob("*") if path.is_file() and not _is_hidden(path, folder))
    wanted = [path for path in offered if paths.matches(path, include)]
    if not wanted:
        raise DataError(f"{folder} holds no file that matches {', '.join(include)}: name others by --include")
    digests = {path: digest(path) for path in wanted}
    there = set(_contents().values())
    new = {content: path for path, content in reversed(digests.items()) if content not in there}
    if batch is None:
        named_after = "".join(sorted(new or set(digests.values())))
        batch = f"batch-{hashlib.sha256(named_after.encode()).hexdigest()[:8]}"
    for content, path in new.items():
        target = paths.INBOX / batch / path.relative_to(folder)
        if target.exists():
            target = target.with_name(f"{content[:8]}-{target.name}")
        _private_folder(target.parent)
        _link_or_copy(path.resolve(), target)
    drop_sample()
    return Arrival(batch, len(new), len(wanted) - len(new), len(offered) - len(wanted))


def put(file: Path, root: Path, name: Path, content: str) -> None:
    """Move a finished file of this disk to ``name`` below the inbox ``root``, under another name where
    that is taken; ``content``: its digest. Sample data leaves. Raises DataError for a name that leads
    elsewhere."""
    if name.is_absolute() or ".." in name.parts:
        raise DataError("a name that leads out of the inbox")
    target = root / name
    if target.exists():
        target = target.with_name(f"{content[:8]}-{target.name}")
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file.replace(target)
    shutil.rmtree(root / SAMPLE.name, ignore_errors=True)


def drop_sample() -> bool:
    """Remove the sample data where other data has come; whether there was any to remove."""
    if SAMPLE.is_dir() and any(SAMPLE not in path.parents for path in files()):
        shutil.rmtree(SAMPLE)
        return True
    return False


def files() -> Iterator[Path]:
    """The files in the inbox."""
    return (path for path in sorted(paths.INBOX.rglob("*")) if path.is_file())


def shards(include: Sequence[str]) -> set[str]:
    """First 16 hex digits of the SHA-256 of every file that the pipeline will read."""
    return {content[:16] for path, content in _contents().items() if paths.matches(path, include)}


def digest(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _contents() -> dict[Path, str]:
    return {path: digest(path) for path in files()}


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _private_folder(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for each in (folder, *folder.parents):
        if each == paths.INBOX.parent:
            return
        each.chmod(0o700)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        # Renamed into place, so that a copy cut short is never taken for data.
        temporary = target.with_name(f".{target.name}.part")
        shutil.copyfile(source, temporary)
        temporary.replace(target)


def mirror(source: Path) -> Mirrored:
    """Make the inbox hold the files of ``source``, by the same names below it, and no others. Raises
    DataError where there are none."""
    batches = stamps(source)  # what changes while this runs is not what it read
    wanted = {path.relative_to(source): path for path in sorted(source.rglob("*")) if path.is_file()}
    if not wanted:
        raise DataError("the service's inbox is empty: drop files where `moelora deploy --watch` looks")
    there = {path.relative_to(paths.INBOX): path for path in files()}
    gone = [path for name, path in there.items() if not _is_same(path, wanted.get(name))]
    for path in gone:
        path.unlink()
    new = [name for name in wanted if not (paths.INBOX / name).exists()]
    for name in new:
        _private_folder((paths.INBOX / name).parent)
        _link_or_copy(wanted[name], paths.INBOX / name)
    for folder in sorted((f for f in paths.INBOX.rglob("*") if f.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
    return Mirrored(len(wanted), len(new), len(gone), batches)


def stamps(root: Path) -> dict[str, list[str]]:
    """By batch, a stamp of each file below an inbox that changes when the file is replaced or written to.

    Files that lie beside the batches are of the batch ``""``.
    """
    found: dict[str, list[str]] = {}
    for path in sorted(root.rglob("*")):
        if path.is_file():
            name, about = path.relative_to(root), path.stat()
            batch = name.parts[0] if len(name.parts) > 1 else ""
            stamp = f"{name}\0{about.st_size}\0{about.st_mtime_ns}\0{about.st_ino}"
            found.setdefault(batch, []).append(
                hashlib.sha256(stamp.encode(errors="surrogateescape")).hexdigest()[:16]
            )
    return found


def _is_same(path: Path, other: Path | None) -> bool:
    """Whether two files are one on the disk, or a copy with the same bytes."""
    if other is None:
        return False
    return path.samefile(other) or (
        path.stat().st_size == other.stat().st_size and digest(path) == digest(other)
    )


def copy_to(folder: Path) -> int:
    """Link the files of the inbox into another one, and count them."""
    count = 0
    for path in files():
        target = folder / path.relative_to(paths.INBOX)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _link_or_copy(path.resolve(), target)
        count += 1
    return count
