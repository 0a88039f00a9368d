"""The method benchmark's arithmetic and its bookkeeping; no model is trained here."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.bench.method import __main__ as method
from tests.bench.method import cell, figures


def counted(correct: int, rows: int = 40) -> dict[str, Any]:
    """A task of accuracy ``correct / rows``, each row a group."""
    return {"metric": "exact_match", "statistics": [[float(i < correct), 1.0] for i in range(rows)]}


def test_scores_are_means_over_seeds_and_tasks_with_intervals_around_them() -> None:
    cells = {
        "MOELoRA": [{"a": counted(20), "b": counted(40)}, {"a": counted(10), "b": counted(40)}],
        "one shared LoRA": [{"a": counted(10), "b": counted(20)}] * 2,
    }
    found = figures.scores(cells, ["a", "b"], resamples=2000)
    ours = found["MOELoRA"]
    assert ours["a"].value == pytest.approx(15 / 40)
    assert ours[figures.MEAN].value == pytest.approx((15 / 40 + 1) / 2)
    # Seeds that differ widen the interval.
    alike = figures.scores({"x": [{"a": counted(15)}] * 2}, ["a"], resamples=2000)["x"]["a"]
    assert ours["a"].high - ours["a"].low > alike.high - alike.low
    assert figures.worst(ours) == "a"
    (row,) = figures.rows(found, "MOELoRA")
    gap = figures.difference(ours[figures.MEAN], found["one shared LoRA"][figures.MEAN])
    assert row.value == gap.low < gap.value == pytest.approx((15 / 40 + 1) / 2 - 3 / 8)
    assert row.holds


def test_the_plot_is_drawn(tmp_path: Path) -> None:
    found = figures.scores({"x": [{"a": counted(9)}], "y": [{"a": counted(4)}]}, ["a"], resamples=99)
    figures.plot(found, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_every_method_has_a_cell_for_each_seed_and_the_base_model_one() -> None:
    cells = list(method.cells(("a", "b"), (17, 18)))
    names = [each.name for each in cells]
    assert len(set(names)) == len(names) == 2 * (4 + 2) + 1
    assert names[0] == "moelora_17"
    assert [each.learnt for each in cells if each.method == method.ALONE] == [("a",), ("b",)] * 2
    assert [each.seed for each in cells if each.method == "base model"] == [17]


def test_finished_cells_are_never_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.params import Params
    from tests.conftest import ROOT

    params = Params.load(ROOT / "params.yaml")
    params = params.model_copy(update={"evaluate": params.evaluate.model_copy(update={"resamples": 99})})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Params, "load", lambda: params)
    monkeypatch.setattr(method.base, "prepare", lambda: None)
    monkeypatch.setattr(method, "fingerprint", lambda *_: "setting")
    asked: list[str] = []

    def measure(_function: str, **options: Any) -> dict[str, Any]:
        if len(asked) == 3:
            asked.append("interrupted")
            raise KeyboardInterrupt
        asked.append(options["folder"])
        Path(options["folder"]).mkdir(parents=True)
        return {"tasks": {task: counted(7) for task in options["learnt"]}}

    monkeypatch.setattr("tests.bench.children.measure", measure)
    grid = method.Grid(tasks=("a", "b"), seeds=(17,), draws=4, validation=1, rows=2)
    with pytest.raises(KeyboardInterrupt):
        method.run(grid)
    method.run(grid)
    asked.remove("interrupted")
    assert len(asked) == len(set(asked)) == 7
    assert Path("reports/bench/method.png").is_file()
    assert not list(Path("scratch/bench/method/setting").iterdir())


def test_some_takes_the_same_few_records_of_each_task() -> None:
    frame = pl.DataFrame({"sample_id": [f"s{i}" for i in range(9)], "task": ["a", "b", "b"] * 3})
    few = cell.some(frame, 2)
    assert few["task"].to_list() == ["a", "a", "b", "b"]
    assert cell.some(frame.sample(9, shuffle=True, seed=1), 2).equals(few)
    more = pl.concat([frame, pl.DataFrame({"sample_id": ["new"], "task": ["c"]})])
    assert cell.some(more, 2).filter(pl.col("task") != "c").equals(few)
