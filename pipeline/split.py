"""Divide the de-identified records into train, validation and test.

    python -m pipeline.split

Reads ``data/deidentified/*.parquet``; writes ``data/split/{train,validation,test}.parquet``
(the record's columns without ``split``, sorted by task and sample_id) and
``reports/split.json``.

- A group (patient, document) is never in two splits. Where the data's owner named a split for a
  record, the whole group goes there; a group without one goes by a hash of its pseudonym, which
  no other record can change.
- A record whose near-duplicate sits in a stronger split (test > validation > train) is held out
  and counted, also when that near-duplicate is held out itself. Near-duplicates have the same
  words, or a Jaccard similarity of word 5-grams of at least ``split.near_duplicate``; wording
  that a task's records share (instructions, options, templates) is set aside before, and where
  fewer than five words are left, only the same words count.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline import paths
from pipeline.errors import DataError
from pipeline.files import new_folder
from pipeline.params import Params, Split
from pipeline.records import CHOICE_TASK_TYPES, RECORD_SCHEMA, SPLITS
from pipeline.stage import Progress, Report, main

SHINGLE = 5
"""Words of a shingle."""

TEMPLATE_GROUPS = 4
TEMPLATE_SHARE = 0.05
"""A shingle in more groups of a task than both of these is the task's wording, not a record's."""

BATCH_ROWS = 20_000_000
"""Rows of a join made at once when near-duplicates are looked for; bounds memory."""

LENGTH_EDGES = (0, 50, 100, 150, 200, 300, 400, 600, 800, 1200, 1600, 2400, 3200, 4800, 6400, 12800)
"""Lower edges, in characters, of the profile's length histograms; the last one is open."""

MAX_LABELS = 64
MIN_LABEL_GROUPS = 5
"""A task's label is named in the profile when at least this many groups have it."""

# One word: a run of letters and digits, or a single character of scripts without spaces.
WORD = r"[\p{Han}\p{Hiragana}\p{Katakana}]|[\w--[\p{Han}\p{Hiragana}\p{Katakana}]]+"

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]


def run(params: Params, progress: Progress) -> Report:
    """Split what is in ``data/deidentified``; returns the report. See the module's docstring."""
    records = _read()
    progress.update(1, 3, "records read")
    records = assign(records, params.split)
    progress.update(2, 3, "groups assigned")
    records = records.with_columns(held_out=near_duplicates(records, params.split.near_duplicate))
    kept = records.filter(~pl.col("held_out"))
    with new_folder(paths.SPLIT) as folder:
        for name in SPLITS:
            rows = kept.filter(pl.col("split") == name)
            rows.select(column for column in RECORD_SCHEMA if column != "split").write_parquet(
                folder / f"{name}.parquet"
            )
    progress.update(3, 3, "near-duplicates held out")
    return report(records)


def _read() -> pl.DataFrame:
    shards = sorted(paths.DEIDENTIFIED.glob("*.parquet"))
    if not shards:
        raise DataError(f"{paths.DEIDENTIFIED} holds no records: run the deidentify stage first")
    columns = list(RECORD_SCHEMA)
    try:
        # The cast also gives a column without any value its type, on which the bytes depend.
        frame = pl.concat([pl.read_parquet(shard, columns=columns).cast(RECORD_SCHEMA) for shard in shards])
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"{paths.DEIDENTIFIED} has a shard that is no table of records ({type(error).__name__}): "
            "run the deidentify stage again"
        ) from None
    if frame["group_id"].has_nulls() or frame["sample_id"].is_duplicated().any():
        raise DataError(
            f"{paths.DEIDENTIFIED} has a row without group_id or a sample_id twice: "
            "run the deidentify stage again"
        )
    return frame.sort("task", "sample_id")


