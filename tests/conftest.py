"""Fixtures for all tests."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.browser import browser  # noqa: F401  # a fixture
from tests.s3 import aws, empty_registry, registry_url, s3  # noqa: F401  # fixtures

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"
"""Real multi-task medical data, beside the checkout where there is any."""


class Checkout:
    """A temporary working directory with the files a stage finds at the root of a checkout."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copy(ROOT / "params.yaml", root)

    def params(self, **values: Any) -> None:
        """Set parameters by ``section__key=value`` in this checkout's params.yaml."""
        path = self.root / "params.yaml"
        params = yaml.safe_load(path.read_text())
        for name, value in values.items():
            section, key = name.split("__", 1)
            params[section][key] = value
        path.write_text(yaml.safe_dump(params))


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """Change into a temporary checkout with its own cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MOELORA_CACHE", raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return Checkout(tmp_path)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data; skips the test where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the real medical data in ../shared/data beside the checkout")
    return SHARED_DATA
