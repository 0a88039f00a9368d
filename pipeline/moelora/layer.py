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

import math
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
        if not self.routing.enabled:
            return self.base(x)  # type: ignore[no-any-return]
        if self.routing.weights is None:
            return self._mixed(x)
        # Operation by operation what PEFT computes from the exported LoRA: logits of a batch
        # of one task are equal to the last bit, where float32 alone would differ by 1e-4.
        y: Tensor = self.base(x)
        h = self._down(x, self.A)
        update = functional.linear(h, self.B * self.routing.weights) * self.routing.scaling
        return y + update.to(y.dtype)

    def _mixed(self, x: Tensor) -> Tensor:
        """Rows or tokens of several tasks, each with its own weights."""
        # Products in the base's dtype, sums over tokens in the matrix product's float32: with a
        # base in bfloat16 a step takes 0.86 of the time that A in float32 would, at the same error.
        weight: Tensor = self.base.weight  # type: ignore[assignment]
        x = x.to(weight.dtype) if weight.is_floating_point() else x
        y: Tensor = self.base(x)
        a, b = self.A.to(x.dtype), self.B.to(y.dtype)
        h = self._down(x, a).to(self.A.dtype)
        h = (h * fit(self.routing.scale, h)).to(b.dtype)
        if torch.is_inference_mode_enabled() and y.is_contiguous():
            y.view(-1, y.shape[-1]).addmm_(h.view(-1, h.shape[-1]), b.T)
            return y
        if y.dtype == h.dtype and y.dim() == 3 and y._base is None:
            # Product and sum in one pass over y; in a view that would cost more than it saves.
            return y.baddbmm_(h, b.T.expand(len(h), -1, -1))
        return y + functional.linear(h, b).to(y.dtype)

    def _down(self, x: Tensor, a: Tensor) -> Tensor:
        """dropout(x) A^T, [.., d_in] -> [.., r] in the dtype of ``a``."""
        if self.training and self.dropout:
            dropped = draw_dropped(x, self.dropout)
            return _DroppedLinear.apply(x, a, dropped)  # type: ignore[no-any-return, no-untyped-call]
        return functional.linear(x.to(a.dtype), a)


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

    Keeps x and where it is dropped for the backward pass instead of the dropped input: query, key
    and value then share one x, where each would keep an input of its own.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, dropped: Tensor) -> Tensor:
        ctx.save_for_backward(x, a, dropped)
        ctx.factor = factor(x, dropped)
        # The factor of what is kept is applied to r numbers of a token, not to d_in.
        h = functional.linear(drop(_copy(x, a.dtype), dropped), a)
        return h.mul_(ctx.factor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None]:
        x, a, dropped = ctx.saved_tensors
        gradient = gradient * ctx.factor
        of_a = gradient.flatten(0, -2).mT @ drop(_copy(x, a.dtype), dropped).flatten(0, -2)
        of_x = drop(gradient @ a, dropped).to(x.dtype) if ctx.needs_input_grad[0] else None
        return of_x, of_a, None


def draw_dropped(x: Tensor, share: float) -> Tensor:
    """Places in the flat ``x`` that dropout zeroes, int64 [k], some of them twice.

    k draws with replacement hit a place with probability 1 - (1 - 1/n)^k, and k is chosen so that
    this is ``share``. At a share of 0.05 a fifth of the random numbers that a decision for each
    place would take, even at four decisions a number: torch's dropout would cost half of what the
    layer that it feeds does.
    """
    n = x.numel()
    draws = round(math.log1p(-share) / math.log1p(-1 / n)) if n > 1 else 0
    return torch.randint(n, (draws,), device=x.device)


def factor(x: Tensor, dropped: Tensor) -> float:
    """What makes up for the dropped: 1 over the probability that a place is kept."""
    n = x.numel()
    return (1 - 1 / n) ** -len(dropped) if n > 1 else 1.0


def drop(x: Tensor, dropped: Tensor) -> Tensor:
    """``x``, which is contiguous, zeroed in place where it is dropped."""
    x.view(-1).index_fill_(0, dropped, 0)
    return x


def _copy(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.to(dtype, copy=True, memory_format=torch.contiguous_format)