def assign(records: pl.DataFrame, params: Split) -> pl.DataFrame:
    """``records`` with every ``split`` filled in: the owner's, else the group's.

    A group with an owner's split for some records goes there with the others (to the strongest
    where there are several); the groups left go by hash.
    """
    owners = (
        records.filter(pl.col("split").is_not_null())
        .group_by("group_id")
        .agg(pl.col("split").cast(pl.Enum(SPLITS)).max().cast(pl.String).alias("owner"))
    )
    groups = records["group_id"].unique()
    hashed = pl.DataFrame({"group_id": groups, "hashed": [by_hash(group, params) for group in groups]})
    return (
        records.join(hashed, on="group_id", how="left")
        .join(owners, on="group_id", how="left")
        .with_columns(split=pl.coalesce("split", "owner", "hashed"))
        .drop("owner", "hashed")
        .sort("task", "sample_id")
    )


def by_hash(group: str, params: Split) -> str:
    """The split of a group that its owner put nowhere; depends on its pseudonym alone."""
    fraction = int.from_bytes(hashlib.sha256(group.encode()).digest()[:8]) / 2**64
    if fraction < params.test:
        return "test"
    return "validation" if fraction < params.test + params.validation else "train"


def near_duplicates(records: pl.DataFrame, threshold: float) -> pl.Series:
    """Whether each record has a near-duplicate in a stronger split (bool, in the order given).

    ``records`` has task, group_id, input and a split in every row; ``threshold`` is the Jaccard
    similarity from which two inputs count as the same.
    """
    rows = records.select(
        row=pl.int_range(pl.len(), dtype=pl.Int64),
        task=pl.col("task"),
        group=pl.col("group_id").rank("dense").cast(pl.Int64),
        strength=pl.col("split").replace_strict(
            {name: rank for rank, name in enumerate(SPLITS)}, return_dtype=pl.Int8
        ),
        words=pl.col("input").str.to_lowercase().str.extract_all(WORD),
    )
    identical = (
        pl.when(pl.col("words").list.len() > 0)
        .then(pl.col("words").list.join(" "))
        .otherwise(records["input"].str.strip_chars())
    )
    twins = rows.select("row", held=pl.col("strength") < pl.col("strength").max().over(identical))
    held = set(twins.filter("held")["row"])
    # What identity has settled needs no comparison on the weaker side.
    sets = _shingle_sets(rows).join(rows.select("row", "strength"), on="row")
    weaker = sets.filter((pl.col("strength") < 2) & ~pl.col("row").is_in(list(held)))
    stronger = sets.filter(pl.col("strength") > 0)
    for similar in _similar(weaker, stronger, threshold):
        held |= set(similar)
    return pl.Series("held_out", np.isin(np.arange(records.height), sorted(held)))


def _shingle_sets(rows: pl.DataFrame) -> pl.DataFrame:
    """The set of shingles of each row's own wording: columns row (i64), shingle (u64), size.

    Words covered by a shingle that many groups of the task have are taken out first; the rest,
    pulled together, is what is compared. A row with less than a shingle left has none: two
    questions that share a template and a topic of three words are different questions.
    """
    words = rows.select("row", "words").explode("words").drop_nulls()
    row: Ints = words["row"].to_numpy()
    # Codes by sorted order: the same for the same data, whatever the order of rows.
    vocabulary = words["words"].unique().sort()
    code: Hashes = words["words"].cast(pl.Enum(vocabulary)).to_physical().to_numpy().astype(
        np.uint64
    ) + np.uint64(1)
    del words
    start, shingle = _windows(row, code)
    shared = _task_wording(rows, row[start], shingle)
    template = np.zeros(len(row), dtype=bool)
    for offset in range(SHINGLE):
        template[start[shared] + offset] = True
    row, code = row[~template], code[~template]
    start, shingle = _windows(row, code)
    return (
        pl.DataFrame({"row": row[start], "shingle": shingle})
        .unique()
        .with_columns(size=pl.len().over("row").cast(pl.Int64))
    )


def _windows(row: Ints, code: Hashes) -> tuple[Ints, Hashes]:
    """Start and hash of each run of SHINGLE words within one row."""
    last = SHINGLE - 1
    start: Ints = np.flatnonzero(row[last:] == row[: max(0, len(row) - last)])
    hashes: Hashes = np.zeros(len(start), dtype=np.uint64)
    for offset in range(SHINGLE):
        hashes = _mix(hashes ^ code[start + offset])
    return start, hashes


