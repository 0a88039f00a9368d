"""What bench-train makes of measurements; none is taken here."""

from pathlib import Path
from typing import Any

import pytest

from tests.bench import children
from tests.bench.train import __main__ as bench


def loop(*seconds: float, peak: float = 1e9, losses: tuple[float, ...] = (2.0, 1.0)) -> dict[str, Any]:
    return {"seconds": list(seconds), "losses": list(losses), "padding": 0.0, "peak": peak}


def measured() -> dict[str, list[dict[str, Any]]]:
    return {
        "ours": [loop(9, 2, 4), loop(9, 3, 3, losses=(2.0, 1.1))],
        "bfloat16": [loop(9, 2, 2), loop(9, 2, 2, losses=(2.0, 1.15))],
        "trainer": [loop(50, 12, peak=4e9)],
        "grouped": [loop(50, 6)],
        "small": [loop(5)],
        "loop": [loop(10, peak=5e9)],
        "pairs": [{"moelora": [2.0], "peft": [4.0]}],
        "layer": [{"moelora": 1.0, "loop": 3.0, "difference": 0.0}],
        "reference": [{"packed": 2.5, "reference": 2.5, "bare": 2.0}],
        "kills": [{"landed": 20, "seconds": 3.0, "equal": True}],
    }


def values(results: dict[str, list[dict[str, Any]]]) -> list[float | None]:
    return [row.value for row in bench.table(results, bench.QUICK)]


def test_ratios_are_of_medians_without_each_process_s_first_step() -> None:
    # layer 3, memory 5, samples/s 12 / 3, 6 / 3, with bfloat16 12 / 2, memory 1 / 4
    assert values(measured()) == pytest.approx([0.5, 3, 5, 4, 2, 6, 0.25, 0, 0, 20])


def test_bfloat16_counts_only_where_it_moves_the_loss_less_than_a_seed() -> None:
    results = measured()
    results["bfloat16"][0]["losses"] = [2.0, 1.5]
    assert values(results)[5] == pytest.approx(4)


def test_a_peer_that_ran_out_of_memory_leaves_its_rows_unmeasured() -> None:
    results = measured()
    results["loop"] = results["trainer"] = []
    rows = bench.table(results, bench.QUICK)
    assert [row.figure for row in rows if row.holds is None] == [
        "peak memory, expert loop / MOELoRA",
        "samples/s, this loop / Trainer, random batches",
        "samples/s, best precision / Trainer in float32",
        "peak memory, this loop / Trainer",
    ]


def test_unequal_bytes_after_kills_count_as_none_survived() -> None:
    results = measured()
    results["kills"][0]["equal"] = False
    assert bench.table(results, bench.QUICK)[-1].holds is False


def test_a_measurement_is_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    def measure(_function: str, **options: Any) -> dict[str, Any]:
        taken.append(options["count"])
        return {"seconds": [1.0]}

    monkeypatch.setattr(children, "measure", measure)
    for _ in range(2):
        assert children.measure_once(tmp_path / "a.json", "x:y", count=3) == {"seconds": [1.0]}
    assert taken == [3]


def test_a_killed_measurement_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(children.ChildFailed, match=r"os:abort ended with -6"):
        children.measure_once(tmp_path / "a.json", "os:abort")
    assert not list(tmp_path.iterdir())
