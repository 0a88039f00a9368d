"""A model that answers: the batches it computes at once, and the context it computes them in."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Context = Callable[[Sequence[str]], AbstractContextManager[Any]]
"""Given the task of each row of a batch: the context that the model computes the batch in.
``adapter.tasks`` for an adapter, ``lambda tasks: adapter.disabled()`` for the bare base."""

Done = Callable[[int], None]
"""Told the number of rows just finished; may raise Stopped."""


def unwatched(_rows: int) -> None:
    """For whoever does not want to be told."""


@dataclass(frozen=True)
class System:
    """A causal language model under a context that depends on the tasks in a batch."""

    model: Any
    tokenizer: Any
    context: Context

    @property
    def stops(self) -> set[int]:
        """Tokens that end an answer: the tokenizer's end and those of the model's own settings."""
        own = getattr(self.model.generation_config, "eos_token_id", None)
        ends = [*(own if isinstance(own, list) else [own]), self.tokenizer.eos_token_id]
        return {end for end in ends if end is not None}

    @property
    def pad(self) -> int:
        """The token that fills short rows; masked, so that any will do."""
        pad = self.tokenizer.pad_token_id
        return pad if pad is not None else 0

    def forward(self, tasks: Sequence[str], ids: Tensor, mask: Tensor, cache: Any, keep: int) -> Tensor:
        """Logits ``[rows, keep, vocabulary]`` (float32) of the last ``keep`` of ``ids [rows, new]``.

        ``mask [rows, past + new]`` is 1 on real tokens, wherever the padding stands; the
        position of a token is the number of real tokens before it. ``cache`` grows by ``new``.
        """
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        options = {"logits_to_keep": keep, "position_ids": positions}
        known = inspect.signature(self.model.forward).parameters
        with torch.inference_mode(), self.context(tasks):
            logits: Tensor = self.model(
                input_ids=ids,
                attention_mask=mask,
                past_key_values=cache,
                use_cache=True,
                **{name: value for name, value in options.items() if name in known},
            ).logits
        return logits[:, -keep:].float()

    def new_cache(self) -> Any:
        """An empty key-value cache."""
        from transformers import DynamicCache

        return DynamicCache(config=self.model.config)

    def left_padded(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """``ids`` and ``mask``, ``[rows, longest]``, the last token of each row in the last column."""
        longest = max(map(len, rows))
        ids = [[self.pad] * (longest - len(row)) + list(row) for row in rows]
        mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
        device = self.model.device
        return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Indices of rows by batch, longest rows first: padded rows of one batch hold <= ``tokens``.

    A row longer than ``tokens`` is a batch of its own. The same lengths give the same batches.
    """
    batch: list[int] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        if batch and longest * (len(batch) + 1) > tokens:
            yield batch
            batch = []
        if not batch:
            longest = max(1, lengths[index])
        batch.append(index)
    if batch:
        yield batch
