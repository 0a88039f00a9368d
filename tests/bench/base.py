"""The base model that benchmarks of training need."""

import subprocess
import sys

from pipeline import paths


def prepare() -> None:
    """models/base, where it is not there yet; in a process of its own, which frees its memory."""
    if not (paths.BASE / "config.json").is_file():
        subprocess.run([sys.executable, "-m", "pipeline.base"], check=True)
