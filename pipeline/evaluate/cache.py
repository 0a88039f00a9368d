"""Keys and values of rows that are continued together, in memory taken once.

transformers' own growing cache copies all keys at every token, which costs more than the token,
and keeps each row as wide as the longest.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from pipeline.attention import Rows

NEAR = 0.8
"""Rows whose prompts have at least this share of the longest one's tokens are kept as wide as it."""


class RowsCache(DynamicCache):
    """Keys of rows in blocks of like length: in each, a row's prompt from column 0 on, and what
    follows from the column after the longest prompt on in all rows, so that each step fills one
    column.

        row 1   p p p p p p p a a .      p prompt, a answer so far
        row 2   p p p p p p - a a .
    """

    def __init__(self, config: Any, lengths: Sequence[int], new: int, device: torch.device) -> None:
        """``lengths``: tokens of each row's prompt. ``new``: tokens that may follow each of them."""
        super().__init__(config=config)
        self.new = new
        self.said = 0
        """Tokens that follow the prompts by now."""
        blocks = _blocks(lengths)
        self.places = [(block, row) for block, rows in enumerate(blocks) for row in range(len(rows))]
        self.starts = [max(rows) for rows in blocks]
        self.lengths = [torch.tensor(rows, device=device) for rows in blocks]
        self.visible: list[Tensor] = []
        self._blocks = [_Layer(self) for _ in self.layers]
        self.layers = [*self._blocks]

    def take(self, packed: DynamicCache, rows: Sequence[int], lengths: Sequence[int]) -> None:
        """The keys of prompts that were read packed, ``lengths`` after one another, for ``rows``."""
        for layer, read in zip(self._blocks, packed.layers, strict=True):
            keys: Tensor = read.keys  # type: ignore[union-attr, assignment]
            values: Tensor = read.values  # type: ignore[union-attr, assignment]
            of = list(lengths)
            layer.take(torch.split(keys[0], of, dim=1), torch.split(values[0], of, dim=1), rows)

    def open(self) -> None:
        """The next column, and which columns each row sees from now on."""
        self.said += 1
        self.visible = []
        for start, lengths in zip(self.starts, self.lengths, strict=True):
            column = torch.arange(start + self.said, device=lengths.device)
            seen = (column < lengths[:, None]) | (column >= start)
            self.visible.append(seen[:, None, None])

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all other rows."""
        kept: list[list[int]] = [[] for _ in self.lengths]
        for row in rows:
            block, place = self.places[row]
            kept[block].append(place)
        left = [block for block, places in enumerate(kept) if places]
        chosen = [
            # A block of which every row goes on is not copied.
            None if len(kept[block]) == len(self.lengths[block]) else kept[block]
            for block in left
        ]
        for layer in self._blocks:
            layer.keep(left, chosen)
        self.starts = [self.starts[block] for block in left]
        self.lengths = [_rows(self.lengths[block], rows) for block, rows in zip(left, chosen, strict=True)]
        self.places = [(block, row) for block, rows in enumerate(self.lengths) for row in range(len(rows))]

    def seen(self, layer: int) -> list[Rows]:
        """The blocks of a layer, in the order of the rows."""
        blocks = self._blocks[layer]
        return [
            Rows(keys[:, :, : start + self.said], values[:, :, : start + self.said], visible)
            for keys, values, start, visible in zip(
                blocks.of_keys, blocks.of_values, self.starts, self.visible, strict=True
            )
        ]


class _Layer(DynamicLayer):  # type: ignore[no-untyped-call]
    def __init__(self, cache: RowsCache) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.cache = cache
        self.of_keys: list[Tensor] = []
        self.of_values: list[Tensor] = []
        self.is_initialized = True

    def take(self, keys: Sequence[Tensor], values: Sequence[Tensor], rows: Sequence[int]) -> None:
        cache = self.cache
        for read, blocks in ((keys, self.of_keys), (values, self.of_values)):
            if not blocks:
                heads, _, size = read[0].shape
                blocks += [
                    read[0].new_empty(len(lengths), heads, start + cache.new, size)
                    for start, lengths in zip(cache.starts, cache.lengths, strict=True)
                ]
            for row, prompt in zip(rows, read, strict=True):
                block, place = cache.places[row]
                length, start = prompt.shape[1], cache.starts[block]
                blocks[block][place, :, :length] = prompt
                # What no row sees is multiplied by 0 all the same, and must be a number.
                blocks[block][place, :, length:start] = 0

    def keep(self, blocks: Sequence[int], rows: Sequence[list[int] | None]) -> None:
        self.of_keys, self.of_values = (
            [_rows(of[block], chosen) for block, chosen in zip(blocks, rows, strict=True)]
            for of in (self.of_keys, self.of_values)
        )

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        row = 0
        for keys, values, start in zip(self.of_keys, self.of_values, self.cache.starts, strict=True):
            rows = slice(row, row + len(keys))
            column = start + self.cache.said - 1
            keys[:, :, column] = key_states[rows, :, 0]
            values[:, :, column] = value_states[rows, :, 0]
            row = rows.stop
        return key_states, value_states

    def get_seq_length(self) -> int:
        return max(self.cache.starts) + self.cache.said


def _blocks(lengths: Sequence[int]) -> list[list[int]]:
    """Lengths of rows next to each other that are near enough, by block."""
    blocks: list[list[int]] = []
    for length in lengths:
        if blocks and NEAR * blocks[-1][0] <= length <= blocks[-1][0]:
            blocks[-1].append(length)
        else:
            blocks.append([length])
    return blocks


def _rows(tensor: Tensor, rows: list[int] | None) -> Tensor:
    return tensor if rows is None else tensor[torch.tensor(rows, device=tensor.device)]
