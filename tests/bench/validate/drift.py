"""How often drift is found where there is none, and where a task's share was halved.

A draw is two data sets of patients with one to five records, most of them in one task; lengths,
labels and the language go by the patient too. The one becomes a profile as pipeline.split makes it,
the other a shard as pipeline.ingest does: what is measured is the stage's own code, all tests of a
run together.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline.deidentify import rates as identifiers
from pipeline.records import INGESTED_SCHEMA
from pipeline.split.parts import describe
from pipeline.split.profile import profile
from pipeline.validate import drift
from pipeline.validate.across import independent
from tests.bench.table import Row

TASKS = 10
CHOICE_TASKS = 5
LABELS = [f"label {number:02d}" for number in range(60)]
IDENTIFIERS = (0.6, 0.4, 0.2, 0.1, 0.05, 0.02, 0.01, 0.002)
"""Shares of patients whose record holds an identifier of a kind."""
MAX_DRIFT = 0.2
TEXT = "x" * 20_000

Shares = NDArray[np.float64]


def patients(groups: int, shares: Shares, rng: np.random.Generator) -> pl.DataFrame:
    """Records of ``groups`` patients; a tenth of a patient's spread in everything is its own."""
    group = np.repeat(np.arange(groups), rng.integers(1, 6, groups))
    rows = len(group)
    home, elsewhere = (rng.choice(TASKS, size, p=shares) for size in (groups, rows))
    task = np.where(rng.random(rows) < 0.7, home[group], elsewhere)
    own = rng.normal(0, 0.4, groups)[group]
    lengths = np.exp(rng.normal(5.5, 0.5, rows) + own + 0.1 * task).clip(1, len(TEXT)).astype(np.int64)
    answers = np.exp(rng.normal(3, 0.5, rows) + own).clip(1, len(TEXT)).astype(np.int64)
    labels = (6 * np.abs(rng.normal(0, 1, rows) + 3 * own)).clip(0, len(LABELS) - 1).astype(np.int64)
    facts = pl.DataFrame({"task": task, "lengths": lengths, "answers": answers, "labels": labels})
    choice = pl.col("task") < CHOICE_TASKS
    return facts.select(
        sample_id=pl.Series(rng.permutation(rows)).cast(pl.String).str.zfill(9),
        task_type=pl.when(choice).then(pl.lit("classification")).otherwise(pl.lit("summarization")),
        task=pl.format("task-{}", "task"),
        input=pl.lit(TEXT).str.slice(0, "lengths"),
        target=pl.when(choice)
        .then(pl.Series(LABELS).gather(labels))
        .otherwise(pl.lit(TEXT).str.slice(0, "answers")),
        answer_choices=pl.when(choice).then(pl.lit(LABELS, pl.List(pl.String))),
        group_id=pl.Series(group).cast(pl.String),
        language=pl.Series(np.where(rng.random(groups) < 0.15, "zh", "en")[group]),
        source=pl.lit("clinic"),
        split=pl.lit(None, pl.String),
    )


def judged(before: pl.DataFrame, now: pl.DataFrame, folder: Path) -> list[drift.Judged]:
    """What validate finds in ``now`` against the profile of ``before``."""
    shard = folder / f"{'a' * 16}.parquet"
    owner = {"task_label": "", "shard": shard.stem}
    numbered = now.with_columns(
        *(pl.lit(value, pl.String).alias(name) for name, value in owner.items()),
        line=pl.int_range(1, pl.len() + 1, dtype=pl.Int64),
    )
    numbered.select(list(INGESTED_SCHEMA)).write_parquet(shard)
    return drift.judge(drift.figures(profile(describe(before)[0]), independent([shard])), MAX_DRIFT)


def identified(groups: int, rng: np.random.Generator) -> identifiers.Rates:
    """Patients by what their records hold; who holds one kind holds others too."""
    much = rng.random(groups)
    kinds = [(much < 1.5 * share) & (rng.random(groups) < 2 / 3) for share in IDENTIFIERS]
    return {"groups": groups, "kinds": {f"kind {n}": int(each.sum()) for n, each in enumerate(kinds)}}


def halved(task: int) -> Shares:
    shares = np.full(TASKS, 1 / TASKS)
    shares[task] /= 2
    return shares / shares.sum()


def rates(draws: int, groups_before: int, groups_now: int) -> dict[str, float]:
    """Shares of draws with any alarm where nothing moved, and with the right one where a task halved."""
    rng = np.random.default_rng(17)
    even = np.full(TASKS, 1 / TASKS)
    false, caught = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for draw in range(draws):
            before = patients(groups_before, even, rng)
            same = patients(groups_now, even, rng)
            known, unknown = identified(groups_before, rng), identified(groups_now, rng)
            alarms = [each.moved for each in judged(before, same, Path(folder))]
            false += any([*alarms, identifiers.moved(known, unknown, MAX_DRIFT)])
            task = draw % TASKS
            found = judged(before, patients(groups_now, halved(task), rng), Path(folder))
            caught += any(f"task-{task}" in each.moved for each in found if each.figure.name == "tasks")
    return {"false": false / draws, "caught": caught / draws}


def rows(draws: int) -> list[Row]:
    found: list[Row] = []
    for before, now in ((2_000, 2_000), (6_000, 2_000)):
        rate: dict[str, Any] = rates(draws, before, now)
        note = f"{draws} draws, {before} patients before, {now} now, {TASKS} tasks"
        found.append(Row("drift: false alarms, all tests of a run", rate["false"], None, "<=", 0.05, note))
        found.append(Row("drift: halved share of a task is caught", rate["caught"], None, ">=", 0.95, note))
        print(*found[-2:], sep="\n", flush=True)
    return found
