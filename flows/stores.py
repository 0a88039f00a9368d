"""Where DVC keeps objects: the cache of this checkout, and its remotes.

files/md5/<first two digits>/<the rest>[.dir]    a file's bytes, or the listing of a folder
runs/…                                           what stages were run on, and what came of it: digests
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from flows import remotes, repository
from pipeline import paths
from pipeline.registry import Lock, Objects

FILES = "files/md5/"
RUNS = "runs/"


class Store(Protocol):
    """Objects by their MD5, ``.dir`` at its end where they list a folder."""

    name: str

    def objects(self) -> Iterator[str]: ...

    def runs(self) -> Iterator[bytes]: ...

    def read(self, md5: str) -> bytes: ...

    def lock(self, md5: str) -> Lock | None: ...

    def delete(self, md5: str) -> Lock | None: ...


class FolderStore:
    """A store on this disk."""

    def __init__(self, name: str, root: Path) -> None:
        self.name = name
        self._root = root

    def objects(self) -> Iterator[str]:
        for path in sorted(self._root.glob(f"{FILES}[0-9a-f][0-9a-f]/*")):
            if path.is_file():
                yield path.parent.name + path.name

    def runs(self) -> Iterator[bytes]:
        return (path.read_bytes() for path in sorted(self._root.glob(f"{RUNS}*/*/*")) if path.is_file())

    def read(self, md5: str) -> bytes:
        return self._path(md5).read_bytes()

    def lock(self, md5: str) -> Lock | None:  # noqa: ARG002  # no disk forbids it
        return None

    def delete(self, md5: str) -> Lock | None:
        self._path(md5).unlink(missing_ok=True)
        return None

    def _path(self, md5: str) -> Path:
        return self._root / FILES / md5[:2] / md5[2:]


class BucketStore:
    """A store in S3, whatever versions of an object its bucket keeps."""

    def __init__(self, name: str, objects: Objects) -> None:
        self.name = name
        self._objects = objects

    def objects(self) -> Iterator[str]:
        return (key.removeprefix(FILES).replace("/", "") for key in self._objects.keys(FILES))

    def runs(self) -> Iterator[bytes]:
        return (self._objects.read(key) for key in self._objects.keys(RUNS))

    def read(self, md5: str) -> bytes:
        return self._objects.read(_key(md5))

    def lock(self, md5: str) -> Lock | None:
        return self._objects.lock(_key(md5))

    def delete(self, md5: str) -> Lock | None:
        return self._objects.delete(_key(md5))


def stores() -> tuple[list[Store], list[str]]:
    """Every store that can be reached from here, and the remotes of kinds that cannot, or on a disk that
    is not here."""
    found: list[Store] = [FolderStore("cache", Path(repository.dvc("cache", "dir")))]
    others = []
    for name, options in sorted(remotes.remotes().items()):
        url = options.get("url", "")
        if url.startswith("s3://"):
            found.append(BucketStore(f"remote {name}", Objects.open(url, options)))
        elif "://" in url or not (Path(url).is_dir() or Path(url).is_relative_to(paths.SCRATCH.resolve())):
            others.append(f"remote {name} at {url}")
        else:
            found.append(FolderStore(f"remote {name}", Path(url)))
    return found, others


def _key(md5: str) -> str:
    return f"{FILES}{md5[:2]}/{md5[2:]}"
