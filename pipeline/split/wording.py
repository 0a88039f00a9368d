"""What the records of a task share: instructions, options, templates.

Two records of one template are not near-duplicates; what is compared is what each says beside it.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.split.parts import Hashes, Ints, Part, Words

SHINGLE = 3
"""Words of a shingle."""

TEMPLATE_GROUPS = 4
TEMPLATE_SHARE = 0.02
"""A shingle in more groups of a task than both of these is the task's wording, not a record's."""

SAMPLE_GROUPS = 2_000
SAMPLE_ROWS = 8
"""Groups of a task, and rows of each, that the shares are taken from; bounds memory."""

Wording = Mapping[str, Hashes]
"""The sorted shingles that are each task's wording."""


def of_tasks(parts: Sequence[Part], records: pl.DataFrame) -> Wording:
    """The wording of each task in ``records``, the index of all parts with ``row``.

    Taken from the groups whose pseudonyms sort first, which is a draw by chance that changes
    little as data grows.
    """
    drawn = (
        records.select("row", "task", "group_id", "sample_id")
        .filter(pl.col("group_id").rank("dense").over("task") <= SAMPLE_GROUPS)
        .filter(pl.col("sample_id").rank("ordinal").over("task", "group_id") <= SAMPLE_ROWS)
        .sort("task", "row")
    )
    return {
        str(task): _shared(parts, rows["row"].to_numpy(), rows["group_id"])
        for (task,), rows in drawn.group_by("task", maintain_order=True)
    }


def _shared(parts: Sequence[Part], rows: Ints, groups: pl.Series) -> Hashes:
    words = gather(parts, rows)
    start, shingle = windows(words)
    group = groups.rank("dense").to_numpy()[words.row()[start]]
    counts = pl.DataFrame({"group": group, "shingle": shingle}).unique().group_by("shingle").len("groups")
    least = max(TEMPLATE_GROUPS, TEMPLATE_SHARE * groups.n_unique())
    return counts.filter(pl.col("groups") > least)["shingle"].sort().to_numpy()


def gather(parts: Sequence[Part], rows: Ints) -> Words:
    """The words of rows (ascending numbers among all)."""
    found, lengths = [], []
    firsts = [part.first for part in parts]
    for row, at in zip(rows, np.searchsorted(firsts, rows, side="right") - 1, strict=True):
        part = parts[at]
        found.append(part.words.hashes[part.words.span(int(row) - part.first)])
        lengths.append(len(found[-1]))
    hashes: Hashes = np.concatenate(found) if found else np.zeros(0, dtype=np.uint64)
    return Words(hashes, np.cumsum(lengths, dtype=np.int64))


def windows(words: Words) -> tuple[Ints, Hashes]:
    """Start and hash of each run of SHINGLE words within one row."""
    row = words.row()
    last = SHINGLE - 1
    start: Ints = np.flatnonzero(row[last:] == row[: max(0, len(row) - last)])
    hashes: Hashes = np.zeros(len(start), dtype=np.uint64)
    for offset in range(SHINGLE):
        hashes = mix(hashes ^ words.hashes[start + offset])
    return start, hashes


def mix(value: Hashes) -> Hashes:
    """splitmix64: 64-bit numbers to others, without collisions."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def own(tasks: pl.Series, words: Words, wording: Wording) -> npt.NDArray[np.bool_]:
    """Which words are a row's own: in no shingle of the wording of its task (``tasks``: one a row)."""
    start, shingle = windows(words)
    shared = start[_is_shared(tasks, words.row()[start], shingle, wording)]
    mask = np.ones(len(words.hashes), dtype=bool)
    for offset in range(SHINGLE):
        mask[shared + offset] = False
    return mask


def _is_shared(tasks: pl.Series, row: Ints, shingle: Hashes, wording: Wording) -> npt.NDArray[np.bool_]:
    codes = tasks.rank("dense").to_numpy()[row]
    shared = np.zeros(len(row), dtype=bool)
    for code, task in enumerate(tasks.unique().sort(), 1):
        known = wording[task]
        if len(known):
            at = np.flatnonzero(codes == code)
            place = np.searchsorted(known, shingle[at]).clip(max=len(known) - 1)
            shared[at] = known[place] == shingle[at]
    return shared
