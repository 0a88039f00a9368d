"""The stage end to end, on a tiny base model, with and without a champion."""

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from pipeline import base, paths
from pipeline.digests import canonical_json, folder_digest, listing, listing_digest
from pipeline.errors import DataError, InputError, ParamsError, Stopped
from pipeline.evaluate.__main__ import run
from pipeline.export import write_task_lora
from pipeline.gate.__main__ import judge
from pipeline.moelora import saving
from pipeline.params import Params
from pipeline.records import RECORD_SCHEMA
from pipeline.stage import Progress, Report
from tests.conftest import Checkout
from tests.pipeline.evaluate.conftest import TASKS, make_adapter

SECRET = "unmistakable"
SMALL = {"compute__threads": 1, "evaluate__max_new_tokens": 6, "evaluate__resamples": 999}


def test_rows() -> pl.DataFrame:
    """Eight rows of three tasks, two groups sharing rows, and a task the adapter has not learnt."""
    common = {"language": "en", "source": "s", "answer_choices": None}
    rows = [
        *(
            {"task": "rqe", "task_type": "nli", "input": f"{SECRET} {i}?", "target": "true"}
            | {"answer_choices": ["true", "false"]}
            for i in range(4)
        ),
        *(
            {"task": "ner", "task_type": "ner", "input": f"{SECRET} gout {i}", "target": "Disease: gout"}
            | {"answer_choices": ["Disease"]}
            for i in range(3)
        ),
        {"task": "summary", "task_type": "summarization", "input": SECRET, "target": "short"},
        {"task": "unheard-of", "task_type": "summarization", "input": SECRET, "target": "short"},
    ]
    schema = {name: kind for name, kind in RECORD_SCHEMA.items() if name != "split"}
    return pl.DataFrame(
        [common | row | {"sample_id": f"s{i}", "group_id": f"g{i // 2}"} for i, row in enumerate(rows)],
        schema=schema,
    )


test_rows.__test__ = False  # type: ignore[attr-defined]


def write_release(folder: Path, tasks: tuple[str, ...], seed: int) -> None:
    params = Params.load()
    model, _ = base.load(params.compute)
    adapter = make_adapter(model, tasks, seed)
    (folder / "moelora").mkdir(parents=True)
    saving.save(adapter, folder / "moelora")
    for task in tasks:
        write_task_lora(adapter, task, folder / "tasks" / task, params.base)


def write_champion(
    tasks: tuple[str, ...],
    seed: int,
    rows: int = 4,
    base: str | None = None,
    metrics: dict[str, Any] | None = None,
) -> str:
    folder = paths.cache_root() / "open/releases/new"
    write_release(folder, tasks, seed)
    own = {"tasks": {task: {"rows": rows} for task in tasks}} | (metrics or {})
    (folder / "metrics.json").write_text(canonical_json(own))
    lineage = {"base": {"digest": base or folder_digest(paths.BASE)}}
    (folder / "lineage.json").write_text(canonical_json(lineage))
    release = listing_digest(listing(folder))[:16]
    folder.rename(folder.with_name(release))
    return release


def write_training(canaries: int = 0, best_records: int | None = None) -> None:
    """What training leaves behind: the rows of the test split under other ids, each drawn twice, then
    the canaries that were inserted; the weights that were kept have read ``best_records`` of them."""
    rows = test_rows().with_columns(
        pl.format("t{}", "sample_id").alias("sample_id"), pl.format("t{}", "group_id").alias("group_id")
    )
    rows.write_parquet(paths.TRAIN_SPLIT)
    write_canaries(canaries)
    inserted = pl.read_parquet(paths.CANARIES).filter("inserted")["canary_id"].to_list()
    ids = [*rows["sample_id"], *rows["sample_id"], *inserted]
    order = pl.DataFrame({"position": range(len(ids)), "sample_id": ids})
    order.with_columns(pl.col("position").cast(pl.UInt32)).write_parquet(paths.ORDER)
    report = {"best_records": len(ids) if best_records is None else best_records}
    paths.REPORTS.mkdir(exist_ok=True)
    paths.report("train").write_text(canonical_json(report))


