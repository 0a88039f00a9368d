"""The train stage as a program."""

import json
import signal
import socket
from pathlib import Path

import polars as pl
import pytest
from safetensors.numpy import load_file

from pipeline import paths
from pipeline.digests import canonical_json
from pipeline.errors import DataError, PipelineError
from pipeline.files import write_atomically
from pipeline.params import Params
from pipeline.stage import Progress, Report
from tests.pipeline.train.conftest import TASKS, Project, wait_for


def train(progress: Progress | None = None) -> Report:
    from pipeline.train.__main__ import run

    report = run(Params.load(), progress or Progress("train"))
    write_atomically(paths.report("train"), canonical_json(report))
    return report


def test_report_adds_up_and_the_loss_falls(project: Project) -> None:
    report = train()
    assert report["steps"] == len(report["curve"]) == 24
    assert report["records"] == 96
    assert report["health"]["finite"]
    assert report["health"]["loss_last"] < report["health"]["loss_first"] - 0.1
    assert [entry["step"] for entry in report["validation"]] == [8, 16, 24]
    assert report["validation"][0]["tasks"].keys() == TASKS.keys()
    means = {entry["step"]: entry["mean"] for entry in report["validation"]}
    assert report["best_step"] == min(means, key=lambda step: means[step])
    assert all(sum(weights) == pytest.approx(1, abs=1e-6) for weights in report["gate"].values())
    adapter = load_file(paths.ADAPTER / "adapter.safetensors")
    assert report["parameters"]["trained"] == sum(tensor.size for tensor in adapter.values())
    assert all(tensor.any() for tensor in adapter.values())
    assert str(project.root) not in json.dumps(report)


@pytest.mark.parametrize(
    ("losses", "first", "last"),
    [([3.0], None, None), ([3.0, 1.0], 3.0, 1.0), ([4.0, 2.0, 9.0, 1.0, 3.0], 3.0, 2.0)],
)
def test_the_first_and_the_last_losses_never_overlap(
    losses: list[float], first: float | None, last: float | None
) -> None:
    from pipeline.train.__main__ import _health
    from pipeline.train.checkpoint import State

    health = _health(State(curve=[{"loss": loss} for loss in losses]))
    assert (health["loss_first"], health["loss_last"]) == (first, last)


def test_validation_loss_of_the_saved_adapter_is_the_best_of_the_report(project: Project) -> None:
    from pipeline import base
    from pipeline.moelora import saving
    from pipeline.train import attention, data, loop

    project.checkout.params(train__learning_rate=0.3, train__clip=100.0)  # so that the end is not the best
    report = train()
    model, tokenizer = base.load(Params.load().compute)
    adapter = saving.load(model, paths.ADAPTER)
    attention.enable(model)
    params = Params.load().train
    chosen = data.choose_validation(adapter.config.tasks, params.validation_records)
    tokens = data.tokenise(chosen, tokenizer, params, Progress("train"))
    sums: dict[str, list[float]] = {task: [0, 0] for task in TASKS}
    samples = [tokens[name] for name in chosen["sample_id"]]
    rows = data.pack(samples, 200, "cpu")
    for task, loss, count in loop.evaluate(adapter, rows, Progress("train")):
        sums[task][0] += loss
        sums[task][1] += count
    mean = sum(loss / count for loss, count in sums.values()) / len(sums)
    assert mean == pytest.approx(min(entry["mean"] for entry in report["validation"]), rel=1e-6)


def test_plots_hold_the_curve_for_dvc(project: Project) -> None:
    report = train()
    folder = paths.PLOTS / "train" / "metrics"
    loss = pl.read_csv(folder / "loss.tsv", separator="\t")
    assert loss["loss"].to_list() == [entry["loss"] for entry in report["curve"]]
    task = pl.read_csv(folder / "validation/tasks/rqe.tsv", separator="\t")
    assert task["rqe"].to_list() == [entry["tasks"]["rqe"] for entry in report["validation"]]


def test_plain_lora_comes_from_the_same_code(project: Project) -> None:
    project.checkout.params(train__method="lora")
    report = train()
    assert report["gate"] == {task: [1.0] for task in TASKS}
    assert not any(name.startswith("gate.") for name in load_file(paths.ADAPTER / "adapter.safetensors"))


