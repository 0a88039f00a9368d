"""Memorisation: random strings half of which were trained on, told from the others or not."""

from typing import Any

import numpy as np
import polars as pl

from pipeline.evaluate.answers import answer_ids
from pipeline.evaluate.choose import log_likelihoods
from pipeline.evaluate.generate import generate
from pipeline.evaluate.statistics import rank_test
from pipeline.evaluate.system import Done, System, unwatched
from pipeline.params import Evaluate
from pipeline.prompts import encode


def measure(
    system: System, canaries: pl.DataFrame, params: Evaluate, done: Done = unwatched
) -> dict[str, Any] | None:
    """Losses of inserted and held-back canaries and the greedy completions among them.

    ``canaries``: ``task, input, target, inserted``. Losses are nats a token of the target. None
    where one of the two kinds is missing: there is nothing to compare then.
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
    recited = [text.startswith(target.strip()) for text, target in zip(texts, targets, strict=True)]
    return {
        "inserted": int(inserted.sum()),
        "held_back": int((~inserted).sum()),
        "loss_inserted": float(losses[inserted].mean()),
        "loss_held_back": float(losses[~inserted].mean()),
        "p": rank_test(losses[inserted], losses[~inserted]),
        "completed": sum(recited),
    }