def write_canaries(count: int) -> None:
    schema = {"canary_id": pl.String, "task": pl.String, "input": pl.String, "target": pl.String}
    rows = [
        {"canary_id": f"c{i:02}", "task": TASKS[i % 3], "input": f"code {i}:", "target": f"{i * 37:04}"}
        | {"inserted": i % 2 == 0}
        for i in range(count)
    ]
    paths.RESAMPLED.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows, schema=schema | {"inserted": pl.Boolean}).write_parquet(paths.CANARIES)


@pytest.fixture
def stage(checkout: Checkout, base_folder: Path) -> Any:
    """A checkout in which ``evaluate`` may run; call it with parameters to run it."""
    shutil.copytree(base_folder, paths.BASE)
    write_release(paths.RELEASE, TASKS, seed=0)
    paths.SPLIT.mkdir(parents=True)
    test_rows().write_parquet(paths.TEST_SPLIT)
    write_training()

    def evaluate(**params: Any) -> Report:
        checkout.params(**SMALL | params)
        return run(Params.load(), Progress("evaluate"))

    yield evaluate
    torch.use_deterministic_algorithms(False)


def test_a_first_run_compares_with_the_bare_base(stage: Any) -> None:
    report = stage()
    assert report["systems"] == ["base", "candidate"]
    assert report["release_digest"] == folder_digest(paths.RELEASE)
    assert report["rows"] == {"in": 9, "out": 8, "held_out": 1}
    assert report["untrained"] == {"unheard-of": 1}
    assert {task: f["metric"] for task, f in report["tasks"].items()} == {
        "ner": "set_micro_f1",
        "rqe": "accuracy",
        "summary": "rouge_l",
    }
    rqe = report["tasks"]["rqe"]
    assert (rqe["rows"], rqe["groups"], rqe["comparison"]["against"]) == (4, 2, "base")
    assert rqe["candidate"]["low"] <= rqe["candidate"]["score"] <= rqe["candidate"]["high"]
    assert report["tasks"]["ner"]["candidate"]["malformed"] == 3  # a random model writes no entities
    assert report["mean"]["comparison"]["tasks"] == 3
    assert report["mean"]["candidate"]["score"] == pytest.approx(
        sum(f["candidate"]["score"] for f in report["tasks"].values()) / 3, abs=1e-6
    )
    worst = report["worst"]["candidate"]
    assert worst["score"] == min(figures["candidate"]["score"] for figures in report["tasks"].values())
    assert worst["low"] <= worst["score"] <= worst["high"]
    assert report["worst"]["comparison"]["against"] == "base"
    assert rqe["comparison"]["p_worse"] <= rqe["comparison"]["p_adjusted"] <= 1
    assert report["canaries"] is None
    assert set(report["load_check"]) == set(TASKS)
    assert max(report["load_check"].values()) < 1e-4


def test_predictions_hold_what_the_scores_are_made_of(stage: Any) -> None:
    report = stage()
    for system in ("base", "candidate"):
        rows = pl.read_parquet(paths.PREDICTIONS / f"{system}.parquet")
        assert rows.columns == [
            "sample_id", "task", "group_id", "prediction", "malformed", "score", "tp", "fp", "fn",
            "confidence",
        ]  # fmt: skip
        assert rows.equals(rows.sort("task", "sample_id"))
        for task in ("rqe", "summary"):
            mean = rows.filter(pl.col("task") == task)["score"].mean()
            assert mean == pytest.approx(report["tasks"][task][system]["score"], abs=1e-6)
        entities = rows.filter(pl.col("task") == "ner").select("tp", "fp", "fn").sum().row(0)
        assert entities[0] + entities[2] == 3
        assert set(rows.filter(pl.col("task") == "rqe")["prediction"]) <= {"true", "false"}
        assert rows.filter(pl.col("task") == "rqe")["confidence"].is_between(0.5, 1).all()
        assert rows.filter(pl.col("task") != "rqe")["confidence"].is_null().all()


