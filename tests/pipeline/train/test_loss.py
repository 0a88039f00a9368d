"""Cross-entropy in the memory of its logits, against torch's."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional

from pipeline.train.loss import ROWS, token_losses


def losses_of(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Through a model that answers with ``logits`` [K, V], as its head would: a fresh tensor."""
    row: Any = SimpleNamespace(ids=None, positions=None, predicting=None, labels=labels)
    adapter: Any = SimpleNamespace(model=lambda **_: SimpleNamespace(logits=(logits * 1.0)[None]))
    return token_losses(adapter, row)


@pytest.mark.parametrize("tokens", [1, ROWS, 2 * ROWS + 3])
@pytest.mark.parametrize("size", [1.0, 300.0])
def test_losses_and_gradients_are_those_of_torch(tokens: int, size: float) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = size * torch.randn(tokens, 1000, generator=generator)
    labels = torch.randint(0, 1000, (tokens,), generator=generator)
    shares = torch.rand(tokens, generator=generator)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    found = losses_of(ours, labels)
    (found * shares).sum().backward()
    wanted = functional.cross_entropy(theirs, labels, reduction="none")
    (wanted * shares).sum().backward()
    assert torch.allclose(found, wanted, rtol=1e-6, atol=1e-6 * size)
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.allclose(ours.grad, theirs.grad, rtol=1e-5, atol=1e-7)


def test_logits_that_are_not_finite_are_no_finite_loss() -> None:
    logits = torch.zeros(3, 5)
    logits[1, 2] = torch.nan
    found = losses_of(logits, torch.tensor([0, 1, 2]))
    assert found.isfinite().tolist() == [True, False, True]
