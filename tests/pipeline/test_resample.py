import csv
import json
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipeline import paths, resample
from pipeline.errors import DataError, ParamsError
from pipeline.params import Params, Resample
from pipeline.stage import Progress
from tests.conftest import Checkout

SIZES = {"large": 900, "middle": 90, "small": 9, "tiny": 1}


def records(sizes: dict[str, int]) -> pl.DataFrame:
    return pl.DataFrame(
        [(f"{task}-{number:04d}", task) for task, size in sizes.items() for number in range(size)],
        schema={"sample_id": pl.String, "task": pl.String},
        orient="row",
    )


def training(sizes: dict[str, int]) -> None:
    paths.SPLIT.mkdir(parents=True, exist_ok=True)
    records(sizes).write_parquet(paths.TRAIN_SPLIT)
    key_id()


def key_id(text: str = "0123456789abcdef") -> None:
    paths.KEY_ID.parent.mkdir(parents=True, exist_ok=True)
    paths.KEY_ID.write_text(text)


def run_stage() -> dict[str, Any]:
    return resample.run(Params.load(), Progress("resample"))


# --- how many ---

sizes_strategy = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=3), st.integers(1, 3000), min_size=1, max_size=12
)
knobs_strategy = st.builds(
    Resample,
    records=st.integers(1, 5000),
    alpha=st.floats(0, 1),
    max_epochs=st.floats(0.1, 12),
)


@given(sizes=sizes_strategy, knobs=knobs_strategy)
@settings(max_examples=200, deadline=None)
def test_budget_is_kept_caps_are_respected_and_shares_are_monotone(
    sizes: dict[str, int], knobs: Resample
) -> None:
    assume(knobs.records >= len(sizes))
    draws = resample.allot(sizes, knobs)
    caps = {task: max(1, int(size * knobs.max_epochs)) for task, size in sizes.items()}
    assert draws.keys() == sizes.keys()
    assert sum(draws.values()) == min(knobs.records, sum(caps.values()))
    assert all(1 <= draws[task] <= caps[task] for task in sizes)
    by_size = sorted(sizes, key=lambda task: sizes[task])
    for smaller, larger in pairwise(by_size):
        if sizes[smaller] < sizes[larger]:
            assert draws[smaller] <= draws[larger]
    shuffled = dict(reversed(sizes.items()))
    assert resample.allot(shuffled, knobs) == draws


def test_alpha_1_is_proportional_and_0_is_uniform() -> None:
    assert resample.allot({"a": 300, "b": 100}, Resample(records=40, alpha=1)) == {"a": 30, "b": 10}
    assert resample.allot({"a": 300, "b": 100}, Resample(records=40, alpha=0)) == {"a": 20, "b": 20}


def test_what_a_capped_task_leaves_goes_to_the_others() -> None:
    draws = resample.allot(SIZES, Resample(records=600, alpha=0, max_epochs=3))
    assert draws == {"large": 300, "middle": 270, "small": 27, "tiny": 3}


def test_capped_everywhere_the_order_is_shorter() -> None:
    draws = resample.allot({"a": 5, "b": 2}, Resample(records=600, max_epochs=2))
    assert draws == {"a": 10, "b": 4}


def test_every_task_is_drawn_however_small() -> None:
    assert resample.allot({"large": 100_000, "tiny": 1}, Resample(records=10, alpha=1))["tiny"] == 1


def test_a_budget_below_one_draw_a_task_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"resample.records 3 is below one draw for each of 4 tasks"):
        resample.allot(SIZES, Resample(records=3))


# --- in which order ---


def drawn(sizes: dict[str, int], knobs: Resample) -> pl.DataFrame:
    return resample.order(records(sizes), resample.allot(sizes, knobs), knobs.seed)


@given(sizes=sizes_strategy, knobs=knobs_strategy)
@settings(max_examples=40, deadline=None)
def test_each_task_is_drawn_in_whole_passes(sizes: dict[str, int], knobs: Resample) -> None:
    assume(len(sizes) <= knobs.records <= 2000)
    order = drawn(sizes, knobs)
    assert order.schema == resample.ORDER_SCHEMA
    assert order["position"].to_list() == list(range(order.height))
    for (task,), rows in order.partition_by("task", as_dict=True).items():
        passes = rows["epoch"].to_list()
        assert passes == sorted(passes)
        for epoch in set(passes):
            ids = rows.filter(pl.col("epoch") == epoch)["sample_id"]
            assert ids.n_unique() == len(ids)
            assert epoch == passes[-1] or len(ids) == sizes[task]
    assert_frame_equal(order, drawn(sizes, knobs))


def test_every_stretch_is_balanced() -> None:
    order = drawn(SIZES, Resample(records=600, max_epochs=50))
    draws = Counter(order["task"])
    for start in range(0, 600 - 48, 7):
        window = Counter(order["task"][start : start + 48])
        for task, count in draws.items():
            assert abs(window[task] - 48 * count / 600) <= 2


def test_a_new_task_changes_no_other_tasks_passes() -> None:
    knobs = Resample(records=10_000, max_epochs=2)
    before = drawn(SIZES, knobs).filter(pl.col("task") == "middle")
    after = drawn({**SIZES, "new": 50}, knobs).filter(pl.col("task") == "middle")
    assert_frame_equal(before.drop("position"), after.drop("position"))


def test_passes_differ_from_each_other_and_with_the_seed() -> None:
    def one_pass(seed: int, epoch: int) -> list[str]:
        order = drawn({"a": 50}, Resample(records=100, seed=seed))
        return order.filter(pl.col("epoch") == epoch)["sample_id"].to_list()

    assert len({tuple(one_pass(seed, epoch)) for seed in (1, 2) for epoch in (1, 2)}) == 4


