"""Attention inside each sample of a packed row, so that samples never see one another.

transformers' own way with packed rows, where a model has one, is a mask over the whole row:
T x T products for all heads, most of them thrown away.
Registered as the attention implementation ``packed``, this one computes each sample's square
alone, by the same kernel.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

_lengths: list[int] | None = None


def enable(model: PreTrainedModel) -> bool:
    """Use it in ``model``; False where its attention cannot be exchanged or where more than
    attention carries from token to token: samples must then be computed one by one, since
    several architectures ignore restarting position ids and would let samples see one another.
    """
    exchangeable = model._supports_attention_backend and model.config._attn_implementation == "sdpa"
    if not exchangeable or model._is_stateful:
        return False
    AttentionInterface.register("packed", _packed)
    model.set_attn_implementation("packed")
    return True


@contextmanager
def packed(lengths: Sequence[int]) -> Iterator[None]:
    """Within, the model's input is one row: samples of ``lengths`` tokens after one another."""
    global _lengths
    before, _lengths = _lengths, list(lengths)
    try:
        yield
    finally:
        _lengths = before


def _packed(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001 (never made for this implementation)
    sliding_window: int | None = None,
    position_bias: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """[1, heads, T, d] each -> [1, T, heads, d], by samples."""
    if _lengths is None:
        raise ValueError("packed attention runs inside `with packed(lengths)` only")
    outputs = []
    start = 0
    for q, k, v in zip(*(torch.split(t, _lengths, dim=2) for t in (query, key, value)), strict=True):
        stop = start + q.shape[2]
        bias = None if position_bias is None else position_bias[..., start:stop, start:stop]
        mask = _window(q, sliding_window)
        outputs.append(sdpa_attention_forward(module, q, k, v, mask, position_bias=bias, **kwargs)[0])
        start = stop
    return torch.cat(outputs, dim=1), None


def _window(query: Tensor, size: int | None) -> Tensor | None:
    """True where a position sees another at most ``size - 1`` back; None where all are near enough."""
    length = query.shape[2]
    if size is None or length <= size:
        return None
    back = torch.arange(length, device=query.device)
    distance = back[:, None] - back[None, :]
    return ((distance >= 0) & (distance < size))[None, None]
