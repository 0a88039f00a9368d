"""Records with a near-duplicate in a stronger split, and near-duplicates with different targets.

Candidates are found by locality-sensitive hashing (see signatures) and compared word by word by
RapidFuzz, so that what is called a near-duplicate is one. Texts of the same words are one text here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from rapidfuzz.distance import LCSseq

from pipeline.records import SPLITS
from pipeline.split.parts import Hashes, Ints, Part
from pipeline.split.signatures import BANDS

JOIN_ROWS = 4_000_000
"""Pairs of a join, and band values, that are in memory at once."""

Signed = tuple[Hashes, npt.NDArray[np.bool_]]

STRENGTH = {name: rank for rank, name in enumerate(SPLITS)}


@dataclass(frozen=True)
class Texts:
    """Words of rows of all parts, read where they are compared."""

    parts: Sequence[Part]
    signed: Sequence[Signed]
    firsts: Ints

    def of(self, row: int) -> tuple[list[int], list[int]]:
        """All words of a row, and those of its own."""
        at = int(np.searchsorted(self.firsts, row, side="right")) - 1
        part = self.parts[at]
        span = part.words.span(row - part.first)
        words, own = part.words.hashes[span], self.signed[at][1][span]
        return words.tolist(), words[own].tolist()


def find(
    parts: Sequence[Part], signed: Sequence[Signed], records: pl.DataFrame, threshold: float
) -> pl.DataFrame:
    """``records`` with ``held_out`` and ``conflict``.

    ``records`` has row, task, split, text and answer of all parts, in their order. ``held_out``
    (bool): a stronger split has the same words or a near-duplicate. ``conflict``: "same" where a
    record of the task with the same words has another answer, "near" where only a near-duplicate
    has, else null. ``threshold``: share of words, in order, that makes two texts near-duplicates.
    """
    strength = pl.col("split").replace_strict(STRENGTH, return_dtype=pl.Int8)
    items = (
        records.with_columns(strength=strength, strongest=strength.max().over("text"))
        .group_by("task", "text")
        .agg(
            row=pl.col("row").min(),
            weakest=pl.col("strength").min(),
            strongest=pl.col("strength").max(),
            # Of another task too: texts of the same words are in one bucket only where wording is alike.
            reached=pl.col("strongest").first(),
            answer=pl.col("answer").min(),
            answers=pl.col("answer").n_unique(),
        )
        .sort("row")
        .with_columns(item=pl.int_range(pl.len(), dtype=pl.UInt32), task_code=pl.col("task").rank("dense"))
    )
    reached, differs = _compare(parts, signed, items, threshold)
    found = items.select(
        "task",
        "text",
        reached=pl.Series(reached),
        conflict=pl.when(pl.col("answers") > 1)
        .then(pl.lit("same"))
        .when(pl.Series(differs))
        .then(pl.lit("near")),
    )
    joined = records.join(found, on=["task", "text"], how="left", maintain_order="left")
    return joined.with_columns(held_out=strength < pl.col("reached")).drop("reached")


def _compare(
    parts: Sequence[Part], signed: Sequence[Signed], items: pl.DataFrame, threshold: float
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.bool_]]:
    """For each item the strongest split of its near-duplicates, and whether one of the same task has
    another answer."""
    texts = Texts(parts, signed, np.array([part.first for part in parts], dtype=np.int64))
    rows: Ints = items["row"].to_numpy()
    facts = {name: items[name].to_numpy() for name in ("weakest", "strongest", "task_code", "answer")}
    reached = items["reached"].to_numpy().copy()
    differs = np.zeros(items.height, dtype=bool)
    for buckets in _buckets(signed, rows):
        for left, right in _candidates(buckets, facts, reached, differs):
            # What an earlier pair has settled needs no comparison.
            gains = (facts["strongest"][right] > reached[left]) & (facts["weakest"][left] < 2)
            clash = (facts["task_code"][left] == facts["task_code"][right]) & (
                facts["answer"][left] != facts["answer"][right]
            )
            open_ = gains | (clash & ~differs[left])
            for a, b, is_clash in zip(left[open_], right[open_], clash[open_], strict=True):
                if facts["strongest"][b] <= reached[a] and (differs[a] or not is_clash):
                    continue
                if _is_near(texts, int(rows[a]), int(rows[b]), threshold):
                    reached[a] = max(reached[a], facts["strongest"][b])
                    differs[a] |= is_clash
    return reached, differs


def _buckets(signed: Sequence[Signed], rows: Ints) -> Iterator[pl.DataFrame]:
    """Items that share a band with another: columns bucket, item; some bands at a time."""
    if not signed:
        return
    at_once = max(1, JOIN_ROWS // len(rows))
    for first in range(0, BANDS, at_once):
        values = np.concatenate([part[0][first : first + at_once] for part in signed], axis=1)[:, rows]
        frames = []
        for number, band in enumerate(values):
            item = np.flatnonzero(band)
            frame = pl.DataFrame({"value": band[item], "item": item.astype(np.uint32)})
            frames.append(
                frame.filter(pl.col("value").is_duplicated()).with_columns(band=pl.lit(number, pl.UInt8))
            )
        yield pl.concat(frames).select("item", bucket=pl.struct("band", "value").rank("dense"))


def _candidates(
    buckets: pl.DataFrame,
    facts: dict[str, npt.NDArray[np.generic]],
    reached: npt.NDArray[np.int8],
    differs: npt.NDArray[np.bool_],
) -> Iterator[tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]]:
    """Pairs of items in one bucket of which the first may have to be held out, or be in conflict.

    Each item first meets the strongest of its bucket alone, so that of many copies of a text most
    are settled after one comparison.
    """
    item = buckets["item"].to_numpy()
    members = buckets.with_columns(
        strongest=pl.Series(facts["strongest"][item]),
        task=pl.Series(facts["task_code"][item]),
        answer=pl.Series(facts["answer"][item]),
    )
    chief = members.sort("bucket", "strongest", "item", descending=[False, True, False]).unique(
        "bucket", keep="first", maintain_order=True
    )
    yield from _pairs(members, chief, facts, reached, differs)
    yield from _pairs(members, members, facts, reached, differs)


def _pairs(
    members: pl.DataFrame,
    others: pl.DataFrame,
    facts: dict[str, npt.NDArray[np.generic]],
    reached: npt.NDArray[np.int8],
    differs: npt.NDArray[np.bool_],
) -> Iterator[tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]]:
    item = members["item"].to_numpy()
    of_bucket = members.select(
        item="item",
        bucket="bucket",
        cost=pl.len().over("bucket"),
        gains=pl.Series(facts["weakest"][item] < 2)
        & (pl.col("strongest").max().over("bucket") > pl.Series(reached[item])),
        clash=(pl.col("answer").n_unique().over("bucket", "task") > 1) & ~pl.Series(differs[item]),
    ).filter(pl.col("gains") | pl.col("clash"))
    right = others.select("bucket", other="item")
    batch = pl.col("cost").cum_sum() // JOIN_ROWS
    for part in of_bucket.with_columns(batch=batch).partition_by("batch", maintain_order=True):
        pairs = (
            part.join(right, on="bucket")
            .filter(pl.col("item") != pl.col("other"))
            .select("item", "other")
            .unique()
            .sort("item", "other")
        )
        yield pairs["item"].to_numpy(), pairs["other"].to_numpy()


def _is_near(texts: Texts, row: int, other: int, threshold: float) -> bool:
    """Whether two texts share ``threshold`` of their own words in order; of the shorter's own words
    alone where they also share as much of all words, for an edit of a template's wording adds words
    to the own ones."""
    (all_a, own_a), (all_b, own_b) = texts.of(row), texts.of(other)
    least = threshold * min(len(own_a), len(own_b))
    shared = LCSseq.similarity(own_a, own_b, score_cutoff=int(np.ceil(least - 1e-9)))
    if shared < least - 1e-9:
        return False
    if 2 * shared >= threshold * (len(own_a) + len(own_b)) - 1e-9:
        return True
    return bool(2 * LCSseq.similarity(all_a, all_b) >= threshold * (len(all_a) + len(all_b)) - 1e-9)
