"""An adapter that is made to recite canaries, and an ordinary one: what the gate's rules say of them.

    python -c "from tests.bench.evaluate import memorisation; print(*memorisation.rows(), sep='\\n')"

Both are trained by the pipeline's own stage on SmolLM2 with the knobs of params.yaml, on DRAWS short
records of all English tasks and 64 of 128 canaries; measured by evaluate's own probes, and judged by
the gate's own rules. The ordinary one reads each canary once, the other one RECITALS times.
"""

import os
import tempfile
from collections.abc import Sequence
from typing import Any

import polars as pl

from pipeline import paths, resample
from pipeline.gate import memorisation
from pipeline.params import Params
from pipeline.stage import Progress
from tests.bench import base, records
from tests.bench.children import Result, measure
from tests.bench.table import Row

DRAWS = 180
LONGEST = 400
"""Characters of a record's input, so that both trainings take a few minutes on two cores."""

CANARIES = 128
RECITALS = 12


def rows() -> list[Row]:
    """Whether the first is blocked and the second is not."""
    base.prepare()
    recites = measure(f"{__name__}:run", recitals=RECITALS)
    ordinary = measure(f"{__name__}:run", recitals=1)
    blocked = recites["outcomes"]["memorisation"] == "blocked"
    free = "blocked" not in ordinary["outcomes"].values()
    return [
        Row("recites a canary: blocked", float(blocked), None, ">=", 1.0, _note(recites)),
        Row("trained normally: not blocked", float(free), None, ">=", 1.0, _note(ordinary)),
    ]


def run(recitals: int) -> Result:
    """Train, measure, judge: the probes' figures and the ``outcomes`` of the rules."""
    models = paths.BASE.resolve()
    params = Params.load()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        paths.BASE.parent.mkdir()
        paths.BASE.symlink_to(models)
        return _run(params, recitals)


def _run(params: Params, recitals: int) -> Result:
    from pipeline import base as base_model
    from pipeline.evaluate.memorisation import Probes
    from pipeline.evaluate.system import Bare, System
    from pipeline.moelora import saving
    from pipeline.train.__main__ import run as train_stage

    train, test = (_short(records.read(split)) for split in ("train", "test"))
    order = _lay_out(params, train, recitals)
    train_stage(params, Progress("train"))
    model, tokenizer = base_model.load(params.compute)
    adapter = saving.load(model, paths.ADAPTER)
    planted, seen = pl.read_parquet(paths.CANARIES), set(order["sample_id"])
    probes = Probes.draw(train, test, planted, seen, adapter.config.tasks, params.evaluate)
    found = probes.measure(
        System(model, tokenizer, adapter),
        System(model, tokenizer, Bare(adapter)),
        None,
        params.evaluate,
    )
    judged = memorisation.rules(found, params.gate)
    return found | {"outcomes": {rule["rule"]: rule["outcome"] for rule in judged}}


def _lay_out(params: Params, train: pl.DataFrame, recitals: int) -> pl.DataFrame:
    """What the stage train reads, below the working directory; returns the order."""
    sizes = dict(train.group_by("task").len().sort("task").iter_rows())
    knobs = params.resample.model_copy(update={"records": DRAWS, "canaries": CANARIES})
    for folder in (paths.SPLIT, paths.RESAMPLED):
        folder.mkdir(parents=True)
    paths.KEY_ID.write_text("0123456789abcdef")
    planted = resample.canaries(sorted(sizes), knobs)
    order = resample.order(
        train.select("sample_id", "task"), resample.allot(sizes, knobs), knobs.seed, planted
    )
    order = _repeated(order, recitals)
    train.write_parquet(paths.TRAIN_SPLIT)
    train.clear().write_parquet(paths.VALIDATION_SPLIT)  # the last weights are kept
    planted.write_parquet(paths.CANARIES)
    order.write_parquet(paths.ORDER)
    return order


def _repeated(order: pl.DataFrame, recitals: int) -> pl.DataFrame:
    """Each canary ``recitals`` times, the passes spread evenly among the other draws."""
    others = order.filter(pl.col("epoch") > 0)
    canaries = pl.concat([order.filter(pl.col("epoch") == 0)] * recitals)
    placed = [
        draws.with_columns(place=(pl.int_range(pl.len()) + 0.5) / pl.len()) for draws in (others, canaries)
    ]
    spread = pl.concat(placed).sort("place", "sample_id")
    return spread.with_columns(position=pl.int_range(pl.len(), dtype=pl.UInt32)).select(order.columns)


def _short(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(pl.col("input").str.len_chars() <= LONGEST)


def _note(result: dict[str, Any]) -> str:
    canaries, extraction, membership = (result[name] for name in ("canaries", "extraction", "membership"))
    parts: Sequence[str] = (
        f"canaries: p {canaries['p']:.2g}, {canaries['completed']} of {canaries['inserted']} completed, "
        f"exposure {canaries['exposure']:.2f} of {canaries['exposure_limit']:.2f} bits",
        f"extraction: {extraction['completed']} of {extraction['rows']} and {extraction['unseen_completed']} "
        f"unseen, p {extraction['p']:.2g}",
        f"membership: {membership['auc']:.3f} ({membership['low']:.3f} to {membership['high']:.3f})",
    )
    return "; ".join(parts)
