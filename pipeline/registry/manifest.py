"""The manifest of a release: its files, and the proof that they give its id."""

import json
import re
from pathlib import Path
from typing import TypedDict

from pipeline.digests import listing, listing_digest
from pipeline.errors import ReleaseCorrupt

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
ABOUT_THE_FILES = (MANIFEST, SIGNATURE)
"""Objects of a release that describe its files and are none of them."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")


class File(TypedDict):
    """A line of a manifest; ``size`` in bytes, ``sha256`` in hex, ``path`` relative and POSIX."""

    path: str
    size: int
    sha256: str


class Manifest(TypedDict):
    """What manifest.json holds; ``files`` sorted by path."""

    release: str
    files: list[File]


def list_files(folder: Path) -> dict[str, str]:
    """Relative path and SHA-256 of a release's files in ``folder``."""
    return {path: digest for path, digest in listing(folder).items() if path not in ABOUT_THE_FILES}


def manifest_of(files: list[File]) -> Manifest:
    """The manifest of files, sorted by path. Raises ReleaseCorrupt where one may not be named so."""
    manifest: Manifest = {
        "release": listing_digest({file["path"]: file["sha256"] for file in files})[:16],
        "files": files,
    }
    _check(manifest, manifest["release"])
    return manifest


def parse_manifest(data: bytes, release: str) -> Manifest:
    """The manifest of ``release`` in ``data``, its names safe and its digests giving the id.

    Raises ReleaseCorrupt.
    """
    try:
        manifest: Manifest = json.loads(data)
        _check(manifest, release)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ReleaseCorrupt(f"release {release}: {MANIFEST} is malformed") from None
    return manifest


def _check(manifest: Manifest, release: str) -> None:
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
    found = digests(manifest)
    if not found or len(found) != len(manifest["files"]):
        raise ReleaseCorrupt(f"release {release}: {MANIFEST} lists no file, or one of them twice")
    if not (listing_digest(found)[:16] == manifest["release"] == release):
        raise ReleaseCorrupt(f"release {release}: the digests in {MANIFEST} give another id")


def digests(manifest: Manifest) -> dict[str, str]:
    """SHA-256 of each file by its path."""
    return {file["path"]: file["sha256"] for file in manifest["files"]}


def differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """A line for each file missing, changed or extra in ``found``; both map paths to digests."""
    return (
        [f"missing file {path}" for path in sorted(expected.keys() - found.keys())]
        + [f"changed file {p}" for p in sorted(expected.keys() & found.keys()) if expected[p] != found[p]]
        + [f"extra file {path}" for path in sorted(found.keys() - expected.keys())]
    )