def test_answers_and_inputs_stay_out_of_the_report_and_the_terminal(stage: Any, capsys: Any) -> None:
    report = canonical_json(stage())
    answers = pl.read_parquet(paths.PREDICTIONS / "candidate.parquet").filter(pl.col("task") == "ner")
    printed = capsys.readouterr()
    status = paths.status("evaluate").read_text()
    for text in (SECRET, *filter(None, answers["prediction"])):
        assert all(text not in place for place in (report, printed.out, printed.err, status))


def test_the_same_inputs_give_the_same_bytes(stage: Any) -> None:
    first = canonical_json(stage()), folder_digest(paths.PREDICTIONS)
    assert (canonical_json(stage()), folder_digest(paths.PREDICTIONS)) == first


def test_a_champion_is_the_measure_where_it_knows_the_task(stage: Any) -> None:
    champion = write_champion(("ner", "rqe", "old-task"), seed=1)
    reference = write_champion(("rqe",), seed=2)
    report = stage(evaluate__champion=champion, evaluate__reference=reference)
    assert report["systems"] == ["base", "candidate", "champion", "reference"]
    assert (report["champion"], report["reference"]) == (champion, reference)
    against = {task: figures["comparison"]["against"] for task, figures in report["tasks"].items()}
    assert against == {"rqe": "champion", "ner": "champion", "summary": "base"}
    assert "champion" not in report["tasks"]["summary"]
    assert report["tasks"]["rqe"]["reference_comparison"]["against"] == "reference"
    assert "reference_comparison" not in report["tasks"]["ner"]
    assert report["mean"]["comparison"]["against"] == "champion"
    assert report["mean"]["comparison"]["tasks"] == 2
    assert report["worst"]["comparison"]["tasks"] == 2
    assert {report["worst"]["comparison"][name] for name in ("task", "against_task")} <= {"rqe", "ner"}
    assert report["gone"] == ["old-task"]
    assert report["champion_rows"] == {"ner": 4, "old-task": 4, "rqe": 4}
    assert set(pl.read_parquet(paths.PREDICTIONS / "champion.parquet")["task"]) == {"ner", "rqe"}


def test_slices_are_scored_and_compared(stage: Any) -> None:
    rows = test_rows().with_columns(
        language=pl.when(pl.col("sample_id").is_in(["s0", "s4"])).then(pl.lit("zh")).otherwise("language")
    )
    rows.write_parquet(paths.TEST_SPLIT)
    report = stage(evaluate__champion=write_champion(("rqe",), seed=1))
    rqe, ner = report["tasks"]["rqe"]["slices"], report["tasks"]["ner"]["slices"]
    assert (set(rqe), set(ner)) == ({"language:en", "language:zh"},) * 2
    assert {name: each["rows"] for name, each in rqe.items()} == {"language:en": 3, "language:zh": 1}
    assert (rqe["language:en"]["comparison"]["against"], ner["language:en"]["comparison"]["against"]) == (
        "champion",
        "base",
    )
    for each in (*rqe.values(), *ner.values()):
        assert each["candidate"]["low"] <= each["candidate"]["score"] <= each["candidate"]["high"]
        assert each["comparison"]["p_worse"] <= each["comparison"]["p_adjusted"] <= 1
    whole = report["tasks"]["rqe"]["candidate"]["score"]
    parts = [each["rows"] * each["candidate"]["score"] for each in rqe.values()]
    assert sum(parts) / 4 == pytest.approx(whole, abs=1e-5)


def test_a_champion_of_the_same_files_differs_in_nothing(stage: Any) -> None:
    report = stage(evaluate__champion=write_champion(TASKS, seed=0))
    for figures in report["tasks"].values():
        assert figures["comparison"]["difference"] == 0
        assert figures["comparison"]["p_worse"] == 1
        assert figures["candidate"] == figures["champion"]
    assert pl.read_parquet(paths.PREDICTIONS / "champion.parquet").equals(
        pl.read_parquet(paths.PREDICTIONS / "candidate.parquet")
    )


