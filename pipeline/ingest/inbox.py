"""The files of the inbox: what they hold, by digest, and how each is read."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline import paths
from pipeline.cache import Cache
from pipeline.errors import DataError
from pipeline.ingest import formats
from pipeline.ingest.index import Index, Stamp
from pipeline.params import Ingest, Source


@dataclass(frozen=True)
class File:
    """A distinct file of the inbox: any number of copies, read by one field mapping.

    ``digest``: first 16 hex digits of its SHA-256. ``stamp``: as it was when that was taken.
    """

    digest: str
    path: Path
    stamp: Stamp
    kind: formats.Kind
    source: Source | None
    copies: int = 1


@dataclass(frozen=True)
class Inbox:
    """``files``: distinct ones that ``ingest.include`` lets in, by digest; ``ignored``: number of others."""

    files: list[File]
    ignored: int


def look(ingest: Ingest) -> Inbox:
    """What lies in the inbox. Raises DataError where there is nothing, or what is no known type."""
    found = [path for path in sorted(paths.INBOX.rglob("*")) if path.is_file()]
    included = [path for path in found if paths.matches(path, ingest.include)]
    ignored = len(found) - len(included)
    if not included:
        raise DataError(
            f"no file to read: {paths.INBOX} holds none that ingest.include lets in ({ignored} ignored). "
            "Put files there, correct ingest.include in params.yaml, or run `moelora sample-data`"
        )
    # Clones that share a cache have an inbox each.
    name = hashlib.sha256(str(paths.INBOX.absolute()).encode()).hexdigest()[:16]
    index = Index(Cache("ingest").beside(f"inbox-{name}.json"), paths.INBOX)
    files: dict[str, File] = {}
    for path, seen in index.digests(included).items():
        file = _file(path, seen.digest[:16], seen.stamp, ingest)
        if file.digest in files:
            # The same bytes twice: how they are read must not depend on the order of their names.
            first = min(files[file.digest], file, key=lambda one: _precedence(one, ingest.sources))
            file = replace(first, copies=files[file.digest].copies + 1)
        files[file.digest] = file
    return Inbox([files[digest] for digest in sorted(files)], ignored)


def _file(path: Path, digest: str, stamp: Stamp, ingest: Ingest) -> File:
    below = path.relative_to(paths.INBOX)
    source = next((source for source in ingest.sources if source.covers(below)), None)
    kind = formats.kind(path.name, source)
    if kind is None:
        raise DataError(
            f"shard {digest}: ingest.include lets in a file of a type that is not read: "
            "correct ingest.include in params.yaml, or the file's ending"
        )
    return File(digest, path, stamp, kind, source)


def _precedence(file: File, sources: tuple[Source, ...]) -> tuple[int, str, str]:
    return sources.index(file.source) if file.source else len(sources), file.kind[0], file.kind[1] or ""
