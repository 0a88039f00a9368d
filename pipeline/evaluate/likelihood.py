"""Answers scored by their likelihood, the prompt computed once.

The score of a choice is the log-probability of the whole answer, its end token included: the
probability that the model answers just that, the quantity that training on answers raises. It
is not divided by length. A mean over tokens would favour long choices whose later tokens
follow from the first ("MATERIALS AND METHODS"); the end token is what tells "METHOD" from
"METHODS".

All choices stand behind their prompt in one pass, and see it and themselves alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.attention import Tree
from pipeline.evaluate.system import Done, System, batches, unwatched


class _Part(NamedTuple):
    """A prompt and some of its answers, which share a pass."""

    prompt: int
    answers: list[int]
    length: int


def log_likelihoods(
    system: System,
    prompts: Sequence[Sequence[int]],
    tasks: Sequence[str],
    answers: Sequence[Sequence[Sequence[int]]],
    batch_tokens: int,
    done: Done = unwatched,
) -> list[list[float]]:
    """Log-probability (nats, summed over tokens) of each answer to each prompt."""
    scores = [[0.0] * len(given) for given in answers]
    parts = [
        part
        for i, given in enumerate(answers)
        for part in _parts(i, len(prompts[i]), given, batch_tokens if system.packs else 0)
    ]
    left = [0] * len(prompts)
    for part in parts:
        left[part.prompt] += 1
    for batch in batches([part.length for part in parts], batch_tokens if system.packs else 1):
        chosen = [parts[i] for i in batch]
        found = _score(
            system,
            [prompts[part.prompt] for part in chosen],
            [tasks[part.prompt] for part in chosen],
            [[answers[part.prompt][i] for i in part.answers] for part in chosen],
        )
        for part, row in zip(chosen, found, strict=True):
            for i, score in zip(part.answers, row, strict=True):
                scores[part.prompt][i] = score
            left[part.prompt] -= 1
        done(sum(left[prompt] == 0 for prompt in {part.prompt for part in chosen}))
    return scores


def _parts(prompt: int, length: int, answers: Sequence[Sequence[int]], tokens: int) -> list[_Part]:
    """The answers of a prompt: all behind it once, or as many at a time as ``tokens`` allow."""
    parts: list[_Part] = []
    for i, answer in enumerate(answers):
        more = len(answer) - 1
        if parts and parts[-1].length + more <= tokens:
            parts[-1] = _Part(prompt, [*parts[-1].answers, i], parts[-1].length + more)
        else:
            parts.append(_Part(prompt, [i], length + more))
    return parts


def _score(
    system: System,
    prompts: Sequence[Sequence[int]],
    tasks: Sequence[str],
    answers: Sequence[Sequence[Sequence[int]]],
) -> list[list[float]]:
    rows = [
        [*prompt, *(token for answer in given for token in answer[:-1])]
        for prompt, given in zip(prompts, answers, strict=True)
    ]
    trees = [
        Tree(len(prompt), tuple(len(answer) - 1 for answer in given))
        if system.packs
        # Alone behind its prompt, an answer goes on with it.
        else Tree(len(row))
        for prompt, row, given in zip(prompts, rows, answers, strict=True)
    ]
    places = _Places()
    for prompt, given in zip(prompts, answers, strict=True):
        places.add(len(prompt), given)
    logits = system.read(tasks, rows, trees, places.keep)
    scores = iter(places.scores(logits))
    return [[next(scores) for _ in given] for given in answers]


class _Places:
    """Where in a packed row the tokens of answers are foretold: each by the place before it, the
    first of every answer by its prompt's last."""

    def __init__(self) -> None:
        self.keep: list[int] = []
        """Places of the row whose logits are wanted."""
        self._foretold: list[tuple[int, int, int]] = []  # place among the kept, token, answer
        self._answers = 0
        self._length = 0

    def add(self, prompt: int, answers: Sequence[Sequence[int]]) -> None:
        """Answers behind a prompt of so many tokens, the next sample of the row."""
        end = len(self.keep)
        self.keep.append(self._length + prompt - 1)
        self._length += prompt
        for answer in answers:
            first = len(self.keep)
            self.keep += range(self._length, self._length + len(answer) - 1)
            self._length += len(answer) - 1
            befores = [end, *range(first, len(self.keep))]
            self._foretold += [
                (before, token, self._answers) for before, token in zip(befores, answer, strict=True)
            ]
            self._answers += 1

    def scores(self, logits: Tensor) -> list[float]:
        """Of each answer, in the order they were added; ``logits [len(keep), vocabulary]``."""
        places, tokens, answers = torch.tensor(self._foretold, device=logits.device).T
        # No softmax of all logits: they are the most memory that a pass takes.
        found = logits[places, tokens] - logits.logsumexp(dim=-1)[places]
        totals = found.new_zeros(self._answers).index_add_(0, answers, found)
        scores: list[float] = totals.tolist()
        return scores
