"""A frozen linear layer with a mixture of low-rank experts beside it.

    y = x W0^T + (alpha / r) * sum_i  w[t, i] * (dropout(x) A_i^T) B_i^T

              x [.., d_in]
              |------------------.
              |               dropout
              |                  |
              |               A^T [d_in, r]      the N experts' A_i [r/N, d_in] stacked
              |                  |
        W0^T, frozen      * scale [.., r]        (alpha/r) * w[t], each weight r/N times;
              |                  |               alpha/sqrt(r) with rsLoRA
              |               B^T [r, d_out]     the N experts' B_i [d_out, r/N] side by side
              |                  |
              '-------( + )------'
                        |
                    y [.., d_out]

Stacked, the experts cost what a plain LoRA of rank r costs, because

    sum_i  w_i B_i A_i  =  [ w_1 B_1 | ... | w_N B_N ] [ A_1 ; ... ; A_N ]

Formula, first values and scaling as in the code of Q. Liu et al., "When MOE Meets LLMs",
SIGIR 2024, arXiv 2310.18339. One difference: a single dropout mask for the stacked input,
where that code draws one for each expert; the same at dropout 0 and in evaluation.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.moelora.gate import generator


@dataclass
class Routing:
    """What layers apply now; ``MoeLora`` sets it, layers read it. One for all layers of a model,
    or one for each where each has its own gate."""

    scaling: float
    """alpha / r, or alpha / sqrt(r)."""

    weights: Tensor | None = None
    """[r], float32: one task for the whole batch, each expert's weight r/N times."""

    scale: Tensor | None = None
    """[B, 1, r] or [1, T, r], float32: ``scaling`` times the weights, by rows or tokens."""

    enabled: bool = True
    """False: the bare base model."""


class MoeLoraLinear(nn.Module):
    """``base`` (nn.Linear, or transformers' Conv1D) plus the stacked experts A [r, d_in] and
    B [d_out, r], float32 whatever the base's dtype."""

    def __init__(self, base: nn.Module, name: str, rank: int, dropout: float, seed: int, routing: Routing):
        super().__init__()
        self.base = base
        self.dropout = dropout
        self.routing = routing
        d_in, d_out = features(base)
        device = next(base.parameters()).device
        first = torch.empty(rank, d_in).normal_(0, 0.01, generator=generator(seed, "A", name))
        self.A = nn.Parameter(first.to(device))
        self.B = nn.Parameter(torch.zeros(d_out, rank, device=device))

    def forward(self, x: Tensor) -> Tensor:
        """[.., d_in] -> [.., d_out] in the base's dtype."""
        y: Tensor = self.base(x)
        if not self.routing.enabled:
            return y
        if self.training and self.dropout:
            keep = kept(x, self.dropout)
            h: Tensor = _DroppedLinear.apply(x, self.A, keep, self.dropout)  # type: ignore[no-untyped-call]
        else:
            h = functional.linear(x.to(self.A.dtype), self.A)
        if self.routing.weights is None:
            update = functional.linear(h * fit(self.routing.scale, h), self.B)
        else:
            # Operation by operation what PEFT computes from the exported LoRA: logits of a batch
            # of one task are equal to the last bit, where float32 alone would differ by 1e-4.
            update = functional.linear(h, self.B * self.routing.weights) * self.routing.scaling
        return y + update.to(y.dtype)


def features(linear: nn.Module) -> tuple[int, int]:
    """(d_in, d_out) of a linear layer; transformers' Conv1D keeps its weight as [d_in, d_out]."""
    if isinstance(linear, nn.Linear):
        return linear.in_features, linear.out_features
    d_in, d_out = linear.weight.shape  # type: ignore[misc, union-attr]
    return int(d_in), int(d_out)


def fit(scale: Tensor | None, h: Tensor) -> Tensor:
    """``scale`` [B, 1, r] or [1, T, r] in a shape that broadcasts over ``h`` [B, S, r].

    Some models flatten a batch to [B * S, r] inside their blocks; each row's weights are then
    repeated for its positions. Raises ValueError where the shapes do not fit: a wrong
    broadcast would be silent.
    """
    if scale is None:
        raise ValueError("no task is set: run the model inside `with adapter.tasks([...])`")
    if h.dim() == 2:
        batch, positions, rank = scale.shape
        if positions > 1 or batch == 1:
            scale = scale.reshape(-1, rank)
        elif len(h) % batch == 0:
            scale = scale[:, 0].repeat_interleave(len(h) // batch, dim=0)
    pairs = zip(scale.shape[:-1], h.shape[:-1], strict=False)
    if h.dim() != scale.dim() or any(size not in (1, wanted) for size, wanted in pairs):
        raise ValueError(
            f"tasks are set for {tuple(scale.shape[:-1])} rows and positions, "
            f"the batch has {tuple(h.shape[:-1])}"
        )
    return scale


class _DroppedLinear(torch.autograd.Function):
    """dropout(x) A^T, [.., d_in] -> [.., r] in A's dtype.

    Keeps x and one byte a decision for the backward pass instead of the dropped input: query, key
    and value then share one x, where each would keep an input of its own.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, keep: Tensor, share: float) -> Tensor:
        ctx.save_for_backward(x, a, keep)
        ctx.share = share
        return functional.linear(drop(x.to(a.dtype), keep, share), a)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x, a, keep = ctx.saved_tensors
        h = drop(x.to(a.dtype), keep, ctx.share)
        of_a = gradient.flatten(0, -2).mT @ h.flatten(0, -2)
        of_x = drop(gradient @ a, keep, ctx.share).to(x.dtype) if ctx.needs_input_grad[0] else None
        return of_x, of_a, None, None


def kept(x: Tensor, share: float) -> Tensor:
    """Which numbers of ``x`` dropout keeps, bool in its shape; ``share`` is met to 1/65536.

    On a processor, four decisions are cut from each 64-bit random number, at a third of the
    cost of torch's dropout, which would be half of that of the layer it feeds.
    """
    if x.device.type != "cpu":
        return torch.empty_like(x, dtype=torch.bool).bernoulli_(1 - round(share * 2**16) / 2**16)
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    return bits.view(torch.int16)[: x.numel()].view(x.shape) >= round(share * 2**16) - 2**15


def drop(x: Tensor, keep: Tensor, share: float) -> Tensor:
    """Inverted dropout: ``x`` where it is kept, as much larger as keeps its mean, 0 elsewhere."""
    return torch.where(keep, x, 0) * (2**16 / (2**16 - round(share * 2**16)))
