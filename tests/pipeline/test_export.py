"""Native and stock PEFT files of a release."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import base, paths
from pipeline.digests import folder_digest
from pipeline.errors import PipelineError
from pipeline.moelora import MoeLora, MoeLoraConfig, inject, saving
from pipeline.params import Base, Params
from pipeline.stage import Progress, Report
from tests.conftest import Checkout
from tests.pipeline.moelora.conftest import ARCHITECTURES, GATES, ids, randomise, tiny, trained
from tests.tiny import tiny_base

TASKS = ("rqe", "mts-section")

# Loads a release the way its users do, and knows nothing of this project.
STOCK = """
import sys, torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
assert not any(name.split(".")[0] in ("pipeline", "flows") for name in sys.modules)
base, adapter, expected = sys.argv[1:]
wanted = load_file(expected)
model = AutoModelForCausalLM.from_pretrained(base)
model = PeftModel.from_pretrained(model, adapter).eval()
with torch.no_grad():
    before = model(wanted["ids"]).logits
    merged = model.merge_and_unload()(wanted["ids"]).logits
print((before - wanted["logits"]).abs().max().item(), (merged - wanted["logits"]).abs().max().item())
"""


@pytest.fixture
def adapter(checkout: Checkout) -> MoeLora:
    """models/base and a models/adapter with values as if trained."""
    tiny_base(paths.BASE)
    model, _ = base.load(Params.load().compute)
    adapter = inject(model, MoeLoraConfig(tasks=TASKS, rank=8, experts=4, dropout=0.1))
    randomise(adapter)
    adapter.eval()
    paths.ADAPTER.mkdir()
    saving.save(adapter, paths.ADAPTER)
    return adapter


def export() -> Report:
    from pipeline.export import run

    return run(Params.load(), Progress("export"))


def test_release_holds_the_native_adapter_and_a_lora_for_each_task(adapter: MoeLora) -> None:
    report = export()
    assert {path.name for path in paths.RELEASE_TASKS.iterdir()} == set(TASKS)
    for file in (saving.TENSORS, saving.FACTS):
        assert (paths.RELEASE_NATIVE / file).read_bytes() == (paths.ADAPTER / file).read_bytes()
    assert report["release_digest"] == folder_digest(paths.RELEASE)
    assert report["tasks"].keys() == set(TASKS)
    assert all(task["max_abs_difference"] <= 1e-4 for task in report["tasks"].values())


def test_the_same_adapter_gives_the_same_bytes_and_no_path(adapter: MoeLora, checkout: Checkout) -> None:
    first = export()
    files = {path: path.read_bytes() for path in paths.RELEASE.rglob("*") if path.is_file()}
    assert export() == first
    assert {path: path.read_bytes() for path in paths.RELEASE.rglob("*") if path.is_file()} == files
    assert not any(str(checkout.root).encode() in data for data in files.values())
    config = json.loads((paths.RELEASE_TASKS / "rqe" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == Params.load().base.model
    assert config["target_modules"] == sorted(config["target_modules"])


@pytest.mark.parametrize("task", TASKS)
def test_stock_peft_gives_the_native_logits_without_this_project(
    adapter: MoeLora, task: str, tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    export()
    probe = ids(2, 9)
    with torch.no_grad(), adapter.tasks([task]):
        logits = adapter.model(probe).logits
    with torch.no_grad(), adapter.disabled():
        assert (adapter.model(probe).logits - logits).abs().max() > 0.01  # the adapter does something
    expected = tmp_path / "expected.safetensors"
    save_file({"ids": probe, "logits": logits}, expected)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    arguments = [paths.BASE.resolve(), (paths.RELEASE_TASKS / task).resolve(), expected]
    result = subprocess.run(
        [sys.executable, "-I", "-c", STOCK, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=elsewhere,
    )
    assert result.returncode == 0, result.stderr
    assert all(float(difference) < 1e-4 for difference in result.stdout.split())


VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((architecture, {}) for architecture in ARCHITECTURES),
    *(("llama", {"gate": gate, "scaling": "rslora"}) for gate in GATES),
    ("gpt2", {"gate": "per_layer"}),
    ("gemma3", {"method": "lora"}),
]


@pytest.mark.parametrize(("architecture", "variant"), VARIANTS, ids=str)
def test_trained_saved_loaded_and_exported_peft_agrees(
    architecture: str, variant: dict[str, Any], tmp_path: Path
) -> None:
    from peft import PeftModel

    from pipeline.export import write_task_lora

    adapter = trained(architecture, TASKS, **variant)
    saving.save(adapter, tmp_path)
    with torch.no_grad(), adapter.tasks(["rqe"]):
        wanted = adapter.model(ids(2, 7)).logits
    with torch.no_grad(), adapter.disabled():
        assert (adapter.model(ids(2, 7)).logits - wanted).abs().max() > 0.001  # it has learnt something
    adapter = saving.load(tiny(architecture), tmp_path)
    with torch.no_grad(), adapter.tasks(["rqe"]):
        assert torch.equal(adapter.model(ids(2, 7)).logits, wanted)
    write_task_lora(adapter, "rqe", tmp_path / "rqe", Base(model="tiny"))
    stock = PeftModel.from_pretrained(tiny(architecture), str(tmp_path / "rqe")).eval()
    with torch.no_grad():
        assert torch.equal(stock(ids(2, 7)).logits, wanted)  # to the last bit
    adapted = {
        name.removesuffix(".base_layer") for name, _ in stock.named_modules() if name.endswith("base_layer")
    }
    assert adapted == {f"base_model.model.{name}" for name in adapter.layers}


def test_targets_are_full_names_where_last_parts_would_select_more(adapter: MoeLora) -> None:
    from pipeline.export import target_modules

    def names(targets: str | tuple[str, ...]) -> list[str]:
        return target_modules(inject(tiny("gpt2"), MoeLoraConfig(tasks=TASKS, targets=targets)))

    assert names("all-linear") == ["c_attn", "c_fc", "c_proj"]
    assert names(("mlp.c_proj",)) == ["transformer.h.0.mlp.c_proj", "transformer.h.1.mlp.c_proj"]


def test_a_difference_beyond_the_tolerance_writes_nothing(
    adapter: MoeLora, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_lora: Callable[..., dict[str, Any]] = saving.task_lora

    def wrong(adapter: MoeLora, task: str) -> dict[str, Any]:
        lora = true_lora(adapter, task)
        return {name: t * 1.5 if task == "rqe" and "lora_B" in name else t for name, t in lora.items()}

    monkeypatch.setattr(saving, "task_lora", wrong)
    with pytest.raises(PipelineError, match=r"differ .* for rqe; export.tolerance is 0.0001"):
        export()
    assert not paths.RELEASE.exists()


def test_stock_peft_serves_many_tasks_in_one_batch(adapter: MoeLora) -> None:
    from peft import PeftModel

    export()
    model, _ = base.load(Params.load().compute)
    stock = PeftModel.from_pretrained(model, str(paths.RELEASE_TASKS / TASKS[0]), adapter_name=TASKS[0])
    for task in TASKS[1:]:
        stock.load_adapter(str(paths.RELEASE_TASKS / task), adapter_name=task)
    stock.eval()
    rows = [TASKS[1], TASKS[0], "__base__", TASKS[1]]
    probe = ids(len(rows), 9)
    with torch.no_grad():
        found = stock(probe, adapter_names=rows).logits
    for row, task in enumerate(rows):
        context = adapter.disabled() if task == "__base__" else adapter.tasks([task])
        with torch.no_grad(), context:
            assert (adapter.model(probe[row : row + 1]).logits[0] - found[row]).abs().max() < 1e-4
    assert (found[0] - found[1]).abs().max() > 0.01


@pytest.mark.parametrize("scaling", ["standard", "rslora"])
def test_a_task_has_what_vllm_checks(scaling: str, adapter: MoeLora, tmp_path: Path) -> None:
    """Fields and tensor names as vLLM's PEFTHelper and parse_fine_tuned_lora_name read them; vLLM
    itself is not run here."""
    from safetensors import safe_open

    from pipeline.export import write_task_lora

    model, _ = base.load(Params.load().compute)
    made = inject(model, MoeLoraConfig(tasks=TASKS, rank=8, experts=4, scaling=scaling))
    write_task_lora(made, "rqe", tmp_path / "rqe", Base(model="tiny"))
    assert {file.name for file in (tmp_path / "rqe").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    config = json.loads((tmp_path / "rqe" / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA"
    assert (type(config["r"]), config["r"]) == (int, 8)  # at most --max-lora-rank; 16 by default
    assert (type(config["lora_alpha"]), config["lora_alpha"]) == (int, 32)
    assert config["target_modules"] == sorted(
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )
    assert config["bias"] == "none"
    assert config["use_rslora"] is (scaling == "rslora")
    assert not any(
        config.get(name) for name in ("modules_to_save", "use_dora", "rank_pattern", "alpha_pattern")
    )
    with safe_open(tmp_path / "rqe" / "adapter_model.safetensors", "pt") as file:
        for name in file.keys():  # noqa: SIM118  # no mapping
            parts = name.split(".")
            assert parts[:2] == ["base_model", "model"]
            assert (parts[-1], parts[-2]) in (("weight", "lora_A"), ("weight", "lora_B"))
            assert parts[-3] in config["target_modules"]
            assert file.get_slice(name).get_shape()[parts[-2] == "lora_B"] == config["r"]
