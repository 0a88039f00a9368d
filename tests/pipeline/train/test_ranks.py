"""Several processes as one training, started by torchrun, over gloo."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import pytest
import torch
from safetensors.numpy import load_file
from torch import distributed
from torch.distributed.tensor import DTensor

from pipeline import attention, paths
from pipeline.errors import ParamsError
from pipeline.moelora import MoeLoraConfig, inject, saving
from pipeline.params import Params
from pipeline.train import data, loop, loss, ranks
from pipeline.train.data import Sample
from tests.pipeline.moelora.conftest import randomise, tiny
from tests.pipeline.train.conftest import Project, wait_for
from tests.pipeline.train.test_data import sample


def start(project: Project, cache: str, processes: int = 2) -> subprocess.Popen[str]:
    """``torchrun -m pipeline.train`` with a cache of that name."""
    return subprocess.Popen(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes),
            "-m", "pipeline.train",
        ],
        env=project.environment(cache),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    """What it printed."""
    out, error = process.communicate()
    assert process.returncode == 0, error
    return out


def workers(process: subprocess.Popen[str]) -> dict[str, psutil.Process]:
    """What torchrun started, by rank."""
    return {child.environ()["RANK"]: child for child in psutil.Process(process.pid).children()}


@pytest.fixture
def fifty(project: Project) -> Project:
    """50 steps of 4 records, no dropout."""
    order = pl.read_parquet(paths.ORDER)
    pl.concat([order, order, order]).head(200).with_columns(
        position=pl.int_range(200, dtype=pl.UInt32)
    ).write_parquet(paths.ORDER)
    project.checkout.params(train__dropout=0.0, train__learning_rate=0.005)
    return project


@pytest.mark.slow  # two trainings, one of them of two processes
@pytest.mark.parametrize(("loss", "shard"), [("tasks", False), ("tokens", True)])
def test_two_processes_give_the_loss_curve_of_one(fifty: Project, loss: str, shard: bool) -> None:
    fifty.checkout.params(train__loss=loss)
    finish(fifty.start("one"))
    one = json.loads(paths.report("train").read_text())
    adapter = load_file(paths.ADAPTER / "adapter.safetensors")
    fifty.checkout.params(compute__shard_base=shard)
    finish(start(fifty, "two"))
    two = json.loads(paths.report("train").read_text())
    assert len(one["curve"]) == 50
    for name in ("curve", "validation"):
        for alone, together in zip(one[name], two[name], strict=True):
            assert together.pop("tasks") == pytest.approx(alone.pop("tasks"), rel=1e-5)
            assert together == pytest.approx(alone, rel=1e-5)
    for key, tensor in load_file(paths.ADAPTER / "adapter.safetensors").items():
        assert tensor == pytest.approx(adapter[key], rel=1e-3, abs=1e-5), key


@pytest.mark.slow  # five trainings of two processes
def test_killed_and_stopped_by_one_rank_all_go_on_to_the_bytes_of_an_uninterrupted_run(
    project: Project,
) -> None:
    """With dropout, whose masks differ from rank to rank."""
    finish(start(project, "one"))
    wanted = project.outputs()

    steps = Path("two/open/train/any")
    killed = start(project, "two")
    wait_for(steps / "step-000003", killed)
    for process in (psutil.Process(killed.pid), *workers(killed).values()):
        process.kill()
    killed.wait()
    stopped = start(project, "two")
    wait_for(steps / "step-000009", stopped)
    workers(stopped)["1"].terminate()
    assert stopped.wait() != 0
    assert "exitcode  : 75" in stopped.stderr.read()  # type: ignore[union-attr]
    assert json.loads(paths.status("train").read_text())["state"] == "stopped"

    # torchrun alone is killed: it tells no rank, and they have sessions of their own.
    orphaned = start(project, "two")
    wait_for(steps / "step-000015", orphaned)
    left = list(workers(orphaned).values())
    orphaned.kill()
    assert not psutil.wait_procs(left, timeout=60)[1]
    assert json.loads(paths.status("train").read_text())["state"] == "stopped"

    printed = finish(start(project, "two"))
    assert json.loads(paths.status("train").read_text())["work"]["resumed_at_step"] >= 15
    assert printed.count("24/24 loss") == 1, "one process speaks for all"
    assert project.outputs() == wanted


def test_a_sharded_base_computes_the_same_from_its_parts() -> None:
    """One process here; each of two holds half in the test of the loss curve above."""
    adapter = inject(tiny("llama"), MoeLoraConfig(tasks=("a", "b"), rank=8, experts=4))
    randomise(adapter)
    attention.enable(adapter.model)
    ids = np.arange(2, 14, dtype=np.int32)
    row = data.batch([Sample("a", ids, 9, False), Sample("b", ids[:7], 5, False)], "cpu")

    def computed() -> tuple[torch.Tensor, torch.Tensor]:
        gradients = loop.flat_gradients(list(adapter.adapter_parameters().values()))
        with loop.routed(adapter, row):
            losses = loss.token_losses(adapter, row)
            losses.sum().backward()
        return losses.detach(), gradients

    losses, gradients = computed()
    facts = saving.base_facts(adapter)
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        ranks.shard(adapter, "cpu")
        layers = adapter.layers.values()
        assert all(isinstance(layer.base.weight, DTensor) for layer in layers)
        assert not any(isinstance(p, DTensor) for p in adapter.adapter_parameters().values())
        again, gradients_again = computed()
    finally:
        distributed.destroy_process_group()
    assert torch.equal(losses, again)
    assert torch.equal(gradients, gradients_again)
    assert saving.base_facts(adapter) == facts


def test_one_process_has_nobody_to_share_the_base_with(project: Project) -> None:
    project.checkout.params(compute__shard_base=True)
    with (
        pytest.raises(ParamsError, match=r"compute\.shard_base.*torchrun"),
        ranks.join(Params.load().compute),
    ):
        pass


def test_a_step_is_shared_out_whole_and_even() -> None:
    samples = [sample(f"t{i}", 3 + i * 7 % 40, 1) for i in range(30)]
    parts = [data.part(samples, rank, 4) for rank in range(4)]
    assert sorted(s.task for part in parts for s in part) == sorted(s.task for s in samples)
    tokens = [sum(s.length for s in part) for part in parts]
    assert max(tokens) - min(tokens) <= max(s.length for s in samples)
    assert [data.part(samples[:1], rank, 2) for rank in range(2)] == [samples[:1], []]
