"""Attention inside each sample of a packed row, so that samples never see one another.

transformers' own way with packed rows, where a model has one, is a mask over the whole row:
T x T products for all heads, most of them thrown away.
Registered as the attention implementation ``packed``, this one computes each sample's square
alone, by the same kernel. A sample may fork: after its trunk stand branches, such as the possible
answers to a question, which see the trunk and themselves but not one another.

    trunk . . . . . .  branch . .  branch . . .     one sample; positions go on from the trunk in
    0 1 2 3 4 5 6 7 8  9 10 11 12  9 10 11 12 13    each branch
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

KINDS = {"full_attention", "sliding_attention"}
"""Layers, as configurations name them, whose mask depends on how far apart two tokens are alone."""


class Tree(NamedTuple):
    """Lengths of a sample's parts, tokens."""

    trunk: int
    branches: tuple[int, ...] = ()

    @property
    def length(self) -> int:
        return self.trunk + sum(self.branches)

    def positions(self) -> list[int]:
        """The position of each token in its text."""
        return [*range(self.trunk), *(self.trunk + i for branch in self.branches for i in range(branch))]


class Rows(NamedTuple):
    """Keys and values that rows of like length see, [rows, key heads, columns, d] each, where
    ``visible`` [rows, 1, 1, columns] is true."""

    keys: Tensor
    values: Tensor
    visible: Tensor


_trees: list[Tree] | None = None
_dtype: torch.dtype | None = None
_blocks: Callable[[int], Sequence[Rows]] | None = None


def enable(model: PreTrainedModel) -> bool:
    """Use it in ``model``; False where its attention cannot be exchanged, is of another kind, or
    where more than attention carries from token to token: samples must then be computed one by
    one, since several architectures ignore restarting position ids and would let samples see one
    another.
    """
    config = model.config.get_text_config()
    if config._attn_implementation == "packed":
        return True
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
def packed(samples: Sequence[int | Tree], dtype: torch.dtype | None = None) -> Iterator[None]:
    """Within, the model's input is one row: samples of these lengths after one another.

    ``dtype``: what samples attend in, where that is not the model's own.
    """
    global _trees, _dtype
    before = _trees, _dtype
    _trees = [sample if isinstance(sample, Tree) else Tree(sample) for sample in samples]
    _dtype = dtype
    try:
        yield
    finally:
        _trees, _dtype = before


@contextmanager
def continued(blocks: Callable[[int], Sequence[Rows]]) -> Iterator[None]:
    """Within, the model's input is the next token of each row, [rows, 1], and sees the keys of the
    ``blocks`` of a layer, which come in the order of the rows."""
    global _blocks
    before, _blocks = _blocks, blocks
    try:
        yield
    finally:
        _blocks = before


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
    """[rows, heads, T, d] each -> [rows, T, heads, d]: a packed row by samples, or the next token of
    each row."""
    if attention_mask is not None and attention_mask.dim():
        raise ValueError("packed attention makes its own masks: call the model without an attention_mask")
    window = None if attention_mask is None else int(attention_mask)
    if _blocks is not None:
        if window is not None or position_bias is not None:
            raise ValueError("rows of a model with sliding windows or biases are continued one at a time")
        return _next(query, _blocks(module.layer_idx), kwargs.get("scaling")), None  # type: ignore[arg-type]
    if _trees is None:
        raise ValueError("packed attention runs inside `with packed(lengths)` only")
    outputs = []
    start = 0
    own = query.dtype
    if _dtype is not None:
        query, key, value = (t.to(_dtype) for t in (query, key, value))
    lengths = [tree.length for tree in _trees]
    parts = zip(_trees, *(torch.split(t, lengths, dim=2) for t in (query, key, value)), strict=True)
    for tree, q, k, v in parts:
        stop = start + tree.length
        bias = None if position_bias is None else position_bias[..., start:stop, start:stop]
        outputs += _of_tree(module, tree, q, k, v, window, bias, kwargs)
        start = stop
    return torch.cat(outputs, dim=1).to(own), None


def _next(query: Tensor, blocks: Sequence[Rows], scaling: float | None) -> Tensor:
    """Of each row's next token: [rows, heads, 1, d] -> [rows, 1, heads, d].

    Heads that share a key are the queries of one product, which then reads the key once.
    """
    outputs = []
    for part, (keys, values, visible) in zip(
        torch.split(query, [len(block.keys) for block in blocks]), blocks, strict=True
    ):
        shared = part.reshape(len(part), keys.shape[1], -1, part.shape[-1])
        found = functional.scaled_dot_product_attention(
            shared, keys, values, attn_mask=visible, scale=scaling
        )
        outputs.append(found.reshape(len(part), 1, query.shape[1], -1))
    return torch.cat(outputs)


def _of_tree(
    module: torch.nn.Module,
    tree: Tree,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    window: int | None,
    bias: Tensor | None,
    options: dict[str, Any],
) -> list[Tensor]:
    """What the trunk sees, and what the branches see."""
    n = tree.trunk

    def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, of_part: Tensor | None) -> Tensor:
        return sdpa_attention_forward(module, q, k, v, mask, position_bias=of_part, **options)[0]

    mask = _window(n, window, query.device)
    if tree.length == n:
        return [attend(query, key, value, mask, bias)]
    trunk, branches = slice(n), slice(n, None)
    q, k, v = (t[:, :, trunk] for t in (query, key, value))
    return [
        attend(q, k, v, mask, _part(bias, trunk, trunk)),
        attend(query[:, :, branches], key, value, _fork(tree, window, query.device), _part(bias, branches)),
    ]


def _part(bias: Tensor | None, rows: slice, columns: slice = slice(None)) -> Tensor | None:
    return None if bias is None else bias[..., rows, columns]


def _window(length: int, size: int | None, device: torch.device) -> Tensor | None:
    """True where a position sees another at most ``size - 1`` back; None where all are near enough."""
    if size is None or length <= size:
        return None
    back = torch.arange(length, device=device)
    distance = back[:, None] - back[None, :]
    return ((distance >= 0) & (distance < size))[None, None]


def _fork(tree: Tree, size: int | None, device: torch.device) -> Tensor:
    """[1, 1, branch tokens, all tokens]: true where a token of a branch sees another."""
    position = torch.tensor(tree.positions(), device=device)
    branch = torch.tensor(
        [-1] * tree.trunk + [i for i, length in enumerate(tree.branches) for _ in range(length)],
        device=device,
    )
    distance = position[tree.trunk :, None] - position[None, :]
    same = (branch[tree.trunk :, None] == branch[None, :]) | (branch[None, :] < 0)
    seen = same & (distance >= 0)
    return (seen if size is None else seen & (distance < size))[None, None]
