"""Keys and values of rows that are continued together, in memory taken once.

transformers' own growing cache copies all keys at every token, which costs more than the token.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class RowsCache(DynamicCache):
    """``rows`` x ``columns`` keys a layer: a row's prompt from column 0 on, what follows from column
    ``start`` on in all rows, so that each step fills one column."""

    def __init__(self, config: Any, rows: int, columns: int, start: int) -> None:
        super().__init__(config=config)
        self.columns, self.start = columns, start
        self.filled = start
        """Columns in use; the next key goes into the last of them."""
        self._rows = [_Layer(self, rows) for _ in self.layers]
        self.layers = [*self._rows]

    def take(self, packed: DynamicCache, rows: Sequence[int], lengths: Sequence[int]) -> None:
        """The keys of prompts that were read packed, ``lengths`` after one another, for ``rows``."""
        for layer, read in zip(self._rows, packed.layers, strict=True):
            keys: Tensor = read.keys  # type: ignore[union-attr, assignment]
            values: Tensor = read.values  # type: ignore[union-attr, assignment]
            layer.allocate(keys, values)
            start = 0
            for row, length in zip(rows, lengths, strict=True):
                layer.keys[row, :, :length] = keys[0, :, start : start + length]
                layer.values[row, :, :length] = values[0, :, start : start + length]
                start += length

    def keep(self, rows: Tensor) -> None:
        """Drop all other rows."""
        for layer in self._rows:
            layer.batch_select_indices(rows)


class _Layer(DynamicLayer):  # type: ignore[no-untyped-call]
    keys: Tensor
    values: Tensor

    def __init__(self, cache: RowsCache, rows: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.cache, self.rows = cache, rows

    def allocate(self, keys: Tensor, values: Tensor) -> None:
        if self.is_initialized:
            return
        self.dtype, self.device = keys.dtype, keys.device
        # Zeros: what no row sees is multiplied by 0 all the same, and must be a number.
        self.keys, self.values = (
            t.new_zeros(self.rows, t.shape[1], self.cache.columns, t.shape[3]) for t in (keys, values)
        )
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        stop = self.cache.filled
        self.keys[:, :, stop - 1 : stop] = key_states
        self.values[:, :, stop - 1 : stop] = value_states
        return self.keys[:, :, :stop], self.values[:, :, :stop]

    def get_seq_length(self) -> int:
        return self.cache.filled