# --- canaries ---


def test_half_of_the_canaries_are_inserted_once_and_outside_all_counts(checkout: Checkout) -> None:
    training(SIZES)
    checkout.params(resample__canaries=0)
    without = run_stage()
    checkout.params(resample__canaries=20)
    report = run_stage()
    listed, order = pl.read_parquet(paths.CANARIES), pl.read_parquet(paths.ORDER)
    assert listed.schema == resample.CANARY_SCHEMA
    assert report.pop("canaries") == {"listed": 20, "inserted": 10}
    assert without.pop("canaries") == {"listed": 0, "inserted": 0}
    assert report == without
    inserted = order.filter(pl.col("epoch") == 0)
    assert sorted(inserted["sample_id"]) == sorted(listed.filter("inserted")["canary_id"])
    assert order.height == report["draws"]["drawn"] + 10
    gaps = inserted["position"].cast(pl.Int64).diff().drop_nulls()
    assert gaps.min() > order.height / 10 * 0.8
    assert listed["target"].n_unique() == 20
    by_task = listed.group_by("task").agg(pl.col("inserted").sum(), rows=pl.len())
    assert (by_task["inserted"] * 2 == by_task["rows"]).all()


def test_canaries_depend_on_seed_and_key(checkout: Checkout) -> None:
    def listed(seed: int, key: str) -> pl.DataFrame:
        key_id(key)
        return resample.canaries(["a", "b"], Resample(canaries=6, seed=seed))

    first = listed(1, "0123456789abcdef")
    assert_frame_equal(first, listed(1, "0123456789abcdef"))
    assert not set(first["target"]) & set(listed(2, "0123456789abcdef")["target"])
    assert not set(first["target"]) & set(listed(1, "fedcba9876543210")["target"])


def test_an_odd_canary_stays_out(checkout: Checkout) -> None:
    key_id()
    assert resample.canaries(["a"], Resample(canaries=5))["inserted"].sum() == 2


def test_no_two_canaries_ask_the_same_and_none_can_be_guessed(checkout: Checkout) -> None:
    key_id()
    listed = resample.canaries(["a", "b"], Resample(canaries=500))
    assert listed["input"].n_unique() == listed["target"].n_unique() == 500
    assert listed["target"].str.contains(r"^\d{4} \d{4} \d{4}$").all()
    digits = Counter(listed["target"].str.replace_all(" ", "").str.join("")[0])
    assert set(digits) == set("0123456789")
    assert max(digits.values()) < 1.2 * min(digits.values())


def test_canaries_without_a_key_are_refused(checkout: Checkout) -> None:
    training(SIZES)
    paths.KEY_ID.unlink()
    checkout.params(resample__canaries=2)
    with pytest.raises(DataError, match="run the deidentify stage first"):
        run_stage()
    assert not paths.RESAMPLED.exists()


# --- the stage ---


def test_the_report_adds_up(checkout: Checkout) -> None:
    training(SIZES)
    checkout.params(resample__canaries=0)
    report = run_stage()
    order = pl.read_parquet(paths.ORDER)
    assert report["rows"]["in"] == 1000 == report["rows"]["out"] + report["rows"]["sampled_away"]
    assert report["rows"]["out"] == order["sample_id"].n_unique()
    assert sum(task["draws"] for task in report["tasks"].values()) == report["draws"]["drawn"] == order.height
    assert report["tasks"]["tiny"]["effective_epochs"] == 6
    for key in ("share_before", "share_after"):
        assert sum(task[key] for task in report["tasks"].values()) == pytest.approx(1, abs=1e-3)
    assert pl.read_parquet(paths.CANARIES).is_empty()


def test_a_shorter_order_is_reported(checkout: Checkout) -> None:
    training({"a": 10, "b": 5})
    checkout.params(resample__records=600)
    assert run_stage()["draws"] == {"budget": 600, "drawn": 90, "short_of_budget": 510}


def test_balance_is_drawn_and_tabled(checkout: Checkout) -> None:
    training(SIZES)
    report = run_stage()
    rows = list(csv.DictReader((paths.PLOTS / "balance.csv").open()))
    assert [(row["task"], row["stage"]) for row in rows[:2]] == [("large", "before"), ("large", "after")]
    assert {row["task"]: int(row["records"]) for row in rows if row["stage"] == "after"} == {
        task: facts["draws"] for task, facts in report["tasks"].items()
    }
    assert (paths.PLOTS / "balance.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_input_gives_the_same_bytes_in_another_process(checkout: Checkout) -> None:
    training(SIZES)
    checkout.params(resample__canaries=4)
    report = run_stage()
    outputs = [paths.ORDER, paths.CANARIES, paths.PLOTS / "balance.csv", paths.PLOTS / "balance.png"]
    before = [path.read_bytes() for path in outputs]
    (checkout.root / "matplotlibrc").write_text("font.size: 30\n")
    subprocess.run([sys.executable, "-m", "pipeline.resample"], check=True, capture_output=True)
    assert [path.read_bytes() for path in outputs] == before
    assert json.loads(paths.report("resample").read_text()) == report


@pytest.mark.parametrize("present", [False, True])
def test_no_training_records_is_said(checkout: Checkout, present: bool) -> None:
    if present:
        training({})
    with pytest.raises(DataError, match=r"data/split/train.parquet"):
        run_stage()
    assert not paths.RESAMPLED.exists()
