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
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

KINDS = {"full_attention", "sliding_attention"}
"""Layers, as configurations name them, whose mask depends on how far apart two tokens are alone."""

_lengths: list[int] | None = None


def enable(model: PreTrainedModel) -> bool:
    """Use it in ``model``; False where its attention cannot be exchanged, is of another kind, or
    where more than attention carries from token to token: samples must then be computed one by
    one, since several architectures ignore restarting position ids and would let samples see one
    another.
    """
    config = model.config.get_text_config()
    exchangeable = model._supports_attention_backend and config._attn_implementation == "sdpa"
    # Chunks count from the row's start; convolutions and states run across samples.
    other = set(getattr(config, "layer_types", None) or ()) - KINDS
    carries = model._is_stateful or any(isinstance(module, torch.nn.Conv1d) for module in model.modules())
    if not exchangeable or other or carries:
        return False
    AttentionInterface.register("packed", _packed)
    AttentionMaskInterface.register("packed", _mask)
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


def _mask(local_size: int | None = None, **_: Any) -> Tensor | None:
    """In the place of a layer's mask: its window alone, None where it has none.

    Not every model hands its window to the attention as well.
    """
    return None if local_size is None else torch.tensor(local_size)


def _packed(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    position_bias: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """[1, heads, T, d] each -> [1, T, heads, d], by samples."""
    if _lengths is None:
        raise ValueError("packed attention runs inside `with packed(lengths)` only")
    if attention_mask is not None and attention_mask.dim():
        raise ValueError("packed attention makes its own masks: call the model without an attention_mask")
    window = None if attention_mask is None else int(attention_mask)
    outputs = []
    start = 0
    for q, k, v in zip(*(torch.split(t, _lengths, dim=2) for t in (query, key, value)), strict=True):
        stop = start + q.shape[2]
        bias = None if position_bias is None else position_bias[..., start:stop, start:stop]
        mask = _window(q, window)
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
