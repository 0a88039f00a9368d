"""Draw a task-balanced training order: an index into the training split, not copies.

    python -m pipeline.resample

Reads ``data/split/train.parquet`` (and ``data/key.id`` for canaries); writes
``data/resampled/order.parquet`` (position u32, sample_id, task, epoch u32: the how-manieth pass
over its task a draw belongs to), ``data/resampled/canaries.parquet`` (canary_id, task, input,
target, inserted), ``reports/resample.json`` and ``reports/plots/balance.{csv,png}``.

- A task's draws follow size^alpha within a cap of max_epochs passes; what a capped task leaves
  goes to the others (UniMax, Chung et al., ICLR 2023, with temperature). Every task is drawn at
  least once. Where all tasks are capped, the order is shorter than the budget.
- A task is drawn in whole passes, each in an order of its own that comes from the task's name and
  the sample_ids: a new task changes no other task's passes.
- Tasks are spread evenly, so that every stretch of the order is balanced.
- Canaries are random strings, half of them inserted once, for measuring memorisation. They
  stand in the order with epoch 0, and outside all counts. Each asks for a name of its own and is
  answered by CODE digits: who has not learnt the digits completes them once in 10^CODE times.
"""

import hashlib
import hmac
import io
import itertools
import math
from collections.abc import Mapping

import polars as pl

from pipeline import paths
from pipeline.errors import DataError, ParamsError
from pipeline.files import new_folder, write_atomically
from pipeline.params import Params, Resample
from pipeline.stage import Progress, Report, main

ORDER_SCHEMA = pl.Schema(
    {"position": pl.UInt32, "sample_id": pl.String, "task": pl.String, "epoch": pl.UInt32}
)

CANARY_SCHEMA = pl.Schema(
    {
        "canary_id": pl.String,
        "task": pl.String,
        "input": pl.String,
        "target": pl.String,
        "inserted": pl.Boolean,
    }
)

CODE = 12

_WORDS = (
    "amber", "basalt", "cedar", "delta", "ember", "fjord", "granite", "harbor", "indigo", "juniper", "kelp",
    "lantern", "marble", "nectar", "onyx", "pebble", "quartz", "raven", "saffron", "tundra", "umber",
    "velvet", "willow", "zephyr",
)  # fmt: skip


def run(params: Params, progress: Progress) -> Report:
    """Draw the order; returns the report. See the module's docstring."""
    knobs = params.resample
    records = _read()
    sizes = dict(records.group_by("task").len().sort("task").iter_rows())
    draws = allot(sizes, knobs)
    listed = canaries(sorted(sizes), knobs)
    drawn = order(records, draws, knobs.seed, listed)
    progress.update(1, 2, f"{sum(draws.values())} draws over {len(sizes)} tasks")
    with new_folder(paths.RESAMPLED) as folder:
        drawn.write_parquet(folder / paths.ORDER.name)
        listed.write_parquet(folder / paths.CANARIES.name)
    write_atomically(paths.PLOTS / "balance.csv", _table(sizes, draws))
    write_atomically(paths.PLOTS / "balance.png", bars(sizes, draws))
    progress.update(2, 2, "written")
    return _report(sizes, draws, drawn, listed, knobs)


def _read() -> pl.DataFrame:
    try:
        records = pl.read_parquet(paths.TRAIN_SPLIT, columns=["sample_id", "task"])
    except FileNotFoundError:
        raise DataError(f"{paths.TRAIN_SPLIT} is missing: run the split stage first") from None
    if records.is_empty():
        raise DataError(
            f"{paths.TRAIN_SPLIT} has no records: give more data, or lower split.test and split.validation"
        )
    return records.sort("task", "sample_id")


def allot(sizes: Mapping[str, int], knobs: Resample) -> dict[str, int]:
    """Draws of each task, given its number of records.

    The sum is the budget ``knobs.records``, or all caps together where that is less. A task has
    between 1 draw and ``max_epochs * size``; between those bounds draws are proportional to
    size^alpha, rounded by largest remainder; a larger task never has fewer draws.

    Raises ParamsError where the budget is below one draw a task.
    """
    if knobs.records < len(sizes):
        raise ParamsError(
            f"{paths.PARAMS}: resample.records {knobs.records} is below one draw for each of "
            f"{len(sizes)} tasks: raise it"
        )
    caps = {task: max(1, math.floor(size * knobs.max_epochs)) for task, size in sizes.items()}
    weights = {task: size**knobs.alpha for task, size in sizes.items()}
    total = min(knobs.records, sum(caps.values()))

    def at(level: float) -> dict[str, float]:
        return {task: min(max(level * weights[task], 1.0), float(caps[task])) for task in sizes}

    # The level at which the bounded shares fill the budget: their sum grows with it.
    low, high = 0.0, max(caps[task] / weights[task] for task in sizes)
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(at(middle).values()) < total else (low, middle)
    exact = at(high)
    draws = {task: math.floor(share) for task, share in exact.items()}
    most_wanted = sorted(sizes, key=lambda task: (draws[task] - exact[task], -sizes[task], task))
    for task in [task for task in most_wanted if draws[task] < caps[task]][: total - sum(draws.values())]:
        draws[task] += 1
    return draws