def test_without_validation_records_the_last_step_is_kept(project: Project) -> None:
    pl.read_parquet(paths.VALIDATION_SPLIT).clear().write_parquet(paths.VALIDATION_SPLIT)
    report = train()
    assert report["validation"] == []
    assert report["best_step"] == report["steps"]


def test_stopping_and_killing_leave_the_bytes_of_an_uninterrupted_run(project: Project) -> None:
    """Also shows that two processes with separate caches give the same bytes, dropout included."""
    train()
    wanted = project.outputs()

    steps = Path("two/open/train/any")
    killed = project.start("two")
    wait_for(steps / "step-000003", killed)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    stopped = project.start("two")
    wait_for(steps / "step-000009", stopped)
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait() == 75
    assert json.loads(paths.status("train").read_text())["state"] == "stopped"
    for file in [paths.report("train"), *paths.ADAPTER.iterdir()]:
        file.unlink()
    ended = project.start("two")
    assert ended.wait() == 0, ended.stderr.read()  # type: ignore[union-attr]
    work = json.loads(paths.status("train").read_text())["work"]
    assert work["resumed_at_step"] >= 9
    assert work["records_tokenised"] == 0
    assert project.outputs() == wanted


def test_a_finished_training_is_not_repeated_and_a_changed_one_never_resumes(project: Project) -> None:
    train()
    wanted = project.outputs()
    again = Progress("train")
    train(again)
    assert again.state["work"]["resumed_at_step"] == 24
    assert project.outputs() == wanted

    project.checkout.params(train__learning_rate=0.01)
    changed = Progress("train")
    train(changed)
    assert "resumed_at_step" not in changed.state["work"]

    project.checkout.params(train__learning_rate=0.02)
    table = pl.read_parquet(paths.VALIDATION_SPLIT)
    table.with_columns(target=pl.lit("other")).write_parquet(paths.VALIDATION_SPLIT)
    changed = Progress("train")
    train(changed)
    assert "resumed_at_step" not in changed.state["work"]


def test_a_loss_that_is_not_finite_ends_with_step_tasks_and_norm(project: Project) -> None:
    project.checkout.params(train__learning_rate=1e30, train__clip=1e30, train__warmup=0.0)
    with pytest.raises(PipelineError, match=r"step \d+: loss .*, gradient norm .*, tasks .*learning_rate"):
        train()
    assert not paths.ADAPTER.exists()


def test_a_model_that_cannot_be_packed_trains_sample_by_sample_to_the_same_curve(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.train import attention

    project.checkout.params(train__dropout=0.0)
    together = [entry["loss"] for entry in train()["curve"]]
    monkeypatch.setattr(attention, "enable", lambda model: False)
    monkeypatch.setenv("MOELORA_CACHE", "other")
    alone = [entry["loss"] for entry in train()["curve"]]
    assert alone == pytest.approx(together, rel=1e-4)


def test_the_same_training_twice_at_once_is_refused(project: Project) -> None:
    from pipeline.train import checkpoint

    with (
        checkpoint.folder("abc"),
        pytest.raises(PipelineError, match="already running"),
        checkpoint.folder("abc"),
    ):
        pass


def test_a_bfloat16_base_trains_a_float32_adapter(project: Project) -> None:
    project.checkout.params(compute__dtype="bfloat16")
    report = train()
    assert report["health"]["loss_last"] < report["health"]["loss_first"] - 0.1
    assert {str(t.dtype) for t in load_file(paths.ADAPTER / "adapter.safetensors").values()} == {"float32"}


def test_nothing_outside_this_machine_is_asked(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError(f"a connection was tried: {arguments}")

    from pipeline.export import run as export

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    train()
    export(Params.load(), Progress("export"))


def test_an_order_that_names_unknown_records_is_refused(project: Project) -> None:
    pl.read_parquet(paths.TRAIN_SPLIT).head(5).write_parquet(paths.TRAIN_SPLIT)
    with pytest.raises(DataError, match="run the resample stage again"):
        train()
