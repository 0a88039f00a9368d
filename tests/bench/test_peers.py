"""The peers compute what they claim to: only the way there differs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline import attention, paths
from pipeline.train.data import Sample
from tests.bench.train import variants
from tests.conftest import Checkout
from tests.tiny import tiny_base

TASKS = ("ner", "summary")


@pytest.fixture
def params(checkout: Checkout) -> Any:
    checkout.params(train__learning_rate=0.02, compute__threads=1)
    tiny_base(paths.BASE)
    return variants.settings(0.0)


@pytest.fixture
def samples() -> dict[str, Sample]:
    random = np.random.default_rng(3)
    lengths = (30, 12, 21, 17)
    return {
        str(i): Sample(TASKS[i % 2], random.integers(2, 250, length).astype(np.int32), length - 4, False)
        for i, length in enumerate(lengths)
    }


def fresh(params: Any) -> Any:
    from pipeline import base

    return base.load(params.compute)[0]


def test_the_expert_loop_trains_as_moelora_does(params: Any, samples: dict[str, Sample]) -> None:
    from pipeline.moelora import saving

    curves = []
    values: dict[str, torch.Tensor] = {}
    for kind in ("moelora", "loop"):
        model = fresh(params)
        attention.enable(model)
        adapter: Any = variants.adapt(model, kind, params.train, TASKS)
        if kind == "moelora":
            values = saving.tensors(adapter)
            values = {name: tensor.clone() for name, tensor in values.items()}
        else:
            adapter.copy(values)
        curves.append(variants.run_loop(adapter, params, samples, steps=3)["losses"])
    assert curves[1] == pytest.approx(curves[0], rel=1e-5)
    assert curves[0][2] < curves[0][0]


@pytest.mark.parametrize("cap", [None, 64])
def test_trainer_and_the_loop_train_the_same_lora(
    params: Any, samples: dict[str, Sample], cap: int | None
) -> None:
    from tests.bench.peers import run_trainer

    model = fresh(params)
    attention.enable(model)
    torch.manual_seed(params.train.seed)
    adapter = variants.adapt(model, "peft", params.train, TASKS)
    ours = variants.run_loop(adapter, params, samples, steps=3)["losses"]
    model = fresh(params)
    computed = variants.count_tokens(model)
    torch.manual_seed(params.train.seed)
    peer = run_trainer(model, list(samples.values()), params.train, steps=3, batch=2, cap=cap)
    assert len(peer["seconds"]) == 3
    assert peer["losses"] == pytest.approx(ours, rel=1e-3)
    assert cap is None or max(computed) <= cap


def test_micro_batches_keep_to_the_cap() -> None:
    from tests.bench.peers import capped

    assert capped([9, 5, 5, 2, 2, 1], 10) == [[0], [1, 2], [3, 4, 5]]
    assert capped([20, 1], 10) == [[0], [1]]


def test_the_gpu_benchmark_runs_on_a_processor(checkout: Checkout, capsys: Any) -> None:
    from tests.bench import gpu
    from tests.bench.table import show

    own = gpu.ours("tiny", "cpu", size=2048, copies=1, steps=2)
    peer = gpu.trainer("tiny", "cpu", size=8, copies=1, steps=2)
    # Random weights, adapters that begin as nothing: the same first loss, but for bfloat16.
    assert own["losses"][0] == pytest.approx(peer["losses"][0], rel=1e-2)
    assert own["flops"] == pytest.approx(peer["flops"], rel=0.1)  # the gate is small, but so is the model
    table = gpu.rows("tiny", "NVIDIA H100 80GB HBM3", [own], [peer])
    show("gpu", table)
    assert all(row.value for row in table)
    assert Path("reports/bench/gpu.json").is_file()
    unmeasured = gpu.rows("7B", "NVIDIA H100 80GB HBM3", [], [peer])
    assert [row.holds for row in unmeasured] == [None] * 3


def test_flops_of_a_model_by_hand(checkout: Checkout) -> None:
    from tests.bench import gpu

    model, samples, params = gpu._prepare("tiny", "cpu", copies=1)
    variants.adapt(model, "peft", params.train, gpu.TASKS)
    frozen = 2 * (4 * 32 * 32 + 3 * 32 * 64)
    adapter = 2 * 16 * (4 * (32 + 32) + 3 * (32 + 64))
    tokens = sum(length - 1 for length, _ in gpu.LENGTHS)
    answers = sum(answer for _, answer in gpu.LENGTHS)
    squares = sum((length - 1) ** 2 for length, _ in gpu.LENGTHS)
    wanted = tokens * (4 * frozen + 6 * adapter) + answers * 4 * 300 * 32 + 6 * 2 * 32 * squares
    assert gpu.flops(model, list(samples.values())) == wanted
