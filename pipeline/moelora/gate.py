"""The gate: expert weights from a task's name, never from the input.

    w[t, :] = softmax( E[t] G^T )        E [n_tasks, 64] task embedding,  G [N, 64], no bias

One gate is shared by all layers (the paper's variant), or every layer has its own E and G (the
ablation of the paper's code); then all are computed at once, stacked. No top-k, temperature,
noise or load-balance loss. Weights are constant for a task: that is what makes an exact LoRA for
each task possible.
"""

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

EMBEDDING_SIZE = 64


def generator(*names: object) -> torch.Generator:
    """A CPU generator seeded by SHA-256 of ``names``: a tensor's first values depend on its own
    name only, so that one more task or layer moves no other."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


class Gate(nn.Module):
    """Task embeddings [n_tasks, 64] and their projection [N, 64], float32; with ``layers``, one of
    each for every name: [layers, n_tasks, 64] and [layers, N, 64], in that order."""

    def __init__(
        self, tasks: Sequence[str], experts: int, seed: int, layers: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        if layers is None:
            embedding, projection = _embedding(tasks, seed), _projection(experts, seed)
        else:
            embedding = torch.stack([_embedding(tasks, seed, layer) for layer in layers])
            projection = torch.stack([_projection(experts, seed, layer) for layer in layers])
        self.embedding = nn.Parameter(embedding)
        self.projection = nn.Parameter(projection)

    def forward(self, mixture: Tensor) -> Tensor:
        """Weights [rows, N] or [layers, rows, N]; the experts' sum to 1.

        ``mixture`` [rows, n_tasks]: how each row averages the task embeddings; one-hot for one
        task, 1/k at each of k tasks.
        """
        return torch.softmax(mixture @ self.embedding @ self.projection.mT, dim=-1)


def _embedding(tasks: Sequence[str], seed: int, *layer: str) -> Tensor:
    rows = [torch.randn(EMBEDDING_SIZE, generator=generator(seed, "task", task, *layer)) for task in tasks]
    return torch.stack(rows)


def _projection(experts: int, seed: int, *layer: str) -> Tensor:
    # As nn.Linear begins: uniform within 1 / sqrt(inputs).
    bound = 1 / math.sqrt(EMBEDDING_SIZE)
    first = torch.empty(experts, EMBEDDING_SIZE)
    return first.uniform_(-bound, bound, generator=generator(seed, "gate", *layer))