def test_releases_of_another_base_are_told_and_not_scored(stage: Any) -> None:
    champion = write_champion(("rqe", "old-task"), seed=1, base="0" * 64)
    reference = write_champion(("rqe",), seed=2)
    report = stage(evaluate__champion=champion, evaluate__reference=reference)
    assert report["systems"] == ["base", "candidate", "reference"]
    assert (report["champion"], report["reference"]) == (None, reference)
    assert report["other_base"] == {"champion": champion}
    assert report["tasks"]["rqe"]["comparison"]["against"] == "base"
    assert report["mean"]["comparison"]["against"] == "base"
    assert report["gone"] == ["old-task"]


def test_a_task_without_test_rows_is_reported(stage: Any) -> None:
    test_rows().filter(pl.col("task") != "ner").write_parquet(paths.TEST_SPLIT)
    figures = stage()["tasks"]["ner"]
    assert figures["rows"] == 0
    assert figures["candidate"]["score"] is None
    assert figures["comparison"] is None


def test_a_test_split_without_rows_is_reported(stage: Any) -> None:
    test_rows().clear().write_parquet(paths.TEST_SPLIT)
    report = stage()
    assert {figures["rows"] for figures in report["tasks"].values()} == {0}
    assert report["mean"]["candidate"]["score"] is None
    assert report["mean"]["comparison"] is None
    assert pl.read_parquet(paths.PREDICTIONS / "candidate.parquet").height == 0


def test_the_gate_can_read_the_report(stage: Any) -> None:
    figures = {"tasks": {task: {"max_abs_difference": 1e-6, "effective_epochs": 1.0} for task in TASKS}}
    others = {
        "deidentify": {
            "recall": {"NAME": {"recall": 1.0}},
            "recall_overall": 1.0,
            "residual_records": 0,
            "rows": {"out": 9},
        },
        "resample": figures,
        "train": {"health": {"finite": True, "loss_first": 2.0, "loss_last": 1.0}},
    }
    for rows in (test_rows(), test_rows().clear()):
        rows.write_parquet(paths.TEST_SPLIT)
        report = json.loads(canonical_json(stage()))
        export = figures | {"tolerance": 1e-4, "release_digest": report["release_digest"]}
        judged = judge(others | {"export": export, "evaluate": report}, Params.load().gate)
        assert judged["verdict"] in ("pass", "blocked")
        assert canonical_json(judged)
        assert {"ner", "rqe", "summary"} >= set(judged["undecided"])


def test_canaries_are_measured_and_counted(stage: Any) -> None:
    write_training(canaries=8)
    canaries = stage()["canaries"]
    assert (canaries["inserted"], canaries["held_back"], canaries["completed"]) == (4, 4, 0)
    assert canaries["loss_inserted"] > 0
    assert 0 < canaries["p"] <= 1


def test_what_the_kept_weights_have_not_read_counts_as_unseen(stage: Any) -> None:
    write_training(canaries=8, best_records=18 + 1)
    canaries = stage()["canaries"]
    assert (canaries["inserted"], canaries["held_back"]) == (1, 7)
    write_training(canaries=8, best_records=3)
    report = stage()
    assert report["canaries"] is None  # none was seen, so that there is nothing to compare
    assert report["membership"]["rows"] == 3


