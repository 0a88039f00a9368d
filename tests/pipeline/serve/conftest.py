"""A release of two tasks in a tiny base model, in memory."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipeline import paths
from pipeline.params import Params
from pipeline.release_folder import release_id
from pipeline.serve.limits import Limits
from pipeline.serve.loader import Loader, Served
from tests.conftest import Checkout
from tests.releases import write_release
from tests.tiny import tiny_base

LIMITS = Limits(prompt_tokens=64, max_tokens=12, waiting=8, prompts=4, body_bytes=4000, timeout_s=20)


@pytest.fixture
def release(checkout: Checkout) -> Iterator[Path]:
    """The folder of a release; its base is models/base."""
    tiny_base(paths.BASE)
    checkout.params(compute__threads=1)
    yield write_release(checkout.root / "release")
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def loader(release: Path) -> Loader:
    return Loader(Params.load().compute, LIMITS, batch_tokens=200)


@pytest.fixture
def served(loader: Loader, release: Path) -> Served:
    return loader.load(release, release_id(release))
