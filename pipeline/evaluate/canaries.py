"""Memorisation: random strings half of which were trained on, told from the others or not.

A string that nobody can guess is learnt by heart or not at all. Those that the adapter has seen
must therefore be as hard for it as those it has not, and none may be completed. *Exposure* says by
how many bits seeing a string has shortened the search for it (Carlini et al., The Secret Sharer,
USENIX Security 2019): log2 of the ways to rank it among the strings held back, less log2 of its
rank by loss.
"""

import math
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline.evaluate.answers import answer_ids
from pipeline.evaluate.generate import generate
from pipeline.evaluate.likelihood import log_likelihoods
from pipeline.evaluate.statistics import rank_test
from pipeline.evaluate.system import Done, System, unwatched
from pipeline.params import Evaluate
from pipeline.prompts import encode


def measure(
    system: System, canaries: pl.DataFrame, params: Evaluate, done: Done = unwatched
) -> dict[str, Any] | None:
    """Losses of canaries seen and held back, their exposure, and the greedy completions among them.

    ``canaries``: ``task, input, target, inserted``. Losses are nats a token of the target,
    exposures bits: the mean over those inserted, what chance gives, and the most there can be.
    None where one of the two kinds is missing: there is nothing to compare then.
    """
    inserted = canaries["inserted"].to_numpy()
    if inserted.all() or not inserted.any():
        return None
    tasks = canaries["task"].to_list()
    targets = canaries["target"].to_list()
    prompts = [encode(system.tokenizer, text, None, params.max_tokens).ids for text in canaries["input"]]
    answers = [answer_ids(system.tokenizer, target, params.max_tokens) for target in targets]
    scores = log_likelihoods(system, prompts, tasks, [[ids] for ids in answers], params.batch_tokens, done)
    losses = np.array([-row[0] / len(ids) for row, ids in zip(scores, answers, strict=True)])
    longest = max(map(len, answers))
    texts = generate(system, prompts, tasks, longest, params.batch_tokens)
    recited = np.array([text.startswith(target.strip()) for text, target in zip(texts, targets, strict=True)])
    seen, held_back = losses[inserted], losses[~inserted]
    return {
        "inserted": len(seen),
        "held_back": len(held_back),
        "loss_inserted": float(seen.mean()),
        "loss_held_back": float(held_back.mean()),
        "p": rank_test(seen, held_back),
        "exposure": float(exposure(seen, held_back).mean()),
        "exposure_by_chance": exposure_by_chance(len(held_back)),
        "exposure_limit": math.log2(len(held_back) + 1),
        "completed": int(recited[inserted].sum()),
        "held_back_completed": int(recited[~inserted].sum()),
    }


def exposure(seen: NDArray[np.float64], held_back: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bits, ``[seen]``: from 0, harder than all held back, to log2(held back + 1), easier than all."""
    ranks = 1 + np.searchsorted(np.sort(held_back), seen, side="left")
    bits: NDArray[np.float64] = math.log2(len(held_back) + 1) - np.log2(ranks)
    return bits


def exposure_by_chance(held_back: int) -> float:
    """The mean exposure of a string that was not learnt: each rank is as likely as any other."""
    ranks = held_back + 1
    return math.log2(ranks) - math.fsum(map(math.log2, range(1, ranks + 1))) / ranks
