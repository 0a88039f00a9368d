"""Has the data moved away from the baseline's, beyond chance and by enough to matter?

Compared are the mix of tasks, the mix of languages, and in each task the lengths of inputs and
the labels (the lengths of targets where a task has none), with the counts that the baseline's
profile.json holds.

Records of one patient are no independent draws, so each group is counted by one of its records
(within a task: one of those it has there), drawn by a hash of the record's identity. If both data
sets were drawn alike, their groups could as well have been dealt out to the two anew: the counts
then follow the hypergeometric distribution, whatever the shares are. p of a value is the share of
DRAWS deals (the true one among them) in which some value's share moves as far, in standard errors,
as this value's did: it accounts for all values of a figure (max-T of Westfall and Young). Holm's
method accounts for all figures. So a run in which nothing moved warns with probability LEVEL at
most. Data that holds the baseline's own records again warns even less.

With millions of records every difference is beyond chance. So a share counts as moved only where
it also changed by more than ``validate.max_drift``: a halved or doubled share is a change of 0.5.
Shares that changed less are not tested, which makes p larger, never smaller.

What identifies patients is known only after ``deidentify``, which tests that by itself
(pipeline.deidentify.rates), with LATER of LEVEL.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline import paths
from pipeline.digests import value_digest
from pipeline.errors import InputError

LEVEL = 0.05
"""At most this often a run warns of drift where there is none."""

LATER = 0.01
"""The part of LEVEL that is left to what ``deidentify`` finds."""

DRAWS = 9_999
"""Deals of the groups; as many more as Holm's smallest level needs."""

LEAST_EXPECTED = 5
"""Values expected less often than this, in the smaller data set, are pooled: their standard
errors say little."""

LENGTH_SHARE = 0.1
"""Neighbouring lengths are joined until at least this share of records lies between two edges."""

NAMED_FOR_SURE = 4
"""A label with so many times the records that name it in a profile is named there, chance or not."""

OTHER = "other"
"""The labels that a profile does not name, in pipeline.split."""

REST = "the rest"

Counts = dict[str, int]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Figure:
    """Groups by value, in the baseline and now: of one task, or of all data."""

    name: str
    task: str | None
    before: Counts
    after: Counts

    def __str__(self) -> str:
        return f"{self.name} of {self.task}" if self.task else self.name


@dataclass(frozen=True)
class Judged:
    """A figure and what was found: the values that moved, ``{value: (share before, share now)}``.

    ``p``: Holm's, of the value that moved furthest; None where no share changed enough to be tested.
    """

    figure: Figure
    p: float | None
    moved: dict[str, tuple[float, float]]

    @property
    def change(self) -> float:
        """The largest change of a share that moved, 0 where none did."""
        return max((change(before, after) for before, after in self.moved.values()), default=0.0)


def change(before: float, after: float) -> float:
    """By which part the larger of two shares exceeds the smaller: 0.5 where one is half the other."""
    return abs(after - before) / max(before, after)


def profile(release: str) -> dict[str, Any]:
    """``profile.json`` of the pulled release that drift is measured against.

    Raises InputError where the release is not on this machine, or the file is none of data.
    """
    path = paths.cache_root() / "open" / "releases" / release / "profile.json"
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"validate.baseline: release {release} is not on this machine: run `moelora pull {release}`"
        ) from None
    except ValueError:
        raise InputError(
            f"validate.baseline: profile.json of release {release} is no JSON: "
            f"run `moelora pull {release}` again"
        ) from None
    if not isinstance(found, dict) or not {"tasks", "length_edges"} <= found.keys():
        raise InputError("validate.baseline: profile.json is not a profile of data: name another release")
    return found


def is_comparable(profile: dict[str, Any]) -> bool:
    """Whether a profile counts groups; those of before counted only records."""
    return "independent" in profile


def figures(profile: dict[str, Any], records: pl.DataFrame) -> list[Figure]:
    """What is compared.

    profile: see pipeline.split. records: one of each group and task, see across.independent.
    """
    drawn = records.unique("group", keep="first", maintain_order=True)
    alone, edges = profile["independent"], profile["length_edges"]
    found = [
        Figure("tasks", None, alone["tasks"], _counts(drawn["task"])),
        Figure("languages", None, alone["languages"], _counts(drawn["language"])),
    ]
    now = {str(task): rows for (task,), rows in records.partition_by("task", as_dict=True).items()}
    for task in sorted(profile["tasks"].keys() & now.keys()):
        facts, rows = profile["tasks"][task]["independent"], now[task]
        kinds = ("input_length",) if facts["labels"] is not None else ("input_length", "target_length")
        for kind in kinds:
            lengths = _histogram(rows[kind], edges)
            found.append(Figure(f"{kind}s", task, *_joined(facts[f"{kind}s"], lengths, edges)))
        if facts["labels"] is not None:
            least = _always_named(facts["labels"], profile["labels_named"])
            found.append(Figure("labels", task, *_pooled(facts["labels"], _counts(rows["label"]), least)))
    return found


def _always_named(named: Counts, limits: dict[str, int]) -> int:
    """Records from which on it is all but certain that the profile names a label of a task.

    Near the limits chance decides: those named had many records by luck, and would seem to have
    become fewer.
    """
    labels = [count for label, count in named.items() if label != OTHER]
    return NAMED_FOR_SURE * (min(labels) if len(labels) >= limits["most"] else limits["groups"])


