"""A tiny base model and an adapter in it that changes its answers, task by task."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import base
from pipeline.moelora import MoeLora, MoeLoraConfig, inject
from pipeline.params import Params
from tests.conftest import ROOT
from tests.tiny import tiny_base

TASKS = ("rqe", "ner", "summary")


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base"))


def make_adapter(model: Any, tasks: tuple[str, ...] = TASKS, seed: int = 0) -> MoeLora:
    """An adapter far from its first values, so that tasks, base and adapter answer differently."""
    adapter = inject(model, MoeLoraConfig(tasks=tasks, rank=4, experts=2, alpha=8.0))
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.adapter_parameters().values():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=random))
    return adapter


@pytest.fixture
def tiny(base_folder: Path) -> Iterator[tuple[MoeLora, Any]]:
    """(adapter, tokenizer)"""
    compute = Params.load(ROOT / "params.yaml").compute
    model, tokenizer = base.load(compute.model_copy(update={"threads": 1}), base_folder)
    yield make_adapter(model), tokenizer
    torch.use_deterministic_algorithms(False)
