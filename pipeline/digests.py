"""SHA-256 digests of files, folders, values and code: the names by which content is known."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no NaN, UTF-8 kept, newline at the end."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=2) + "\n"


def value_digest(value: Any) -> str:
    """Hex SHA-256 of a JSON-able value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def dvc_digest(path: Path) -> str:
    """Hex MD5 of a file's bytes: the name by which dvc.lock knows it."""
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def listing(folder: Path) -> dict[str, str]:
    """Relative POSIX path of every file below ``folder`` and its hex SHA-256, sorted by path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}


def listing_digest(files: dict[str, str]) -> str:
    """Hex SHA-256 over the sorted lines ``sha256  path`` (what sha256sum prints).

    The first 16 digits of it, over the files of a release, are the release's id.
    """
    lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def folder_digest(folder: Path) -> str:
    """Hex SHA-256 of a folder's file names and bytes."""
    return listing_digest(listing(folder))


def code_digest(files: Iterable[Path | str]) -> str:
    """Hex SHA-256 of source files by folder and name, so that cached work of other code is never reused."""
    return value_digest({"/".join(Path(file).parts[-2:]): file_digest(Path(file)) for file in files})