def _pooled(before: Counts, after: Counts, least: int) -> tuple[Counts, Counts]:
    """Both with all labels as OTHER of which, judged by both, the first has fewer than ``least``."""
    first, both = sum(before.values()), sum(before.values()) + sum(after.values())
    kept = {
        label
        for label in before.keys() - {OTHER}
        if (before[label] + after.get(label, 0)) * first >= least * both
    }
    pooled = []
    for side in (before, after):
        counts = {label: side.get(label, 0) for label in sorted(kept)}
        pooled.append(counts | {OTHER: sum(side.values()) - sum(counts.values())})
    return pooled[0], pooled[1]


def _counts(values: pl.Series) -> Counts:
    return dict(sorted(values.value_counts().iter_rows()))


def _histogram(lengths: pl.Series, edges: list[int]) -> list[int]:
    at = np.searchsorted(edges, lengths.to_numpy(), side="right") - 1
    return [int(count) for count in np.bincount(at, minlength=len(edges))]


def _joined(before: list[int], after: list[int], edges: list[int]) -> tuple[Counts, Counts]:
    """Two histograms between the same edges, in bins of LENGTH_SHARE or more of both together."""
    least = LENGTH_SHARE * (sum(before) + sum(after))
    starts, filled = [0], 0
    for bin_, counts in enumerate(zip(before, after, strict=True)):
        if filled >= least:
            starts.append(bin_)
            filled = 0
        filled += sum(counts)
    if filled < least and len(starts) > 1:
        starts.pop()
    ends = [*starts[1:], len(edges)]
    names = [
        f"{edges[start]} characters and more" if end == len(edges) else f"{edges[start]} to {edges[end] - 1}"
        for start, end in zip(starts, ends, strict=True)
    ]
    first, second = (
        {name: sum(counts[start:end]) for name, start, end in zip(names, starts, ends, strict=True)}
        for counts in (before, after)
    )
    return first, second


def judge(compared: list[Figure], least_change: float, level: float = LEVEL - LATER) -> list[Judged]:
    """Test figures together; those in which there is nothing to choose between are left out.

    level: at most so often any share of them counts as moved where none did.
    """
    tables = [(figure, table) for figure in compared if len((table := _table(figure))[0]) > 1]
    draws = max(DRAWS, int(2 * len(tables) / level))
    found = [
        (figure, names, counts, _p(figure, counts, least_change, draws)) for figure, (names, counts) in tables
    ]
    factors = _holm([min(p.values(), default=1.0) for *_, p in found])
    results = []
    for (figure, names, counts, p), factor in zip(found, factors, strict=True):
        before, after = counts / counts.sum(axis=1, keepdims=True)
        moved = {
            names[value]: (float(before[value]), float(after[value]))
            for value, each in p.items()
            if factor * each <= level
        }
        results.append(Judged(figure, min(1.0, factor * min(p.values())) if p else None, moved))
    return results


def _table(figure: Figure) -> tuple[list[str], NDArray[np.int64]]:
    """Values and their counts ``[2, values]`` before and now; no value where a side is empty."""
    names = sorted(figure.before.keys() | figure.after.keys())
    counts = np.array(
        [[side.get(name, 0) for name in names] for side in (figure.before, figure.after)], dtype=np.int64
    )
    sizes = counts.sum(axis=1)
    if not sizes.all():
        return [], counts
    often = counts.sum(axis=0) * (sizes.min() / sizes.sum()) >= LEAST_EXPECTED
    kept = [name for name, enough in zip(names, often, strict=True) if enough]
    rest = counts[:, ~often].sum(axis=1, keepdims=True)
    if not rest.any():
        return kept, counts[:, often]
    return [*kept, REST], np.hstack([counts[:, often], rest])


def _p(figure: Figure, counts: NDArray[np.int64], least_change: float, draws: int) -> dict[int, float]:
    """p of each value whose share changed enough, over all values of the figure."""
    before, after = counts / counts.sum(axis=1, keepdims=True)
    changed = np.abs(after - before) > least_change * np.maximum(before, after)
    if not changed.any():
        return {}
    total = counts.sum(axis=0)
    generator = np.random.default_rng(int(value_digest(["drift", figure.name, figure.task])[:16], 16))
    dealt = generator.multivariate_hypergeometric(total, counts[1].sum(), size=draws, method="marginals")
    furthest = _distances(dealt, counts).max(axis=1)
    distances = _distances(counts[1][None], counts)[0]
    return {
        int(value): float((1 + (furthest >= distances[value]).sum()) / (1 + draws))
        for value in np.flatnonzero(changed)
    }


def _distances(dealt: NDArray[np.int64], counts: NDArray[np.int64]) -> Floats:
    """Standard errors between each share and that of both data sets together ``[draws, values]``."""
    now, total = counts[1].sum(), counts.sum(axis=0)
    share = total / total.sum()
    error = np.sqrt(share * (1 - share) * now)
    distances: Floats = np.abs(dealt - share * now) / error
    return np.round(distances, 9)


def _holm(p: list[float]) -> list[float]:
    """By what each p is multiplied, in Holm's step-down method."""
    factors, last = [0.0] * len(p), 0.0
    for rank, place in enumerate(np.argsort(p, kind="stable")):
        last = max(last, (len(p) - rank) * p[place])
        factors[place] = last / p[place]
    return factors
