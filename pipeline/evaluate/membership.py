"""Membership: can somebody who has a row tell from its loss whether the adapter was trained on it?

The attack is the loss, calibrated for how hard a row is by the bare base's loss on the same row
(Watson et al., On the Importance of Difficulty Calibration in Membership Inference Attacks, ICLR
2022): an adapter lowers the loss of all rows of its tasks, and of those it has seen a little more.
The *gain* is how many times the loss has shrunk, as a logarithm; of a task that is learnt well the
difference of the losses would be the base's loss and little else. The attack's strength is the area
under the ROC curve: the chance that of a training row and an unseen row of the same task the
training row has gained more. One half is a coin, 1 a certain answer. Rows of different tasks are
not compared, since tasks gain unequally.

The test split stands for the unseen, so where an owner's splits differ in kind (other years, other
wards) a part of the area is that difference; the base's loss takes out most of it.
"""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline.evaluate import statistics
from pipeline.evaluate.likelihood import log_likelihoods
from pipeline.evaluate.system import Done, System, unwatched
from pipeline.metrics import Floats
from pipeline.params import Evaluate
from pipeline.prompts import encode

CERTAIN = 1e-6
"""A loss (nats a token) that float32 does not tell from none."""


def measure(
    candidate: System,
    bare: System,
    seen: pl.DataFrame,
    unseen: pl.DataFrame,
    params: Evaluate,
    done: Done = unwatched,
) -> dict[str, Any]:
    """The area with its 95 % interval, and the candidate's mean losses (nats a token of the answer).

    ``auc, low, high`` and the losses are None where there are no rows.
    """
    report: dict[str, Any] = {"rows": len(seen), "unseen_rows": len(unseen)}
    if seen.is_empty() or unseen.is_empty():
        nothing = dict.fromkeys(("auc", "low", "high", "loss_seen", "loss_unseen"))
        return report | nothing
    (losses, gains), (unseen_losses, unseen_gains) = (
        _losses_and_gains(candidate, bare, rows, params, done) for rows in (seen, unseen)
    )
    same_task = seen["task"].to_numpy()[:, None] == unseen["task"].to_numpy()[None, :]
    auc, low, high = area(
        gains,
        unseen_gains,
        same_task,
        seen["group_id"].to_list(),
        unseen["group_id"].to_list(),
        params.resamples,
        statistics.generator(params.seed, "membership", ""),
    )
    mean = {"loss_seen": float(losses.mean()), "loss_unseen": float(unseen_losses.mean())}
    return report | {"auc": auc, "low": low, "high": high} | mean


def gain(losses: Floats, base_losses: Floats) -> Floats:
    """log(base loss / loss) of each row, ``[rows]``."""
    gains: Floats = np.log(np.maximum(base_losses, CERTAIN) / np.maximum(losses, CERTAIN))
    return gains


def area(
    seen: Floats,
    unseen: Floats,
    comparable: NDArray[np.bool_],
    seen_groups: list[str],
    unseen_groups: list[str],
    resamples: int,
    rng: np.random.Generator,
) -> tuple[float, float, float]:
    """Share of the ``comparable`` pairs ``[seen, unseen]`` in which the seen row's value is the larger
    (a tie counts half), with its 95 % bootstrap interval by group."""
    wins = (seen[:, None] > unseen[None, :]) + 0.5 * (seen[:, None] == unseen[None, :])
    auc = float(wins[comparable].mean())
    of_seen = _row_weights(seen_groups, resamples, rng)
    of_unseen = _row_weights(unseen_groups, resamples, rng)
    won = (((wins * comparable).T @ of_seen) * of_unseen).sum(axis=0)
    pairs = ((comparable.astype(np.float64).T @ of_seen) * of_unseen).sum(axis=0)
    # A resample of few rows may hold no pair of one task: it says nothing.
    draws = won[pairs > 0] / pairs[pairs > 0]
    groups = min(len(set(seen_groups)), len(set(unseen_groups)))
    low, high = statistics.interval(auc, draws, statistics.unseen(groups))
    return auc, max(low, 0.0), min(high, 1.0)


def _row_weights(groups: list[str], resamples: int, rng: np.random.Generator) -> Floats:
    """How often each row is drawn, ``[rows, resamples]``: as often as its group."""
    names, index = statistics.group_names(groups)
    return statistics.resampled_weights(len(names), resamples, rng)[index]


def _losses_and_gains(
    candidate: System, bare: System, rows: pl.DataFrame, params: Evaluate, done: Done
) -> tuple[Floats, Floats]:
    """The candidate's loss of each row and its gain, ``[rows]``."""
    encoded = [
        encode(candidate.tokenizer, text, target, params.max_tokens)
        for text, target in rows.select("input", "target").iter_rows()
    ]
    prompts = [row.ids[: row.answer_start] for row in encoded]
    answers = [[row.ids[row.answer_start :]] for row in encoded]
    tokens = np.array([len(ids) for (ids,) in answers])
    losses = []
    for system in (candidate, bare):
        scores = log_likelihoods(system, prompts, rows["task"].to_list(), answers, params.batch_tokens, done)
        losses.append(-np.array([score for (score,) in scores]) / tokens)
    return losses[0], gain(*losses)
