"""A copy of this checkout to measure in."""

import shutil
import subprocess
from pathlib import Path

from tests.conftest import ROOT


def copy_checkout(root: Path) -> None:
    """Copy what git knows or would, but for tests, the sample data and its lock."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in listed.splitlines():
        wanted = not name.startswith("tests/") and name not in ("dvc.lock", "data/inbox.dvc")
        if wanted and (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
