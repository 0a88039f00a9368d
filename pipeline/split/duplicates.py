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

Items = npt.NDArray[np.uint32]

STRENGTH = {name: rank for rank, name in enumerate(SPLITS)}
STRONGEST = max(STRENGTH.values())


@dataclass(frozen=True)
class Texts:
    """Words of rows of all parts, read where they are compared."""

    parts: Sequence[Part]
    signed: Sequence[Signed]
    firsts: Ints

    @classmethod
    def of_parts(cls, parts: Sequence[Part], signed: Sequence[Signed]) -> "Texts":
        return cls(parts, signed, np.array([part.first for part in parts], dtype=np.int64))

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
    search = _Search(Texts.of_parts(parts, signed), items, threshold)
    for buckets in _buckets(signed, items["row"].to_numpy()):
        search.settle(buckets)
    found = items.select(
        "task",
        "text",
        reached=pl.Series(search.reached),
        conflict=pl.when(pl.col("answers") > 1)
        .then(pl.lit("same"))
        .when(pl.Series(search.differs))
        .then(pl.lit("near")),
    )
    joined = records.join(found, on=["task", "text"], how="left", maintain_order="left")
    return joined.with_columns(held_out=strength < pl.col("reached")).drop("reached")


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


class _Search:
    """What is known of each item so far.

    ``reached`` (i8): the strongest split of its near-duplicates. ``differs`` (bool): one of the same
    task has another answer.
    """

    def __init__(self, texts: Texts, items: pl.DataFrame, threshold: float) -> None:
        self.texts, self.threshold = texts, threshold
        self.rows, self.weakest, self.strongest, self.tasks, self.answers = (
            items[name].to_numpy() for name in ("row", "weakest", "strongest", "task_code", "answer")
        )
        self.reached = items["reached"].to_numpy().copy()
        self.differs = np.zeros(items.height, dtype=bool)

    def settle(self, buckets: pl.DataFrame) -> None:
        """Compare the items of each bucket (columns bucket, item) as far as it may change what is known.

        Each first meets the strongest of its bucket alone, so that of many copies of a text most
        are settled after one comparison.
        """
        item = buckets["item"].to_numpy()
        members = buckets.with_columns(
            weakest=pl.Series(self.weakest[item]),
            strongest=pl.Series(self.strongest[item]),
            task=pl.Series(self.tasks[item]),
            answer=pl.Series(self.answers[item]),
        )
        chiefs = members.sort("bucket", "strongest", "item", descending=[False, True, False]).unique(
            "bucket", keep="first", maintain_order=True
        )
        for others in (chiefs, members):
            for left, right in self._pairs(members, others):
                self._compare(left, right)

    def _pairs(self, members: pl.DataFrame, others: pl.DataFrame) -> Iterator[tuple[Items, Items]]:
        """Pairs in one bucket of which the first may have to be held out, or be in conflict."""
        item = members["item"].to_numpy()
        stronger = pl.col("strongest").max().over("bucket") > pl.Series(self.reached[item])
        open_ = members.select(
            "item",
            "bucket",
            cost=pl.len().over("bucket"),
            gains=stronger & (pl.col("weakest") < STRONGEST),
            clash=(pl.col("answer").n_unique().over("bucket", "task") > 1) & ~pl.Series(self.differs[item]),
        ).filter(pl.col("gains") | pl.col("clash"))
        right = others.select("bucket", other="item")
        batch = pl.col("cost").cum_sum() // JOIN_ROWS
        for part in open_.with_columns(batch=batch).partition_by("batch", maintain_order=True):
            pairs = (
                part.join(right, on="bucket")
                .filter(pl.col("item") != pl.col("other"))
                .select("item", "other")
                .unique()
                .sort("item", "other")
            )
            yield pairs["item"].to_numpy(), pairs["other"].to_numpy()

    def _compare(self, left: Items, right: Items) -> None:
        gains = (self.strongest[right] > self.reached[left]) & (self.weakest[left] < STRONGEST)
        clash = (self.tasks[left] == self.tasks[right]) & (self.answers[left] != self.answers[right])
        open_ = gains | (clash & ~self.differs[left])
        for a, b, is_clash in zip(left[open_], right[open_], clash[open_], strict=True):
            # An earlier pair may have settled it.
            if self.strongest[b] <= self.reached[a] and (self.differs[a] or not is_clash):
                continue
            if _is_near(self.texts, int(self.rows[a]), int(self.rows[b]), self.threshold):
                self.reached[a] = max(self.reached[a], self.strongest[b])
                self.differs[a] |= is_clash


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
