"""The loss: cross-entropy of answer tokens alone, weighed by token or by task."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from pipeline.moelora import MoeLora
from pipeline.train.data import Batch, Sample

ROWS = 64
"""Logits of so many tokens at a time, which a processor's cache still holds."""


def token_losses(adapter: MoeLora, row: Batch) -> Tensor:
    """Cross-entropy [K], float32, of every answer token; the head runs at those positions only."""
    output: Any = adapter.model(
        input_ids=row.ids, position_ids=row.positions, use_cache=False, logits_to_keep=row.predicting
    )
    # squeeze, not [0]: the gradient of an index is first zeros of all logits.
    losses: Tensor = _CrossEntropy.apply(output.logits.squeeze(0).float(), row.labels)  # type: ignore[no-untyped-call]
    return losses


class _CrossEntropy(torch.autograd.Function):
    """torch's ``cross_entropy`` without reduction, in the memory of the logits [K, V] themselves.

    They become probabilities, and those the gradient: torch's keeps three tensors of that size, at
    a vocabulary of 49,152 the largest of a training step.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        probabilities = logits.detach()
        losses = []
        for scores, label in zip(torch.split(probabilities, ROWS), torch.split(labels, ROWS), strict=True):
            top, at = scores.max(dim=1)
            wanted = scores.gather(1, label[:, None])[:, 0]
            scores.copy_(torch.softmax(scores, dim=1))
            # By the most likely token, whose probability is never rounded to nothing.
            likeliest = scores.gather(1, at[:, None])[:, 0]
            losses.append(top - likeliest.log() - wanted)
        ctx.save_for_backward(probabilities, labels)
        return torch.cat(losses)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        probabilities, labels = ctx.saved_tensors
        of_logits = probabilities.detach()
        of_logits[torch.arange(len(labels), device=labels.device), labels] -= 1
        return of_logits.mul_(gradient[:, None]), None


def token_shares(samples: Sequence[Sample], loss: str) -> dict[str, float]:
    """What one answer token of each task weighs in a step's loss; over all tokens it sums to 1.

    ``tokens``: all weigh the same. ``tasks``: every task of the step weighs the same, so that one
    with answers of a word is not drowned by one that writes reports.
    """
    counts: dict[str, int] = {}
    for sample in samples:
        counts[sample.task] = counts.get(sample.task, 0) + sample.answer_tokens
    if loss == "tokens":
        return dict.fromkeys(counts, 1 / sum(counts.values()))
    return {task: 1 / (len(counts) * count) for task, count in counts.items()}


def weights(row: Batch, shares: dict[str, float]) -> Tensor:
    """[K] float32: the share of each token that ``row`` predicts."""
    per_sample = torch.tensor([shares[task] for task in row.tasks], device=row.labels.device)
    return per_sample.repeat_interleave(torch.tensor(row.answers, device=row.labels.device))


class TaskSums:
    """Summed token losses and counted tokens of each of ``tasks``, float64 on ``device``."""

    def __init__(self, tasks: Iterable[str], device: str) -> None:
        self.index = {task: i for i, task in enumerate(sorted(tasks))}
        self.values = torch.zeros(2, len(self.index), dtype=torch.float64, device=device)

    def add(self, row: Batch, losses: Tensor) -> None:
        """Add the token losses [K] of ``row``; nothing waits for a GPU here."""
        which = torch.tensor([self.index[task] for task in row.tasks], device=losses.device)
        which = which.repeat_interleave(torch.tensor(row.answers, device=losses.device))
        self.values[0].index_add_(0, which, losses.double())
        self.values[1].index_add_(0, which, torch.ones_like(losses, dtype=torch.float64))

    def totals(self) -> dict[str, float]:
        """Summed loss of each task."""
        return dict(zip(self.index, self.values[0].tolist(), strict=True))

    def means(self) -> dict[str, float]:
        """Mean token loss of each task."""
        return dict(zip(self.index, (self.values[0] / self.values[1]).tolist(), strict=True))