def test_training_rows_are_probed_beside_as_many_test_rows(stage: Any) -> None:
    report = stage()
    assert report["extraction"] == {
        "extractable": 0, "rows": 0, "unseen_rows": 0, "completed": 0, "by_base": 0,
        "unseen_completed": 0, "unseen_by_base": 0, "p": 1.0,
    }  # fmt: skip
    membership = report["membership"]
    assert (membership["rows"], membership["unseen_rows"]) == (8, 8)
    assert membership["auc"] == pytest.approx(0.5, abs=0.15)  # the same texts, so ties but for rounding
    assert membership["low"] < 0.5 < membership["high"]
    assert membership["loss_seen"] == pytest.approx(membership["loss_unseen"], abs=1e-4)
    assert membership["champion_auc"] is None
    long = pl.when(pl.col("task") == "summary").then(pl.lit("a summary of " * 5)).otherwise("target")
    for path in (paths.TRAIN_SPLIT, paths.TEST_SPLIT):
        pl.read_parquet(path).with_columns(target=long).write_parquet(path)
    found = stage(evaluate__membership_rows=0)
    assert found["membership"] is None
    assert (found["extraction"]["extractable"], found["extraction"]["rows"]) == (1, 1)
    assert stage(evaluate__extraction_rows=0)["extraction"] is None


@pytest.mark.parametrize("same_base", [True, False])
def test_the_champions_own_membership_is_the_measure(stage: Any, same_base: bool) -> None:
    metrics = {"membership": {"auc": 0.625}}
    champion = write_champion(("rqe",), seed=1, base=None if same_base else "0" * 64, metrics=metrics)
    found = stage(evaluate__champion=champion)["membership"]
    assert found["champion_auc"] == (0.625 if same_base else None)


def test_calibration_is_of_each_system_that_chooses(stage: Any) -> None:
    found = stage(evaluate__champion=write_champion(("ner", "rqe"), seed=1))["calibration"]
    assert set(found) == {"rqe"}
    assert set(found["rqe"]) == {"base", "candidate", "champion"}
    assert all(0 <= error <= 1 for error in found["rqe"].values())


def test_without_a_report_of_the_training_it_says_what_to_run(stage: Any) -> None:
    paths.report("train").write_text("{}")
    with pytest.raises(DataError, match=r"train\.json .*pipeline\.train"):
        stage()


@pytest.mark.parametrize("broken", ["absent", "changed"])
def test_a_champion_not_to_be_had_names_the_command(stage: Any, broken: str) -> None:
    champion = write_champion(TASKS, seed=1)
    folder = paths.cache_root() / "open/releases" / champion
    if broken == "absent":
        shutil.rmtree(folder)
    else:
        (folder / "metrics.json").write_text("{}")
    with pytest.raises(InputError, match=f"moelora pull {champion}"):
        stage(evaluate__champion=champion)
    assert not paths.PREDICTIONS.exists()


def test_an_exported_task_that_peft_cannot_load_is_named(stage: Any) -> None:
    shutil.rmtree(paths.RELEASE_TASKS / "ner")
    with pytest.raises(DataError, match=r"tasks/ner .*pipeline\.export"):
        stage()


def test_exported_files_that_compute_something_else_show_in_the_load_check(stage: Any) -> None:
    shutil.rmtree(paths.RELEASE_TASKS / "ner")
    shutil.copytree(paths.RELEASE_TASKS / "rqe", paths.RELEASE_TASKS / "ner")
    assert stage()["load_check"]["ner"] > 1e-3


def test_a_missing_split_names_the_stage_to_run(stage: Any) -> None:
    paths.TEST_SPLIT.unlink()
    with pytest.raises(DataError, match=r"test\.parquet is missing.*pipeline\.split"):
        stage()


def test_an_unknown_metric_ends_the_stage_before_anything_is_computed(stage: Any) -> None:
    with pytest.raises(ParamsError, match=r"evaluate\.tasks\.rqe\.metric"):
        stage(evaluate__tasks={"rqe": {"metric": "bleurt"}})


def test_another_metric_may_be_named(stage: Any) -> None:
    assert stage(evaluate__tasks={"rqe": {"metric": "macro_f1"}})["tasks"]["rqe"]["metric"] == "macro_f1"


def test_a_signal_stops_it_between_batches(stage: Any) -> None:
    progress = Progress("evaluate")
    progress.stop_requested = True
    with pytest.raises(Stopped):
        run(Params.load(), progress)
