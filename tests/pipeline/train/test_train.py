"""The train stage as a program."""

import json
import re
import signal
import socket
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.numpy import load_file

from pipeline import paths
from pipeline.digests import canonical_json
from pipeline.errors import DataError, PipelineError, Stopped
from pipeline.files import write_atomically
from pipeline.moelora import MoeLora
from pipeline.params import Params
from pipeline.stage import Progress, Report
from pipeline.train.data import Batch
from tests.pipeline.train.conftest import TASKS, Project, wait_for


def train(progress: Progress | None = None) -> Report:
    from pipeline.train.__main__ import run

    report = run(Params.load(), progress or Progress("train"))
    write_atomically(paths.report("train"), canonical_json(report))
    return report


def in_cache(name: str, progress: Progress) -> Report:
    """Train with a cache of that name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOELORA_CACHE", name)
        return train(progress)


def test_report_adds_up_and_the_loss_falls(project: Project) -> None:
    report = train()
    assert report["steps"] == report["steps_planned"] == len(report["curve"]) == 24
    assert not report["stopped_early"]
    assert report["records"] == 96
    assert report["health"]["finite"]
    assert report["health"]["loss_last"] < report["health"]["loss_first"] - 0.1
    assert [entry["step"] for entry in report["validation"]] == [8, 16, 24]
    assert report["validation"][0]["tasks"].keys() == TASKS.keys()
    for entry in report["curve"]:
        assert entry["loss"] == pytest.approx(sum(entry["tasks"].values()) / len(entry["tasks"]), rel=1e-6)
    means = {entry["step"]: entry["mean"] for entry in report["validation"]}
    assert report["best_step"] == min(means, key=lambda step: means[step])
    assert report["best_records"] == 4 * report["best_step"]
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
    from pipeline import attention, base
    from pipeline.moelora import saving
    from pipeline.train import data, loop, loss

    project.checkout.params(train__learning_rate=0.3, train__clip=100.0)  # so that the end is not the best
    report = train()
    model, tokenizer = base.load(Params.load().compute)
    adapter = saving.load(model, paths.ADAPTER)
    attention.enable(model)
    params = Params.load().train
    chosen = data.choose_validation(adapter.config.tasks, params.validation_records)
    tokens = data.tokenise(chosen, tokenizer, params, Progress("train"), base="base")
    sums: dict[str, list[float]] = {task: [0, 0] for task in TASKS}
    for sample in (tokens[name] for name in chosen["sample_id"]):
        row = data.batch([sample], "cpu")
        with torch.no_grad(), loop.routed(adapter, row):
            losses = loss.token_losses(adapter, row)
        sums[sample.task][0] += losses.sum().item()
        sums[sample.task][1] += len(losses)
    mean = sum(loss / count for loss, count in sums.values()) / len(sums)
    assert mean == pytest.approx(min(entry["mean"] for entry in report["validation"]), rel=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_gpu_trains_to_the_same_bytes_twice_and_near_the_processor(project: Project, dtype: str) -> None:
    def losses(report: Report) -> list[float]:
        return [entry["loss"] for entry in report["curve"]]

    project.checkout.params(train__dropout=0.0)
    wanted = losses(in_cache("processor", Progress("train")))
    project.checkout.params(compute__device="cuda", compute__dtype=dtype)
    first = losses(in_cache("first", Progress("train")))
    adapter = (paths.ADAPTER / "adapter.safetensors").read_bytes()
    assert losses(in_cache("second", Progress("train"))) == first
    assert (paths.ADAPTER / "adapter.safetensors").read_bytes() == adapter
    assert first == pytest.approx(wanted, rel=1e-3 if dtype == "float32" else 0.05)


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


@pytest.mark.parametrize(
    ("gate", "scaling", "shape"), [("per_layer", "rslora", [14, 3, 64]), ("uniform", "standard", None)]
)
def test_a_variant_is_one_parameter_and_reaches_the_adapter(
    project: Project, gate: str, scaling: str, shape: list[int] | None
) -> None:
    project.checkout.params(train__gate=gate, train__scaling=scaling)
    report = train()
    config = json.loads((paths.ADAPTER / "adapter.json").read_text())["config"]
    assert (config["gate"], config["scaling"]) == (gate, scaling)
    assert all(sum(weights) == pytest.approx(1, abs=1e-6) for weights in report["gate"].values())
    embedding = load_file(paths.ADAPTER / "adapter.safetensors").get("gate.embedding")
    assert (None if embedding is None else list(embedding.shape)) == shape


def test_without_validation_records_the_last_step_is_kept(project: Project) -> None:
    pl.read_parquet(paths.VALIDATION_SPLIT).clear().write_parquet(paths.VALIDATION_SPLIT)
    report = train()
    assert report["validation"] == []
    assert report["best_step"] == report["steps"]
    assert report["best_records"] == report["records"]


def test_stopping_and_killing_leave_the_bytes_of_an_uninterrupted_run(project: Project) -> None:
    """Also shows that two processes with separate caches give the same bytes, dropout included."""
    project.checkout.params(train__lora_plus_ratio=2.0, train__patience=5)
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


def test_training_ends_when_patience_does_and_a_stop_changes_nothing(project: Project) -> None:
    # Faster with every step, until it gets no better.
    project.checkout.params(
        train__learning_rate=400.0, train__warmup=1.0, train__validate_every=2, train__patience=2
    )
    report = train()
    assert report["stopped_early"]
    assert (report["steps"], report["steps_planned"]) == (report["validation"][-1]["step"], 24)
    assert report["steps"] == len(report["curve"]) < 24
    assert report["records"] == 4 * report["steps"]
    later = [entry for entry in report["validation"] if entry["step"] > report["best_step"]]
    assert len(later) == 2
    wanted = project.outputs()

    class StopAt(Progress):
        def update(self, done: int, total: int, message: str = "") -> None:
            self.stop_requested = done == report["steps"] - 1

    with pytest.raises(Stopped):
        in_cache("other", StopAt("train"))
    again = Progress("train")
    in_cache("other", again)
    assert again.state["work"]["resumed_at_step"] == report["steps"] - 1
    assert project.outputs() == wanted


def test_b_learns_faster_by_the_ratio_and_nothing_else_does(project: Project) -> None:
    project.checkout.params(
        train__batch_records=96, train__warmup=0.0, train__learning_rate=0.001, train__lora_plus_ratio=8.0
    )
    report = train()
    assert report["curve"][0]["learning_rate"] == 0.001
    adapter = load_file(paths.ADAPTER / "adapter.safetensors")
    # Adam's first step is the learning rate, up or down; B begins at zero, where A gets no gradient.
    for name, tensor in adapter.items():
        if name.endswith(".B"):
            assert abs(tensor).max() == pytest.approx(0.008, rel=0.01)
        elif name.endswith(".A"):
            assert abs(tensor).max() < 0.06


def test_the_progress_line_tells_speed_padding_memory_and_time(project: Project) -> None:
    lines = []

    class Kept(Progress):
        def update(self, done: int, total: int, message: str = "") -> None:
            lines.append(message)

    train(Kept("train"))
    pattern = r"(validation )?loss \d+\.\d{3}, \d+ tokens/s, 0% padding, \d+\.\d GB, \d+ min left"
    assert len(lines) == 24 + 3
    assert all(re.fullmatch(pattern, line) for line in lines)


def test_a_task_whose_loss_is_not_finite_is_named_and_the_checkpoint_is_that_of_before(
    project: Project,
) -> None:
    from pipeline.train import loop

    train()
    wanted = project.outputs()
    losses = loop.token_losses
    rows = []

    def broken(adapter: MoeLora, row: Batch) -> torch.Tensor:
        found = losses(adapter, row)
        rows.append(row)
        if adapter.training and len(rows) > 12:
            factors = torch.tensor([torch.nan if task == "rqe" else 1.0 for task in row.tasks])
            found = found * factors.repeat_interleave(torch.tensor(row.answers))
        return found

    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(PipelineError, match="loss nan, gradient norm nan, tasks rqe; ") as raised,
    ):
        patch.setattr(loop, "token_losses", broken)
        in_cache("other", Progress("train"))
    step = int(re.search(r"step (\d+)", str(raised.value)).group(1))  # type: ignore[union-attr]
    kept = sorted(path.name for path in Path("other/open/train").glob("*/step-*"))
    assert kept[-1] == f"step-{(step - 1) // 3 * 3:06d}"
    again = Progress("train")
    in_cache("other", again)
    assert again.state["work"]["resumed_at_step"] == (step - 1) // 3 * 3
    assert project.outputs() == wanted


def test_a_loss_that_is_not_finite_ends_with_step_tasks_and_norm(project: Project) -> None:
    project.checkout.params(train__learning_rate=1e30, train__clip=1e30, train__warmup=0.0)
    with pytest.raises(PipelineError, match=r"step \d+: loss .*, gradient norm .*, tasks .*learning_rate"):
        train()
    assert not paths.ADAPTER.exists()


def test_a_model_that_cannot_be_packed_trains_sample_by_sample_to_the_same_curve(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline import attention

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
