"""Greedy answers in batches that mix tasks, with a key-value cache.

Rows of similar length share a batch, padded on the left, so that all their answers grow from
the last column; a row that has ended leaves the batch as soon as enough of them have.
"""

from collections.abc import Sequence

import torch

from pipeline.evaluate.system import Done, System, batches, unwatched

KEEP = 0.75
"""A batch is narrowed once no more than this share of its rows goes on: copying the cache at
every end would cost more than the rows it saves."""


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
    for batch in batches([len(prompt) for prompt in prompts], batch_tokens):
        tokens = _generate(system, [prompts[i] for i in batch], [tasks[i] for i in batch], max_new_tokens)
        for i, answer in zip(batch, tokens, strict=True):
            answers[i] = system.tokenizer.decode(answer, skip_special_tokens=True).strip()
        done(len(batch))
    return answers


def _generate(
    system: System, prompts: Sequence[Sequence[int]], tasks: Sequence[str], max_new_tokens: int
) -> list[list[int]]:
    """Token ids of the answers of one batch, end tokens left out."""
    answers: list[list[int]] = [[] for _ in prompts]
    rows = list(range(len(prompts)))  # the prompt that each row of the batch answers
    going = [True] * len(rows)
    cache = system.new_cache()
    ids, mask = system.left_padded(prompts)
    stops = system.stops
    for step in range(max_new_tokens):
        logits = system.forward([tasks[row] for row in rows], ids, mask, cache, keep=1)
        chosen = logits[:, -1].argmax(dim=-1)
        for place, token in enumerate(chosen.tolist()):
            going[place] = going[place] and token not in stops
            if going[place]:
                answers[rows[place]].append(token)
        if not any(going) or step == max_new_tokens - 1:
            break
        if sum(going) <= KEEP * len(rows):
            places = [place for place, goes in enumerate(going) if goes]
            kept = torch.tensor(places, device=mask.device)
            cache.batch_select_indices(kept)
            chosen, mask = chosen[kept], mask[kept]
            rows = [rows[place] for place in places]
            going = [True] * len(rows)
        ids = chosen[:, None]
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
    return answers