def _mix(value: Hashes) -> Hashes:
    """splitmix64: one 64-bit number to another, without collisions."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def _task_wording(rows: pl.DataFrame, row: Ints, shingle: Hashes) -> npt.NDArray[np.bool_]:
    """Which of the shingles (of these rows) are their task's wording."""
    task = rows["task"].rank("dense").cast(pl.Int32).to_numpy()
    group = rows["group"].to_numpy()
    at = pl.DataFrame({"task": task[row], "group": group[row], "shingle": shingle})
    sizes = rows.group_by(pl.col("task").rank("dense").cast(pl.Int32)).agg(groups=pl.col("group").n_unique())
    common = (
        at.unique()
        .group_by("task", "shingle")
        .len("in_groups")
        .filter(pl.col("in_groups") > TEMPLATE_GROUPS)
        .join(sizes, on="task")
        .filter(pl.col("in_groups") > TEMPLATE_SHARE * pl.col("groups"))
        .select("task", "shingle", common=pl.lit(True))
    )
    return (
        at.join(common, on=["task", "shingle"], how="left", maintain_order="left")["common"]
        .fill_null(False)
        .to_numpy()
    )


def _similar(weaker: pl.DataFrame, stronger: pl.DataFrame, threshold: float) -> Iterator[pl.Series]:
    """Rows of ``weaker`` with a Jaccard similarity of ``threshold`` to a row of ``stronger``.

    Exact, by prefix filtering (Bayardo, Ma, Srikant: Scaling Up All Pairs Similarity Search,
    WWW 2007): with shingles in one global order, rarest first, two sets that are similar enough
    share one of their first ``size - ceil(threshold * size) + 1``, so rare shingles alone find
    all candidates.
    """
    order = pl.concat([weaker, stronger]).unique(["row", "shingle"]).group_by("shingle").len("rows")

    def prefixes(sets: pl.DataFrame) -> pl.DataFrame:
        rank = pl.struct("rows", "shingle").rank("ordinal").over("row")
        length = pl.col("size") - (threshold * pl.col("size") - 1e-9).ceil() + 1
        return sets.join(order, on="shingle").filter(rank <= length).drop("rows")

    weak, strong = prefixes(weaker), prefixes(stronger)
    weak_sets, strong_sets = weaker.select("row", "shingle"), stronger.select("shingle", row_strong="row")
    meetings = weak.join(strong.group_by("shingle").len("cost"), on="shingle")
    for rows in _batches(meetings.group_by("row").agg(pl.col("cost").sum())):
        pairs = (
            weak.join(rows, on="row", how="semi")
            .join(strong, on="shingle", suffix="_strong")
            .filter(
                pl.col("strength") < pl.col("strength_strong"),
                pl.min_horizontal("size", "size_strong")
                >= threshold * pl.max_horizontal("size", "size_strong") - 1e-9,
            )
            .select("row", "row_strong", "size", "size_strong")
            .unique()
        )
        for part in _batches(pairs.with_columns(cost="size")):
            shared = (
                part.join(weak_sets, on="row")
                .join(strong_sets, on=["row_strong", "shingle"], how="semi")
                .group_by("row", "row_strong", "size", "size_strong")
                .len("shared")
            )
            union = pl.col("size") + pl.col("size_strong") - pl.col("shared")
            yield shared.filter(pl.col("shared") >= threshold * union - 1e-9)["row"]


def _batches(rows: pl.DataFrame) -> list[pl.DataFrame]:
    """``rows`` in parts whose column ``cost`` (rows a join will make) sums to about BATCH_ROWS."""
    batch = pl.col("cost").cast(pl.Int64).cum_sum() // BATCH_ROWS
    return rows.with_columns(batch=batch).partition_by("batch", include_key=False)


