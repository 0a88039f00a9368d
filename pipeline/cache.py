"""Finished work kept by content, outside stage outputs, because DVC deletes those before a run.

An entry is a folder ``<root>/<raw|open>/<stage>/<key>/``; it appears whole or not at all, and is
never replaced, so that clones on one machine can share a root. The key covers all that the work
depends on: input digest, code, parameters, key id. Entries made from raw text lie apart; all are
for their owner alone (mode 700), since text after ``deidentify`` needs access control too.
"""

import errno
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline import RAW_STAGES, paths
from pipeline.digests import value_digest


class Cache:
    """The entries of one stage."""

    def __init__(self, stage: str) -> None:
        self.folder = paths.cache_root() / ("raw" if stage in RAW_STAGES else "open") / stage

    @staticmethod
    def key(**inputs: Any) -> str:
        """The name of the entry that depends on ``inputs`` (JSON-able values)."""
        return value_digest(inputs)[:32]

    def get(self, key: str) -> Path | None:
        """The entry's folder, or None where the work is still to be done."""
        folder = self.folder / key
        return folder if folder.is_dir() else None

    def beside(self, name: str) -> Path:
        """A file beside the entries that changes, as an index of inputs does."""
        self._make()
        return self.folder / name

    def _make(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for each in (self.folder, self.folder.parent):
            each.chmod(0o700)

    @contextmanager
    def put(self, key: str) -> Iterator[Path]:
        """A folder to fill; it becomes the entry when the block ends without an error.

        Where another process finished the same entry first, that one stays: it is equal.
        """
        self._make()
        unfinished = self.folder / f".{key}.{uuid.uuid4().hex}"
        unfinished.mkdir(mode=0o700)
        try:
            yield unfinished
            try:
                unfinished.rename(self.folder / key)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
