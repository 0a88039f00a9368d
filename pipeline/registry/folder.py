"""A release as a folder on this disk."""

from pathlib import Path

from pipeline import paths, signing
from pipeline.digests import listing_digest
from pipeline.errors import ReleaseCorrupt, ReleaseNotFound
from pipeline.registry.manifest import MANIFEST, SIGNATURE, differences, digests, list_files, parse_manifest
from pipeline.registry.release import checked_id


def pulled(release: str) -> Path:
    """Where a release lies that was pulled without naming a folder."""
    return paths.cache_root() / "open" / "releases" / checked_id(release)


def verify_folder(folder: Path, release: str) -> None:
    """Check that a pulled folder's files give the release's id, no file changed, missing or added,
    and that they are signed where this repository trusts a key.

    Raises ReleaseNotFound where there is no such folder; ReleaseCorrupt, which names the files
    where the folder still has its manifest; ReleaseUntrusted.
    """
    checked_id(release)
    if not folder.is_dir():
        raise ReleaseNotFound(f"release {release} is not here: moelora pull {release}")
    found = list_files(folder)
    if listing_digest(found)[:16] == release:
        signature = folder / SIGNATURE
        signing.check(release, found, signature.read_bytes() if signature.is_file() else None)
        return
    try:
        expected = digests(parse_manifest((folder / MANIFEST).read_bytes(), release))
        problems = differences(expected, found)
    except (OSError, ReleaseCorrupt):
        problems = [f"its files give the id {listing_digest(found)[:16]}"]
    raise ReleaseCorrupt(f"release {release} on this disk: {'; '.join(problems)}: moelora pull {release}")
