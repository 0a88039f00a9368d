"""Secrets made for a copy of compose."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.infra.files import INFRA, run


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A copy of infra/ with secrets made."""
    shutil.copytree(INFRA, tmp_path / "infra", ignore=shutil.ignore_patterns("secrets", ".env", "inbox"))
    folder = tmp_path / "infra/compose"
    run(sys.executable, folder / "make_secrets.py")
    (folder / "secrets/signing-key.pem").touch()
    return folder