def report(records: pl.DataFrame) -> Report:
    """Counts of ``records``, which carry ``split`` and ``held_out``; see the module's docstring.

    ``lacking`` names the tasks without a row in a split. ``profile`` describes all records that
    came in, and holds no text but names of tasks, languages and common labels.
    """
    place = pl.when("held_out").then(pl.lit("held_out")).otherwise("split").alias("place")
    counts = records.group_by("task", place).len()
    tasks: dict[str, dict[str, int]] = {
        task: dict.fromkeys((*SPLITS, "held_out"), 0) for task in sorted(records["task"].unique())
    }
    for task, name, count in counts.iter_rows():
        tasks[task][name] = count
    held_out = sum(places["held_out"] for places in tasks.values())
    return {
        "rows": {"in": records.height, "out": records.height - held_out, "held_out": held_out},
        "splits": {name: sum(places[name] for places in tasks.values()) for name in SPLITS},
        "tasks": tasks,
        "lacking": {name: [task for task, places in tasks.items() if not places[name]] for name in SPLITS},
        "profile": profile(records),
    }


def profile(records: pl.DataFrame) -> dict[str, Any]:
    """Counts and histograms of the data, for a release and for measuring drift against it.

    ``{"rows", "languages", "task_types", "length_edges", "labels_named", "independent", "tasks":
    {task: {"rows", "groups", "task_type", "languages", "input_lengths", "target_lengths", "labels",
    "independent"}}}``. Lengths are characters, counted between ``length_edges``. ``labels`` is null
    unless the task offers every record the same choices: options made for one record may identify
    somebody. ``labels_named`` says how many groups name a label, and how many are named at most.

    ``independent`` counts one record of each group, drawn by its pseudonym: languages and tasks of
    all data, lengths and labels within each task. Tests of drift need independent draws.
    """
    by_pseudonym = records.sort("sample_id")
    drawn = by_pseudonym.unique("group_id", keep="first")
    by_task = by_pseudonym.unique(["group_id", "task"], keep="first").partition_by("task", as_dict=True)
    return {
        "rows": records.height,
        "languages": _counts(records["language"]),
        "task_types": _counts(records["task_type"]),
        "length_edges": list(LENGTH_EDGES),
        "labels_named": {"groups": MIN_LABEL_GROUPS, "most": MAX_LABELS},
        "independent": {"languages": _counts(drawn["language"]), "tasks": _counts(drawn["task"])},
        "tasks": {
            task: {
                "rows": rows.height,
                "groups": rows["group_id"].n_unique(),
                "task_type": rows["task_type"].sort()[0],
                "languages": _counts(rows["language"]),
                **_distributions(rows),
                "independent": _distributions(by_task[task,]),
            }
            for (task,), rows in sorted(records.partition_by("task", as_dict=True).items())
        },
    }


def _distributions(rows: pl.DataFrame) -> dict[str, Any]:
    return {
        "input_lengths": _histogram(rows["input"]),
        "target_lengths": _histogram(rows["target"]),
        "labels": _labels(rows),
    }


def _counts(values: pl.Series) -> dict[str, int]:
    return {str(value): count for value, count in sorted(values.value_counts().iter_rows())}


def _histogram(texts: pl.Series) -> list[int]:
    at = np.searchsorted(LENGTH_EDGES, texts.str.len_chars().to_numpy(), side="right") - 1
    return [int(count) for count in np.bincount(at, minlength=len(LENGTH_EDGES))]


def _labels(rows: pl.DataFrame) -> dict[str, int] | None:
    """Rows by label; rare labels, and those past MAX_LABELS, are pooled as ``other``."""
    choice = set(rows["task_type"]) <= set(CHOICE_TASK_TYPES)
    if not choice or rows["answer_choices"].list.sort().n_unique() > 1 or rows["answer_choices"].has_nulls():
        return None
    labels = rows.group_by("target").agg(rows=pl.len(), groups=pl.col("group_id").n_unique())
    named = labels.filter(pl.col("groups") >= MIN_LABEL_GROUPS).sort(
        "rows", "target", descending=[True, False]
    )
    counts = dict(sorted(named.head(MAX_LABELS).select("target", "rows").iter_rows()))
    other = rows.height - sum(counts.values())
    return counts | ({"other": counts.get("other", 0) + other} if other else {})


if __name__ == "__main__":
    main("split", run)
