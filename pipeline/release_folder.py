"""A release that lies on this disk: the id that its files give, and whether models/base is its base."""

from pathlib import Path

from pipeline.digests import listing, listing_digest
from pipeline.errors import InputError
from pipeline.evaluate.lineage import has_this_base
from pipeline.registry import ABOUT_THE_FILES


def release_id(folder: Path) -> str:
    """The id under which the files of ``folder`` are, or would be, published."""
    files = {path: digest for path, digest in listing(folder).items() if path not in ABOUT_THE_FILES}
    return listing_digest(files)[:16]


def check_base(folder: Path) -> None:
    """Raise InputError where the lineage of a release names another base than models/base.

    models/release has no lineage yet: whether its layers fit the base is all that can be said.
    """
    if (folder / "lineage.json").is_file() and not has_this_base(folder):
        raise InputError(
            "this release was trained on another base model than models/base: set the `base` of its "
            "lineage.json in params.yaml, then moelora base"
        )
