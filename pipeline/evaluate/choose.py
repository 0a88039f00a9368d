"""Choices scored by their likelihood, the prompt computed once.

The score of a choice is the log-probability of the whole answer, its end token included: the
probability that the model answers just that, the quantity that training on answers raises. It
is not divided by length. A mean over tokens would favour long choices whose later tokens
follow from the first ("MATERIALS AND METHODS"); the end token is what tells "METHOD" from
"METHODS".
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pipeline.evaluate.system import Done, System, batches, unwatched

SPREAD = 4
"""The cache of a batch's prompts, repeated for each choice, may hold this many times the tokens
of a batch; further choices are scored in a pass of their own."""


def choose(
    system: System,
    prompts: Sequence[Sequence[int]],
    tasks: Sequence[str],
    choices: Sequence[Sequence[Sequence[int]]],
    batch_tokens: int,
    done: Done = unwatched,
) -> list[int]:
    """Index of the likeliest choice for each prompt; the first of equals.

    ``choices``: for each prompt the token ids of its choices, end tokens included.
    """
    scores = log_likelihoods(system, prompts, tasks, choices, batch_tokens, done)
    return [max(range(len(row)), key=row.__getitem__) for row in scores]


def log_likelihoods(
    system: System,
    prompts: Sequence[Sequence[int]],
    tasks: Sequence[str],
    answers: Sequence[Sequence[Sequence[int]]],
    batch_tokens: int,
    done: Done = unwatched,
) -> list[list[float]]:
    """Log-probability (nats, summed over tokens) of each answer to each prompt."""
    scores: list[list[float]] = [[] for _ in prompts]
    for batch in batches([len(prompt) for prompt in prompts], batch_tokens):
        found = _score(
            system,
            [prompts[i] for i in batch],
            [tasks[i] for i in batch],
            [answers[i] for i in batch],
            batch_tokens,
        )
        for i, row in zip(batch, found, strict=True):
            scores[i] = row
        done(len(batch))
    return scores


def _score(
    system: System,
    prompts: Sequence[Sequence[int]],
    tasks: Sequence[str],
    answers: Sequence[Sequence[Sequence[int]]],
    batch_tokens: int,
) -> list[list[float]]:
    cache = system.new_cache()
    ids, mask = system.left_padded(prompts)
    first = system.forward(tasks, ids, mask, cache, keep=1)[:, -1].log_softmax(dim=-1).cpu()
    scores = [[float(first[row, answer[0]]) for answer in given] for row, given in enumerate(answers)]
    # Answers of like length share a pass; one of a single token is scored by the prompt's own.
    places = [
        (row, i) for row, given in enumerate(answers) for i, answer in enumerate(given) if len(answer) > 1
    ]
    places.sort(key=lambda place: -len(answers[place[0]][place[1]]))
    while places:
        longest = len(answers[places[0][0]][places[0][1]]) - 1
        together = max(1, SPREAD * batch_tokens // (ids.shape[1] + longest))
        chunk, places = places[:together], places[together:]
        rows = torch.tensor([row for row, _ in chunk], device=mask.device)
        rest = _score_rest(
            system,
            [tasks[row] for row, _ in chunk],
            [answers[row][i] for row, i in chunk],
            mask[rows],
            _rows_of(cache, rows),
        )
        for (row, i), score in zip(chunk, rest, strict=True):
            scores[row][i] += score
    return scores


def _score_rest(
    system: System, tasks: Sequence[str], answers: Sequence[Sequence[int]], mask: Tensor, cache: Any
) -> list[float]:
    """Summed log-probability of the tokens after the first of each answer, ``[rows]``."""
    longest = max(map(len, answers)) - 1
    padding = [[system.pad] * (longest + 1 - len(answer)) for answer in answers]
    tokens = torch.tensor([[*a, *p] for a, p in zip(answers, padding, strict=True)], device=mask.device)
    real = torch.tensor([[1] * (len(a) - 1) + [0] * len(p) for a, p in zip(answers, padding, strict=True)])
    real = real.to(mask)
    logits = system.forward(tasks, tokens[:, :-1], torch.cat([mask, real], dim=1), cache, keep=longest)
    scores = logits.log_softmax(dim=-1).gather(2, tokens[:, 1:, None])[:, :, 0]
    totals: list[float] = (scores * real).sum(dim=1).tolist()
    return totals


def _rows_of(cache: Any, rows: Tensor) -> Any:
    """The cache of some rows, repeats allowed; ``cache`` itself stays as it is."""
    chosen = copy.copy(cache)
    chosen.layers = [copy.copy(layer) for layer in cache.layers]
    chosen.batch_select_indices(rows)
    return chosen
