"""A tiny base model and an adapter in it that changes its answers, task by task."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import base
from pipeline.evaluate.system import Bare, System
from pipeline.moelora import MoeLora, MoeLoraConfig, inject
from pipeline.params import Evaluate, Params
from pipeline.prompts import encode
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
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=random).to(parameter.device))
    return adapter


def learn(adapter: MoeLora, tokenizer: Any, rows: Sequence[tuple[str, str, str]], steps: int) -> None:
    """Train on ``(task, input, target)``, all of them in every step: by heart, where steps are many.

    The tiny base is trained along: its random embedding leaves an adapter alone too little to say.
    """
    samples = [(task, encode(tokenizer, text, target, 512)) for task, text, target in rows]
    longest = max(len(sample.ids) for _, sample in samples)
    ids = torch.zeros(len(samples), longest, dtype=torch.long)
    labels = torch.full_like(ids, -100)
    for row, (_, sample) in enumerate(samples):
        ids[row, : len(sample.ids)] = torch.tensor(sample.ids)
        labels[row, sample.answer_start : len(sample.ids)] = torch.tensor(sample.ids[sample.answer_start :])
    attention = adapter.model.config._attn_implementation
    adapter.model.set_attn_implementation("sdpa")  # a system that was made before packs its rows
    parameters = list(adapter.model.requires_grad_(True).parameters())
    optimiser = torch.optim.Adam(parameters, lr=0.01)
    cooling = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, steps)
    for _ in range(steps):
        optimiser.zero_grad()
        with adapter.tasks([task for task, _ in samples]):
            logits = adapter.model(ids).logits
        torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()).backward()
        optimiser.step()
        cooling.step()
    adapter.model.set_attn_implementation(attention)


def systems(adapter: MoeLora, tokenizer: Any) -> tuple[System, System]:
    """The adapter's, and that of the bare base."""
    bare = System(adapter.model, tokenizer, Bare(adapter))
    return System(adapter.model, tokenizer, adapter), bare


def limits(**values: Any) -> Evaluate:
    """Parameters of evaluate, few resamples."""
    return Evaluate(**{"resamples": 999, "batch_tokens": 2000} | values)


def load(base_folder: Path) -> tuple[MoeLora, Any]:
    """(adapter, tokenizer)"""
    compute = Params.load(ROOT / "params.yaml").compute
    model, tokenizer = base.load(compute.model_copy(update={"threads": 1}), base_folder)
    return make_adapter(model), tokenizer


@pytest.fixture
def tiny(base_folder: Path) -> Iterator[tuple[MoeLora, Any]]:
    """(adapter, tokenizer)"""
    yield load(base_folder)
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def untrained(base_folder: Path) -> System:
    """The bare base, on a model of its own that no test trains."""
    return systems(*load(base_folder))[1]
