"""What files hold, known without reading them again: as git's index, by size, times and inode.

A file that changed less than COARSE_SECONDS before it was read could change once more and look the
same, since clocks of file systems are coarse: it is not noted, and read again next time.
"""

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from pipeline.digests import file_digest
from pipeline.files import write_atomically
from pipeline.workers import cores

COARSE_SECONDS = 2


class Stamp(NamedTuple):
    """What changes when a file does. ``modified``, ``changed``: nanoseconds; nobody can set back the
    second, as copying tools do with the first."""

    size: int
    modified: int
    changed: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> "Stamp":
        found = path.stat()
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


class Seen(NamedTuple):
    """A file as it was when it was read; ``digest``: hex SHA-256."""

    stamp: Stamp
    digest: str


class Index:
    """The index of the files below ``root``, kept in ``file``, which names them and so is as private."""

    def __init__(self, file: Path, root: Path) -> None:
        self._file = file
        self._root = root
        self.hashed = 0
        """Files that had to be read."""

    def digests(self, paths: Sequence[Path]) -> dict[Path, Seen]:
        """Digests of files below ``root``; the index then knows these, and no others."""
        known = self._read()
        now = time.time_ns()
        found: dict[Path, Seen] = {}
        unknown: dict[Path, Stamp] = {}
        for path in paths:
            stamp = Stamp.of(path)
            seen = known.get(self._name(path))
            if seen is not None and seen.stamp == stamp:
                found[path] = seen
            else:
                unknown[path] = stamp
        largest_first = sorted(unknown, key=lambda path: unknown[path].size, reverse=True)
        # Threads: hashing a block of a file leaves the interpreter to others.
        with ThreadPoolExecutor(cores()) as threads:
            for path, digest in zip(largest_first, threads.map(file_digest, largest_first), strict=True):
                found[path] = Seen(unknown[path], digest)
        self.hashed += len(unknown)
        settled = {
            self._name(path): seen
            for path, seen in found.items()
            if path not in unknown or seen.stamp.changed < now - COARSE_SECONDS * 10**9
        }
        if settled != known:
            write_atomically(self._file, json.dumps(settled, sort_keys=True))
        return found

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _read(self) -> dict[str, Seen]:
        try:
            held = json.loads(self._file.read_text())
            return {name: Seen(Stamp(*stamp), digest) for name, (stamp, digest) in held.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}  # none yet, or not ours: it only saves time
