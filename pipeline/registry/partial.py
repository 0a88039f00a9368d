"""A download on its way to this disk, which another process may go on with after a crash."""

import fcntl
import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import ReleaseCorrupt


class Partial:
    """Files of one release and a list of the parts that arrived.

    .<name>.<release>.partial/files/…    each as large as it gets
                             /arrived    a line for each part: first byte, path
    """

    def __init__(self, folder: Path) -> None:
        self.files = folder / "files"
        self.files.mkdir(exist_ok=True)
        self._arrived = folder / "arrived"
        self._lock = threading.Lock()
        self._before = self._read_arrived()

    def holds(self, path: str, start: int) -> bool:
        """Whether the part of a file from byte ``start`` arrived in an earlier attempt."""
        return (start, path) in self._before

    def write(self, path: str, start: int, data: bytes) -> None:
        """Take a part of a file; parts of one file may come from several threads."""
        place = self.files / path
        place.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(descriptor, memoryview(data)[written:], start + written)
        finally:
            os.close(descriptor)
        with self._lock, self._arrived.open("a", encoding="utf-8") as file:
            file.write(f"{start} {path}\n")

    def is_whole(self, path: str, size: int, sha256: str) -> bool:
        """Whether all parts of a file give its digest."""
        place = self.files / path
        if not place.is_file() or place.stat().st_size != size:
            return False
        with place.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256

    def forget(self, path: str) -> bool:
        """Drop a file whose earlier parts turned out wrong; False where it had none."""
        (self.files / path).unlink(missing_ok=True)
        earlier = {part for part in self._before if part[1] == path}
        self._before -= earlier
        return bool(earlier)

    def _read_arrived(self) -> set[tuple[int, str]]:
        if not self._arrived.is_file():
            return set()
        lines = self._arrived.read_text(encoding="utf-8").splitlines(keepends=True)
        whole = [line[:-1].partition(" ") for line in lines if line.endswith("\n")]
        return {(int(start), path) for start, _, path in whole if (self.files / path).is_file()}


@contextmanager
def partial_folder(target: Path, release: str) -> Iterator[Path]:
    """The folder of a download to ``target``, held by this process alone.

    Waits while another process downloads the same, and then yields an empty folder. Kept where
    the block raises, unless what it raises is ReleaseCorrupt: there is nothing to go on with.
    """
    folder = target.with_name(f".{target.name}.{release}.partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _held(folder)
    try:
        yield folder
        shutil.rmtree(folder)
    except ReleaseCorrupt:
        shutil.rmtree(folder)
        raise
    finally:
        os.close(descriptor)


def _held(folder: Path) -> int:
    """A locked descriptor of ``folder``, made where it is absent."""
    while True:
        folder.mkdir(exist_ok=True)
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Whoever held it before may have finished and removed it.
        try:
            if os.path.samestat(os.fstat(descriptor), folder.stat()):
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)
