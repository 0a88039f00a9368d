"""Records with a near-duplicate in a stronger split, and near-duplicates with different targets.

Candidates are found by locality-sensitive hashing (see signatures) and compared word by word by
RapidFuzz, so that what is called a near-duplicate is one. Texts of the same words are one text here.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
from rapidfuzz.distance import LCSseq

from pipeline.records import SPLITS
from pipeline.split.parts import Ints, Part
from pipeline.split.signatures import BANDS, Signed

JOIN_ROWS = 1_000_000
"""Pairs of a join, and band values, that are in memory at once."""

Items = npt.NDArray[np.uint32]

STRENGTH = {name: rank for rank, name in enumerate(SPLITS)}
STRONGEST = max(STRENGTH.values())


class Texts:
    """The own words of rows of all parts, read where they are compared."""

    def __init__(self, parts: Sequence[Part], signed: Sequence[Signed]) -> None:
        self._own = [each.own for each in signed]
        self._firsts = np.array([part.first for part in parts], dtype=np.int64)
        lengths = [np.diff(own.ends, prepend=0) for own in self._own]
        self._lengths = np.concatenate(lengths) if lengths else np.zeros(0, dtype=np.int64)
        counts = [np.stack(list(each.counts), axis=1) for each in signed]
        self._counts = np.concatenate(counts) if counts else np.zeros((0, 1), dtype=np.uint8)

    def may_be_near(self, rows: Ints, others: Ints, threshold: float) -> npt.NDArray[np.bool_]:
        """Pairs that do not differ too much in how many words of each kind they have, which costs a
        hundredth of looking at their order."""
        lengths, other_lengths = self._lengths[rows], self._lengths[others]
        most = (1 - threshold) * (lengths + other_lengths) + 1e-9
        possible: npt.NDArray[np.bool_] = np.abs(lengths - other_lengths) <= most
        at = np.flatnonzero(possible)
        unlike = self._counts[rows[at]].astype(np.int16) - self._counts[others[at]]
        possible[at] = np.abs(unlike).sum(axis=1) <= most[at]
        return possible

    def are_near(self, row: int, other: int, threshold: float) -> bool:
        """Whether two rows share ``threshold`` of their own words, in order."""
        words, others = self._of(row), self._of(other)
        least = int(np.ceil(threshold * (len(words) + len(others)) / 2 - 1e-9))
        return LCSseq.similarity(words, others, score_cutoff=least) >= least

    def _of(self, row: int) -> list[int]:
        at = int(np.searchsorted(self._firsts, row, side="right")) - 1
        own = self._own[at]
        words: list[int] = own.hashes[own.span(row - int(self._firsts[at]))].tolist()
        return words


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
            # Of several answers, one at least is another than that of whatever else is near.
            answer=pl.when(pl.col("answer").n_unique() == 1).then(pl.col("answer").min()),
        )
        .sort("row")
        .with_columns(several=pl.col("answer").is_null(), answer=pl.col("answer").fill_null(pl.col("text")))
        .with_columns(item=pl.int_range(pl.len(), dtype=pl.UInt32), task_code=pl.col("task").rank("dense"))
    )
    search = _Search(Texts(parts, signed), items, threshold)
    for buckets in _buckets(signed, items["row"].to_numpy()):
        search.settle(buckets)
    found = items.select(
        "task",
        "text",
        reached=pl.Series(search.reached),
        conflict=pl.when("several").then(pl.lit("same")).when(pl.Series(search.differs)).then(pl.lit("near")),
    )
    joined = records.join(found, on=["task", "text"], how="left", maintain_order="left")
    return joined.with_columns(held_out=strength < pl.col("reached")).drop("reached")


def _buckets(signed: Sequence[Signed], rows: Ints) -> Iterator[pl.DataFrame]:
    """Items that share a band with another: columns bucket, item; some bands at a time."""
    if not signed:
        return
    at_once = max(1, JOIN_ROWS // len(rows))
    for first in range(0, BANDS, at_once):
        frames = []
        for number in range(first, min(first + at_once, BANDS)):
            band = np.concatenate([part.bands[number] for part in signed])[rows]
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
        # What is in conflict with its equals needs no other.
        self.differs = items["several"].to_numpy().copy()

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
        """Pairs in one bucket, some more than once, of which the first may have to be held out or be in
        conflict."""
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
            pairs = part.join(right, on="bucket")
            yield pairs["item"].to_numpy(), pairs["other"].to_numpy()

    def _compare(self, left: Items, right: Items) -> None:
        gains = (self.strongest[right] > self.reached[left]) & (self.weakest[left] < STRONGEST)
        clash = (self.tasks[left] == self.tasks[right]) & (self.answers[left] != self.answers[right])
        open_ = (left != right) & (gains | (clash & ~self.differs[left]))
        left, right = left[open_], right[open_]
        near = self.texts.may_be_near(self.rows[left], self.rows[right], self.threshold)
        # Many meet in several buckets.
        for a, b in np.unique(np.stack([left[near], right[near]], axis=1), axis=0):
            is_clash = self.tasks[a] == self.tasks[b] and self.answers[a] != self.answers[b]
            # An earlier pair may have settled it.
            if self.strongest[b] <= self.reached[a] and (self.differs[a] or not is_clash):
                continue
            if self.texts.are_near(int(self.rows[a]), int(self.rows[b]), self.threshold):
                self.reached[a] = max(self.reached[a], self.strongest[b])
                self.differs[a] |= is_clash
