"""The files of infra/, and the validators that judge them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

INFRA = ROOT / "infra"
ROLES = ("cpu", "gpu", "promote")
Json = dict[str, Any]


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    """A validator, found in this environment first; what it says is the failure's text."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [shutil.which(command[0], path=path) or command[0], *command[1:]],
        cwd=cwd,
        env=os.environ | {"TF_CLI_CONFIG_FILE": os.devnull},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def needs(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not on PATH: what only it can tell was not checked")


def texts() -> Iterator[tuple[Path, str]]:
    """The files of infra/ that git knows, and their text."""
    listed = subprocess.run(
        ["git", "ls-files", "infra"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.split():
        yield Path(name), (ROOT / name).read_text()
