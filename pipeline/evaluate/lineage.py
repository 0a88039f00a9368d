"""Which base model a release was trained on; an adapter means nothing on another one."""

import json
from pathlib import Path

from pipeline import paths
from pipeline.digests import folder_digest


def has_this_base(release: Path) -> bool:
    """Whether the lineage of a release's folder names the base in models/base, by its digest; no
    lineage, no such base."""
    try:
        lineage = json.loads((release / "lineage.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    return bool(lineage["base"]["digest"] == folder_digest(paths.BASE))
