"""Whole models against the written formula: a literal loop over experts in every layer, in float64.

GPT-2 (Conv1D) and Phi, since their norms keep float64; those of Llama's kin go through float32.
"""

from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.moelora import MoeLora, MoeLoraConfig, inject
from pipeline.moelora.layer import MoeLoraLinear
from tests.pipeline.moelora.conftest import GATES, randomise, tiny

TASKS = ("rqe", "mts-section", "summary")
RANK, EXPERTS, ALPHA = 6, 3, 12.0

# Task or tasks of each row, and tokens; or of each sample of a packed row, and tokens of each.
BATCHES: dict[str, tuple[list[Any], Any]] = {
    "length equal to batch size": (["rqe", "summary", "mts-section"], 3),
    "length unequal": (["rqe", "summary", "rqe"], 5),
    "one row": (["summary"], 4),
    "one row, one token": (["summary"], 1),
    "one task": (["rqe", "rqe"], 4),
    "a sample of several tasks": ([("rqe", "summary"), "rqe", TASKS], 4),
    "one sample of all tasks": ([TASKS], 4),
    "packed": (["rqe", ("rqe", "summary"), "mts-section"], (3, 2, 4)),
}


class Literal(nn.Module):
    """y = base(x) + s * sum_i w_i (x A_i^T) B_i^T, expert by expert, as wide as the layer."""

    def __init__(self, layer: MoeLoraLinear, weights: Tensor, scale: float) -> None:
        super().__init__()
        self.layer, self.weights, self.scale = layer, weights, scale

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer.base(x)
        size = RANK // EXPERTS
        for i in range(EXPERTS):
            A = self.layer.A[i * size : (i + 1) * size]  # noqa: N806
            B = self.layer.B[:, i * size : (i + 1) * size]  # noqa: N806
            y = y + self.scale * self.weights[..., i, None] * ((x @ A.T) @ B.T)
        return y


def weights(adapter: MoeLora, layer: int, task: Any) -> Tensor:
    """[N] of a task or tasks: exp(e . G_i) over their sum, e the mean of the embeddings."""
    if adapter.gate is None:
        return torch.full((EXPERTS,), 1 / EXPERTS, dtype=torch.float64)
    of_layer = adapter.config.gate == "per_layer"
    embedding = adapter.gate.embedding[layer] if of_layer else adapter.gate.embedding
    projection = adapter.gate.projection[layer] if of_layer else adapter.gate.projection
    names = (task,) if isinstance(task, str) else task
    e = sum(embedding[TASKS.index(name)] for name in names) / len(names)
    exponentials = [(e * projection[i]).sum().exp() for i in range(EXPERTS)]
    return torch.stack([each / sum(exponentials) for each in exponentials])


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize(("architecture", "scaling"), [("gpt2", "standard"), ("phi", "rslora")])
def test_a_model_equals_the_formula_forward_and_backward(
    architecture: str, scaling: Any, gate: Any, batch: str
) -> None:
    config = MoeLoraConfig(tasks=TASKS, rank=RANK, experts=EXPERTS, alpha=ALPHA, gate=gate, scaling=scaling)
    adapter = inject(tiny(architecture), config).double()
    randomise(adapter)
    tasks, lengths = BATCHES[batch]
    context: AbstractContextManager[None]
    if packed := isinstance(lengths, tuple):
        context, shape = adapter.token_tasks(tasks, lengths), (1, sum(lengths), 32)
    else:
        context, shape = adapter.tasks(tasks), (len(tasks), lengths, 32)
    generator = torch.Generator().manual_seed(9)
    x = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    probe = torch.randn(*shape[:2], 97, generator=generator, dtype=torch.float64)
    inputs = [x, *adapter.adapter_parameters().values()]

    def computed() -> list[Tensor]:
        """Logits, and gradients of the input, every A and B, the embedding and the gate."""
        logits = adapter.model(inputs_embeds=x, use_cache=False).logits
        return [logits.detach(), *torch.autograd.grad((logits * probe).sum(), inputs)]

    with context:
        stacked = computed()
    scale = ALPHA / (RANK**0.5 if scaling == "rslora" else RANK)
    for index, (name, layer) in enumerate(adapter.layers.items()):
        rows = [weights(adapter, index, task) for task in tasks]
        if packed:
            rows = [row for row, length in zip(rows, lengths, strict=True) for _ in range(length)]
        by_row = torch.stack(rows)
        adapter.model.set_submodule(name, Literal(layer, by_row[None] if packed else by_row[:, None], scale))
    wanted = computed()
    for ours, literal in zip(stacked, wanted, strict=True):
        # One token attends to itself whatever its query and key.
        assert literal.abs().max() > 1e-6 or lengths == 1
        assert (ours - literal).abs().max() < 1e-10
