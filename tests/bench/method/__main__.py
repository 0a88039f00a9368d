"""MOELoRA, one shared LoRA, one LoRA a task, a uniform gate and a gate in each layer: the same records.

    make bench-method                         14 tasks, 3 seeds: a GPU or a long night (about 12 h on 2 cores)
    python -m tests.bench.method --quick      4 tasks, 1 seed: about 25 minutes on 2 cores

Every method sees the same draws of the same training records in the same order (one LoRA a task:
each its own task's), with the knobs of params.yaml. A finished cell is one file in
reports/bench/method/<setting>/ and is never computed again; interrupt it at will, and run the same
command to go on. ``<setting>`` names the grid, params.yaml's sections and the data, not the code.
Written at the end: reports/bench/method.json (MOELoRA against the others), method-scores.json
(each task) and method.png.
"""

import argparse
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.digests import canonical_json, file_digest, value_digest
from pipeline.files import write_atomically
from pipeline.params import Params
from pipeline.records import SPLITS
from tests.bench import base, records
from tests.bench.children import measure_once
from tests.bench.table import REPORTS, show

METHODS: dict[str, dict[str, Any] | None] = {
    "MOELoRA": {"method": "moelora", "gate": "shared"},
    "gate in each layer": {"method": "moelora", "gate": "per_layer"},
    "uniform gate": {"method": "moelora", "gate": "uniform"},
    "one shared LoRA": {"method": "lora"},
    "one LoRA a task": {"method": "lora"},
    "base model": None,
}
"""Knobs of params.yaml's train section; None: not trained."""

ALONE = "one LoRA a task"


@dataclass(frozen=True)
class Grid:
    """What is compared, and on how much."""

    tasks: tuple[str, ...] | None
    """None: every English task."""
    seeds: tuple[int, ...]
    """Of the adapter's first values, dropout and the order of the records."""
    draws: int
    """Training records that a method sees, repeats counted, over all tasks."""
    validation: int
    """Validation records of each task, which choose the best checkpoint."""
    rows: int
    """Test records of each task."""


FULL = Grid(tasks=None, seeds=(17, 18, 19), draws=2400, validation=3, rows=60)
QUICK = Grid(
    # One task of each kind that is short to read and to answer.
    tasks=("bc5cdr-ner", "medquad-focus", "medquad-qtype", "rqe"),
    seeds=(17,),
    draws=384,
    validation=4,
    rows=25,
)


@dataclass(frozen=True)
class Cell:
    """One training: a method, a seed, and the tasks that its adapter learns."""

    method: str
    seed: int
    learnt: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its file's and its folder's name."""
        parts = [self.method.lower().replace(" ", "-"), str(self.seed)]
        return "_".join(parts + (list(self.learnt) if self.method == ALONE else []))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="4 tasks, 1 seed")
    run(QUICK if parser.parse_args(arguments).quick else FULL)


def run(grid: Grid) -> None:
    """Compute what is missing, then the table and the plot."""
    params = Params.load()
    tasks = grid.tasks or tuple(sorted(records.read("train")["task"].unique()))
    base.prepare()
    setting = fingerprint(grid, tasks, params)
    finished = REPORTS / "method" / setting
    todo = list(cells(tasks, grid.seeds))
    for number, cell in enumerate(todo, start=1):
        file = finished / f"{cell.name}.json"
        print(f"bench-method: {number}/{len(todo)} {cell.name}", flush=True)
        folder = Path("scratch/bench/method") / setting / cell.name
        measure_once(
            file,
            "tests.bench.method.cell:run",
            folder=str(folder),
            train=METHODS[cell.method],
            tasks=tasks,
            learnt=cell.learnt,
            seed=cell.seed,
            draws=grid.draws,
            validation=grid.validation,
            rows=grid.rows,
        )
        shutil.rmtree(folder, ignore_errors=True)
    report(finished, grid, tasks, params)


def fingerprint(grid: Grid, tasks: Sequence[str], params: Params) -> str:
    """Names all but the code that decides the cells."""
    data = {name: file_digest(records.folder() / f"en.{name}.jsonl.gz") for name in SPLITS}
    sections = ("base", "compute", "resample", "train", "evaluate")
    knobs = params.model_dump(mode="json", include=set(sections))
    size = "quick" if grid == QUICK else "full"
    return f"{size}-{value_digest([asdict(grid), list(tasks), knobs, data])[:12]}"


def cells(tasks: Sequence[str], seeds: Sequence[int]) -> Iterator[Cell]:
    """Seed after seed, so that an interrupted grid has whole comparisons."""
    for seed in seeds:
        for method, knobs in METHODS.items():
            if method == ALONE:
                yield from (Cell(method, seed, (task,)) for task in tasks)
            elif knobs is not None or seed == seeds[0]:  # the bare base model has no seed
                yield Cell(method, seed, tuple(tasks))


def report(finished: Path, grid: Grid, tasks: Sequence[str], params: Params) -> None:
    """Print the tables, and write them and the plot."""
    from tests.bench.method import figures

    counted: dict[str, list[dict[str, Any]]] = {method: [] for method in METHODS}
    for seed in grid.seeds:
        of_seed: dict[str, dict[str, Any]] = {}
        for cell in cells(tasks, grid.seeds):
            if cell.seed == seed:
                found = json.loads((finished / f"{cell.name}.json").read_text())["tasks"]
                of_seed.setdefault(cell.method, {}).update(found)
        for method, found in of_seed.items():
            counted[method].append(found)
    scores = figures.scores(counted, tasks, params.evaluate.resamples)
    names = [figures.MEAN, *tasks]
    shown = Table("task", *scores, title="score [95 % interval] by each task's own metric")
    for name in names:
        shown.add_row(name, *(str(of_task[name]) for of_task in scores.values()))
    lowest = [figures.worst(of_task) for of_task in scores.values()]
    shown.add_row(
        "worst task",
        *(f"{of_task[task].value:.3f} {task}" for task, of_task in zip(lowest, scores.values(), strict=True)),
    )
    Console().print(shown)
    figures.plot(scores, REPORTS / "method.png")
    write_atomically(REPORTS / "method-scores.json", canonical_json(figures.as_json(scores)))
    facts = (
        f"{len(tasks)} tasks, {len(grid.seeds)} seeds, {grid.draws} draws, at most {grid.rows} test rows a task, "
        f"base model {params.base.model} in {params.compute.dtype}"
    )
    show("method", figures.rows(scores, "MOELoRA"), facts)
    print(f"written: {REPORTS / 'method.png'}, {REPORTS / 'method-scores.json'}")


if __name__ == "__main__":
    main()
