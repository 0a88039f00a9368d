"""Finished work kept by content, outside stage outputs, because DVC deletes those before a run.

An entry is a folder ``<root>/<raw|open>/<stage>/<key>/``; it appears whole or not at all. The
key covers all that the work depends on: input digest, code, parameters, key id. Entries made
from raw text lie apart, mode 700.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline import RAW_STAGES, paths
from pipeline.digests import value_digest
from pipeline.files import new_folder


class Cache:
    """The entries of one stage."""

    def __init__(self, stage: str) -> None:
        self.mode = 0o700 if stage in RAW_STAGES else 0o755
        self.folder = paths.cache_root() / ("raw" if stage in RAW_STAGES else "open") / stage

    @staticmethod
    def key(**inputs: Any) -> str:
        """The name of the entry that depends on ``inputs`` (JSON-able values)."""
        return value_digest(inputs)[:32]

    def get(self, key: str) -> Path | None:
        """The entry's folder, or None where the work is still to be done."""
        folder = self.folder / key
        return folder if folder.is_dir() else None

    @contextmanager
    def put(self, key: str) -> Iterator[Path]:
        """A folder to fill; it becomes the entry when the block ends without an error."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=self.mode)
        self.folder.parent.chmod(self.mode)
        with new_folder(self.folder / key, self.mode) as folder:
            yield folder
