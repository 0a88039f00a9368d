"""Greedy answers in batches that mix tasks: prompts are read packed, their answers grow together.

Many more rows are continued together than share a pass of reading, those of like length next to each
other: a step reads all weights of the model once, however many rows it takes further. A row that has ended
leaves as soon as enough of them have.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from pipeline.attention import Tree
from pipeline.evaluate.cache import RowsCache
from pipeline.evaluate.system import Done, System, batches, unwatched

TOGETHER = 16
"""Rows that are continued together may hold this many times the tokens of a pass."""

KEEP = 0.75
"""Rows are dropped once no more than this share goes on: copying the others' keys at every end would
cost more than the rows it saves."""


def generate(
    system: System,
    prompts: Sequence[Sequence[int]],
    tasks: Sequence[str],
    max_new_tokens: int,
    batch_tokens: int,
    done: Done = unwatched,
) -> list[str]:
    """The greedy answer to each prompt, in the order of ``prompts``.

    ``prompts``: token ids. ``tasks``: the task of each. An answer ends at an end token or after
    ``max_new_tokens``; it comes without special tokens and without white space around it.
    """
    answers = [""] * len(prompts)
    together = TOGETHER * batch_tokens if system.packs else 1
    for batch in batches([len(prompt) + max_new_tokens for prompt in prompts], together):
        tokens = _generate(
            system, [prompts[i] for i in batch], [tasks[i] for i in batch], max_new_tokens, batch_tokens
        )
        for i, answer in zip(batch, tokens, strict=True):
            answers[i] = system.tokenizer.decode(answer, skip_special_tokens=True).strip()
        done(len(batch))
    return answers


def _generate(
    system: System,
    prompts: Sequence[Sequence[int]],
    tasks: Sequence[str],
    max_new_tokens: int,
    batch_tokens: int,
) -> list[list[int]]:
    """Token ids of the answers of one batch, end tokens left out."""
    answers: list[list[int]] = [[] for _ in prompts]
    rows = list(range(len(prompts)))  # the prompt that each row of the batch answers
    going = [True] * len(rows)
    logits, cache = _read(system, prompts, tasks, max_new_tokens, batch_tokens)
    read = torch.tensor([len(prompt) for prompt in prompts], device=logits.device)
    stops = system.stops
    for step in range(max_new_tokens):
        chosen = logits.argmax(dim=-1)
        for place, token in enumerate(chosen.tolist()):
            going[place] = going[place] and token not in stops
            if going[place]:
                answers[rows[place]].append(token)
        if not any(going) or step == max_new_tokens - 1:
            break
        if sum(going) <= KEEP * len(rows):
            places = [place for place, goes in enumerate(going) if goes]
            cache.keep(places)
            kept = torch.tensor(places, device=logits.device)
            chosen, read = chosen[kept], read[kept]
            rows = [rows[place] for place in places]
            going = [True] * len(rows)
        logits = system.step([tasks[row] for row in rows], chosen[:, None], read[:, None] + step, cache)
    return answers


def _read(
    system: System,
    prompts: Sequence[Sequence[int]],
    tasks: Sequence[str],
    max_new_tokens: int,
    batch_tokens: int,
) -> tuple[Tensor, Any]:
    """Logits ``[rows, vocabulary]`` after each prompt, and the cache to continue with."""
    lengths = [len(prompt) for prompt in prompts]
    if not system.packs:
        alone = DynamicCache(config=system.model.config)
        trees = [Tree(length) for length in lengths]
        return system.read(tasks, prompts, trees, [lengths[0] - 1], alone), alone
    cache = RowsCache(system.model.config, lengths, max_new_tokens, system.model.device)
    logits: list[Tensor] = [torch.empty(0)] * len(prompts)
    for batch in batches(lengths, batch_tokens):
        read = DynamicCache(config=system.model.config)
        trees = [Tree(lengths[i]) for i in batch]
        ends = (torch.tensor([lengths[i] for i in batch]).cumsum(0) - 1).tolist()
        found = system.read([tasks[i] for i in batch], [prompts[i] for i in batch], trees, ends, read)
        cache.take(read, batch, [lengths[i] for i in batch])
        for i, row in zip(batch, found, strict=True):
            logits[i] = row
    return torch.stack(logits), cache
