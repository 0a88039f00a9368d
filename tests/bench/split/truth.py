"""Which records have a near-duplicate in a stronger split: by comparing all of them, without MinHash.

Two texts share no more words in order than they share at all: pairs that differ too much in how often
they have the words of each of COUNTERS kinds need no look at the order.
"""

import numpy as np
import polars as pl
from rapidfuzz.distance import LCSseq
from scipy.spatial.distance import cdist

from pipeline.records import SPLITS
from pipeline.split import parts, signatures, wording

BLOCK = 500
"""Records that are compared with all stronger ones at once."""

COUNTERS = 128


def pairs(records: pl.DataFrame, threshold: float) -> set[tuple[str, str]]:
    """Near-duplicates as the stage's docstring says: (sample_id, sample_id of the one in a stronger split).

    ``records``: RECORD_SCHEMA, a split in every row.
    Words, and which are a record's own, are the stage's; what is compared with what is not.
    """
    part = parts.Part("", [], 0, 0, *parts.describe(records))
    shared = wording.of_tasks([part], part.index.with_row_index("row").cast({"row": pl.Int64}))
    mask = wording.own(part.index["task"], part.words, shared)
    _, codes = np.unique(part.words.hashes, return_inverse=True)
    spans = [part.words.span(row) for row in range(records.height)]
    words = [codes[span].tolist() for span in spans]
    own = [codes[span][mask[span]].tolist() for span in spans]
    counts, own_counts = _counts(words), _counts(own)
    ids = records["sample_id"].to_list()
    rank = np.array([SPLITS.index(each) for each in records["split"]])
    found = set()
    for strength in range(len(SPLITS) - 1):
        weak, strong = np.flatnonzero(rank == strength), np.flatnonzero(rank > strength)
        for first in range(0, len(weak), BLOCK):
            block = weak[first : first + BLOCK]
            close = _close(counts, block, strong, threshold) | _close(own_counts, block, strong, threshold)
            for at, to in zip(*np.nonzero(close), strict=True):
                a, b = int(block[at]), int(strong[to])
                if words[a] == words[b] or _is_near(own[a], own[b], threshold):
                    found.add((ids[a], ids[b]))
    return found


def _counts(words: list[list[int]]) -> np.ndarray:
    return np.array([np.bincount(np.array(each, np.int64) % COUNTERS, minlength=COUNTERS) for each in words])


def _close(counts: np.ndarray, weak: np.ndarray, strong: np.ndarray, threshold: float) -> np.ndarray:
    """Which pairs may share ``threshold`` of their words, from how often each has words of each kind."""
    total = counts[weak].sum(1)[:, None] + counts[strong].sum(1)
    return cdist(counts[weak], counts[strong], "cityblock") <= (1 - threshold) * total + 1e-9


def _is_near(own: list[int], others: list[int], threshold: float) -> bool:
    if min(len(own), len(others)) < signatures.MIN_OWN_WORDS:
        return False
    return 2 * LCSseq.similarity(own, others) >= threshold * (len(own) + len(others)) - 1e-9
