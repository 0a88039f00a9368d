"""An adapter's files."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import BaseModelError, DataError
from pipeline.moelora import MoeLora, MoeLoraConfig, inject, saving
from tests.pipeline.moelora.conftest import GATES, ids, randomise, tiny, trained

TASKS = ("rqe", "summary")


def logits(adapter: MoeLora) -> torch.Tensor:
    with torch.no_grad(), adapter.tasks(TASKS):
        out: torch.Tensor = adapter.model(ids(2, 6)).logits
    return out


VARIANTS = [{"gate": gate, "scaling": "rslora"} for gate in GATES] + [{"method": "lora"}]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_train_save_load_gives_equal_logits_and_equal_bytes(variant: dict[str, Any], tmp_path: Path) -> None:
    """Of every architecture: tests/pipeline/test_export.py."""
    adapter = trained("llama", TASKS, **variant)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    saving.save(adapter, tmp_path / "one")
    loaded = saving.load(tiny("llama"), tmp_path / "one")
    loaded.eval()
    assert torch.equal(logits(loaded), logits(adapter))
    assert loaded.config == adapter.config
    saving.save(loaded, tmp_path / "two")
    for file in (saving.TENSORS, saving.FACTS):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_an_adapter_from_before_the_variants_loads_as_it_was(tmp_path: Path) -> None:
    adapter = trained("llama", TASKS)
    saving.save(adapter, tmp_path)
    facts = json.loads((tmp_path / saving.FACTS).read_text())
    del facts["config"]["gate"], facts["config"]["scaling"]
    (tmp_path / saving.FACTS).write_text(json.dumps(facts))
    assert torch.equal(logits(saving.load(tiny("llama"), tmp_path)), logits(adapter))


def test_an_adapter_of_another_base_is_refused_and_leaves_the_model_bare(tmp_path: Path) -> None:
    saving.save(trained("llama", TASKS), tmp_path)
    model = tiny("gpt2")
    with pytest.raises(BaseModelError, match="trained for LlamaForCausalLM"):
        saving.load(model, tmp_path)
    with torch.no_grad():
        model(ids(1, 3))


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no adapter"):
        saving.load(tiny("llama"), tmp_path)
    saving.save(trained("llama", TASKS), tmp_path)
    (tmp_path / saving.FACTS).write_text("{}")
    with pytest.raises(DataError, match="damaged"):
        saving.load(tiny("llama"), tmp_path)
    saving.save(trained("llama", TASKS), tmp_path)
    whole = (tmp_path / saving.TENSORS).read_bytes()
    (tmp_path / saving.TENSORS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="damaged"):
        saving.load(tiny("llama"), tmp_path)


@pytest.mark.parametrize("gate", GATES)
def test_a_tasks_lora_is_the_exact_product(gate: Any) -> None:
    adapter = inject(tiny("llama"), MoeLoraConfig(tasks=TASKS, rank=8, experts=4, gate=gate))
    randomise(adapter)
    lora = saving.task_lora(adapter, "summary")
    for name, layer in adapter.layers.items():
        weights = adapter.layer_weights("summary")[name]
        A, B = layer.A.detach(), layer.B.detach()  # noqa: N806
        wanted = sum(weights[i] * B[:, 2 * i : 2 * i + 2] @ A[2 * i : 2 * i + 2] for i in range(4))
        prefix = f"base_model.model.{name}"
        product = lora[f"{prefix}.lora_B.weight"] @ lora[f"{prefix}.lora_A.weight"]
        assert torch.allclose(product, torch.as_tensor(wanted), atol=1e-7)
