"""The gate: expert weights from a task's name, never from the input.

    w[t, :] = softmax( E[t] G^T )        E [n_tasks, 64] task embedding,  G [N, 64], no bias

One gate is shared by all layers (the paper's variant). No top-k, temperature, noise or
load-balance loss. Weights are constant for a task: that is what makes an exact LoRA for each
task possible.
"""

import hashlib
import math

import torch
from torch import Tensor, nn

EMBEDDING_SIZE = 64


def generator(*names: object) -> torch.Generator:
    """A CPU generator seeded by SHA-256 of ``names``: a tensor's first values depend on its own
    name only, so that one more task or layer moves no other."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


class Gate(nn.Module):
    """Task embeddings [n_tasks, 64] and their projection [N, 64], float32."""

    def __init__(self, tasks: tuple[str, ...], experts: int, seed: int) -> None:
        super().__init__()
        rows = [torch.randn(EMBEDDING_SIZE, generator=generator(seed, "task", task)) for task in tasks]
        self.embedding = nn.Parameter(torch.stack(rows))
        # As nn.Linear begins: uniform within 1 / sqrt(inputs).
        bound = 1 / math.sqrt(EMBEDDING_SIZE)
        first = torch.empty(experts, EMBEDDING_SIZE)
        self.projection = nn.Parameter(first.uniform_(-bound, bound, generator=generator(seed, "gate")))

    def forward(self, mixture: Tensor) -> Tensor:
        """Weights [rows, N], each row summing to 1.

        ``mixture`` [rows, n_tasks]: how each row averages the task embeddings; one-hot for one
        task, 1/k at each of k tasks.
        """
        return torch.softmax(mixture @ self.embedding @ self.projection.T, dim=-1)