def order(
    records: pl.DataFrame, draws: Mapping[str, int], seed: int, listed: pl.DataFrame | None = None
) -> pl.DataFrame:
    """The training order, ORDER_SCHEMA, of ``records`` (sample_id, task).

    The k-th of a task's n draws lies at (k + offset) / n of the way, with one offset between 0
    and 1 a task, so that any stretch holds each task's share of it, give or take one draw.
    Canaries of ``listed`` that are to be inserted are spread the same way.
    """
    places: list[tuple[float, str, str, int]] = []
    for (task,), rows in records.partition_by("task", as_dict=True).items():
        ids = rows["sample_id"].to_list()
        offset = _fraction(f"{seed}/offset/{task}")
        for epoch in range(math.ceil(draws[task] / len(ids))):
            before = epoch * len(ids)
            pass_ = sorted(ids, key=lambda name: _digest(f"{seed}/{task}/{epoch}/{name}"))
            places += [
                ((before + number + offset) / draws[task], task, name, epoch + 1)
                for number, name in enumerate(pass_[: draws[task] - before])
            ]
    if listed is not None:
        inserted = listed.filter("inserted").select("canary_id", "task").rows()
        places += [
            ((number + 0.5) / len(inserted), task, name, 0) for number, (name, task) in enumerate(inserted)
        ]
    places.sort()
    return pl.DataFrame(
        [(number, name, task, epoch) for number, (_, task, name, epoch) in enumerate(places)],
        schema=ORDER_SCHEMA,
        orient="row",
    )


def canaries(tasks: list[str], knobs: Resample) -> pl.DataFrame:
    """``knobs.canaries`` random strings, CANARY_SCHEMA, in the order of their ids.

    They come in pairs under one task, of which a keyed coin inserts one, so that the one left
    out is a fair comparison for it. All is derived by HMAC-SHA256 from the seed and the key's id,
    so that no record holds one by accident and a new key gives new ones; they need not be secret.
    """
    if not knobs.canaries:
        return pl.DataFrame(schema=CANARY_SCHEMA)
    try:
        key = paths.KEY_ID.read_bytes().strip()
    except FileNotFoundError:
        raise DataError(f"{paths.KEY_ID} is missing: run the deidentify stage first") from None

    def number(name: str) -> int:
        return int.from_bytes(hmac.digest(key, f"{knobs.seed}/{name}".encode(), "sha256"))

    names = map(" ".join, itertools.product(_WORDS, repeat=3))
    drawn = sorted(names, key=lambda name: number(f"name/{name}"))
    rows = []
    for canary in range(knobs.canaries):
        pair = canary // 2
        whole = pair * 2 + 1 < knobs.canaries
        code = f"{number(f'code/{canary}') % 10**CODE:0{CODE}d}"
        rows.append(
            {
                "canary_id": f"canary-{number(f'id/{canary}') % 16**16:016x}",
                "task": tasks[number(f"task/{pair}") % len(tasks)],
                "input": f"Reference code of patient {drawn[canary]}:",
                "target": f"{code[:4]} {code[4:8]} {code[8:]}",
                "inserted": whole and number(f"inserted/{pair}") % 2 == canary % 2,
            }
        )
    return pl.DataFrame(rows, schema=CANARY_SCHEMA).sort("canary_id")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _fraction(text: str) -> float:
    return int.from_bytes(_digest(text)[:6]) / 2**48


def _report(
    sizes: Mapping[str, int],
    draws: Mapping[str, int],
    drawn: pl.DataFrame,
    listed: pl.DataFrame,
    knobs: Resample,
) -> Report:
    records, total = sum(sizes.values()), sum(draws.values())
    used = drawn.filter(pl.col("epoch") > 0)["sample_id"].n_unique()
    return {
        "rows": {"in": records, "out": used, "sampled_away": records - used},
        "draws": {"budget": knobs.records, "drawn": total, "short_of_budget": knobs.records - total},
        "canaries": {"listed": listed.height, "inserted": int(listed["inserted"].sum())},
        "tasks": {
            task: {
                "records": size,
                "draws": draws[task],
                "effective_epochs": round(draws[task] / size, 4),
                "share_before": round(size / records, 4),
                "share_after": round(draws[task] / total, 4),
            }
            for task, size in sizes.items()
        },
    }


def _table(sizes: Mapping[str, int], draws: Mapping[str, int]) -> str:
    lines = [
        f"{task},{stage},{counts[task]}"
        for task in sizes
        for stage, counts in (("before", sizes), ("after", draws))
    ]
    return "\n".join(["task,stage,records", *lines]) + "\n"


def bars(sizes: Mapping[str, int], draws: Mapping[str, int]) -> bytes:
    """A PNG of each task's share before and after, largest task on top; same figures, same bytes."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tasks = sorted(sizes, key=lambda task: (sizes[task], task))
    picture = io.BytesIO()
    # A person's matplotlibrc must not change the bytes.
    with mpl.rc_context():
        mpl.rcdefaults()
        figure = Figure(figsize=(9, 1.6 + 0.5 * len(tasks)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for label, counts, shift, colour in (
            ("before: records", sizes, 0.2, "#9aa5b1"),
            ("after: draws", draws, -0.2, "#1f6f8b"),
        ):
            shares = [100 * counts[task] / sum(counts.values()) for task in tasks]
            bar = axes.barh([at + shift for at in range(len(tasks))], shares, 0.38, label=label, color=colour)
            axes.bar_label(
                bar,
                [f"{share:.1f} %  ({counts[task]})" for task, share in zip(tasks, shares, strict=True)],
                padding=3,
                fontsize=8,
            )
        axes.set_yticks(range(len(tasks)), tasks)
        axes.set_xlabel("share of the training data, %")
        axes.set_title("Task balance before and after resampling")
        axes.margins(x=0.18)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="lower right", frameon=False)
        figure.savefig(picture, format="png", dpi=110, metadata={"Software": None})
    return picture.getvalue()


if __name__ == "__main__":
    main("resample", run)
