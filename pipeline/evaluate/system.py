"""A model that answers, and how it reads: prompts packed into a row, or one at a time.

Packed, prompts of any lengths and tasks share a pass without padding, and possible answers stand
behind their question in the same pass. A model whose layers allow no packing (see
pipeline.attention) reads one prompt at a time, with the same results.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from pipeline import attention
from pipeline.attention import Tree
from pipeline.evaluate.cache import RowsCache
from pipeline.moelora.model import MoeLora, Task

Done = Callable[[int], None]
"""Told the number of rows just finished; may raise Stopped."""


def unwatched(_rows: int) -> None:
    """For whoever does not want to be told."""


class Router(Protocol):
    """Whose weights the rows of a batch, or the tokens of a packed row, are computed with."""

    def tasks(self, names: Sequence[Task]) -> AbstractContextManager[Any]: ...

    def token_tasks(self, names: Sequence[Task], lengths: Sequence[int]) -> AbstractContextManager[Any]: ...


@dataclass(frozen=True)
class Bare:
    """The base model below an adapter, whatever the task."""

    adapter: MoeLora

    def tasks(self, _names: Sequence[Task]) -> AbstractContextManager[Any]:
        return self.adapter.disabled()

    def token_tasks(self, _names: Sequence[Task], _lengths: Sequence[int]) -> AbstractContextManager[Any]:
        return self.adapter.disabled()


@dataclass(frozen=True)
class Always:
    """One task, or the mean of several, for every row."""

    adapter: MoeLora
    task: Task

    def tasks(self, names: Sequence[Task]) -> AbstractContextManager[Any]:
        return self.adapter.tasks([self.task] * len(names))

    def token_tasks(self, names: Sequence[Task], lengths: Sequence[int]) -> AbstractContextManager[Any]:
        return self.adapter.token_tasks([self.task] * len(names), lengths)


class System:
    """A causal language model whose rows are computed with their tasks' weights."""

    def __init__(self, model: Any, tokenizer: Any, router: Router) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.router = router
        self.packs = _counts_no_distances(model) and attention.enable(model)
        """Whether several rows share a pass."""
        # Where products are in bfloat16 and attention is not, long prompts attend in it 2.5 times as
        # quickly; training, which goes backward too, gains nothing by it.
        mixed = any(parameter.dtype == torch.bfloat16 for parameter in model.parameters())
        self._reads_in = torch.bfloat16 if mixed else None

    @property
    def stops(self) -> set[int]:
        """Tokens that end an answer: the tokenizer's end and those of the model's own settings."""
        own = getattr(self.model.generation_config, "eos_token_id", None)
        ends = [*(own if isinstance(own, list) else [own]), self.tokenizer.eos_token_id]
        return {end for end in ends if end is not None}

    def read(
        self,
        tasks: Sequence[Task],
        rows: Sequence[Sequence[int]],
        trees: Sequence[Tree],
        keep: Sequence[int],
        cache: Any = None,
    ) -> Tensor:
        """Logits ``[len(keep), vocabulary]`` (float32) at places ``keep`` of the packed ``rows``.

        ``rows``: token ids of each sample, laid out as its tree says; one alone where the system
        does not pack, and then without branches. ``cache`` takes their keys.
        """
        ids = self._tensor([[token for row in rows for token in row]])
        positions = self._tensor([[place for tree in trees for place in tree.positions()]])
        if not self.packs:
            within: AbstractContextManager[Any] = self.router.tasks(tasks)
            inside: AbstractContextManager[Any] = nullcontext()
        else:
            within = self.router.token_tasks(tasks, [tree.length for tree in trees])
            inside = attention.packed(trees, self._reads_in)
        with within, inside:
            return self._forward(ids, positions, cache, self._tensor(keep))[0]

    def step(self, tasks: Sequence[Task], ids: Tensor, positions: Tensor, cache: Any) -> Tensor:
        """Logits ``[rows, vocabulary]`` (float32) after the next token of each row.

        ``ids``, ``positions``: ``[rows, 1]``. ``cache``: a RowsCache; where the system does not
        pack, the one that took the only row.
        """
        inside: AbstractContextManager[Any] = nullcontext()
        if isinstance(cache, RowsCache):
            cache.open()
            inside = attention.continued(cache.seen)
        with self.router.tasks(tasks), inside:
            return self._forward(ids, positions, cache, 1)[:, -1]

    def _forward(self, ids: Tensor, positions: Tensor, cache: Any, keep: Tensor | int) -> Tensor:
        options = {"logits_to_keep": keep, "position_ids": positions}
        known = inspect.signature(self.model.forward).parameters
        with torch.inference_mode():
            logits: Tensor = self.model(
                input_ids=ids,
                past_key_values=cache,
                use_cache=cache is not None,
                **{name: value for name, value in options.items() if name in known},
            ).logits
        if "logits_to_keep" not in known:
            logits = logits[:, -keep:] if isinstance(keep, int) else logits[:, keep]
        return logits.float()

    def _tensor(self, values: Any) -> Tensor:
        return torch.tensor(values, device=self.model.device)


def _counts_no_distances(model: Any) -> bool:
    """Whether no layer asks how far two tokens are apart: rows of one cache have no common measure."""
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    layers = getattr(config, "layer_types", None)
    windows = "sliding_attention" in layers if layers else window is not None
    biased = any("position_bias" in inspect.signature(each.forward).parameters for each in model.modules())
    return not windows and not biased


def batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Indices of rows by batch, longest rows first: the rows of one hold <= ``tokens`` together.

    A row longer than ``tokens`` is a batch of its own. The same lengths give the same batches.
    """
    batch: list[int] = []
    taken = 0
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        length = max(1, lengths[index])
        if batch and taken + length > tokens:
            yield batch
            batch, taken = [], 0
        batch.append(index)
        taken += length
    if batch:
        yield batch
