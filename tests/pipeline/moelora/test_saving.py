"""An adapter's files."""

from pathlib import Path

import pytest
import torch

from pipeline.errors import BaseModelError, DataError
from pipeline.moelora import MoeLora, MoeLoraConfig, inject, saving
from tests.pipeline.moelora.conftest import ids, randomise, tiny

TASKS = ("rqe", "summary")


def trained(architecture: str) -> MoeLora:
    """Two steps on random tokens."""
    adapter = inject(tiny(architecture), MoeLoraConfig(tasks=TASKS, rank=8, experts=4))
    optimizer = torch.optim.AdamW(adapter.adapter_parameters().values(), lr=0.05)
    adapter.train()
    for step in range(2):
        batch = ids(2, 8, seed=step)
        with adapter.tasks(TASKS):
            out = adapter.model(batch, labels=batch)
            out.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    adapter.eval()
    return adapter


def logits(adapter: MoeLora) -> torch.Tensor:
    with torch.no_grad(), adapter.tasks(TASKS):
        out: torch.Tensor = adapter.model(ids(2, 6)).logits
    return out


def test_train_save_load_gives_equal_logits_and_equal_bytes(architecture: str, tmp_path: Path) -> None:
    adapter = trained(architecture)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    saving.save(adapter, tmp_path / "one")
    loaded = saving.load(tiny(architecture), tmp_path / "one")
    loaded.eval()
    assert torch.equal(logits(loaded), logits(adapter))
    assert loaded.config == adapter.config
    saving.save(loaded, tmp_path / "two")
    for file in (saving.TENSORS, saving.FACTS):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_an_adapter_of_another_base_is_refused_and_leaves_the_model_bare(tmp_path: Path) -> None:
    saving.save(trained("llama"), tmp_path)
    model = tiny("gpt2")
    with pytest.raises(BaseModelError, match="trained for LlamaForCausalLM"):
        saving.load(model, tmp_path)
    with torch.no_grad():
        model(ids(1, 3))


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no adapter"):
        saving.load(tiny("llama"), tmp_path)
    saving.save(trained("llama"), tmp_path)
    (tmp_path / saving.FACTS).write_text("{}")
    with pytest.raises(DataError, match="damaged"):
        saving.load(tiny("llama"), tmp_path)
    saving.save(trained("llama"), tmp_path)
    whole = (tmp_path / saving.TENSORS).read_bytes()
    (tmp_path / saving.TENSORS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="damaged"):
        saving.load(tiny("llama"), tmp_path)


def test_a_tasks_lora_is_the_exact_product(tmp_path: Path) -> None:
    adapter = inject(tiny("llama"), MoeLoraConfig(tasks=TASKS, rank=8, experts=4))
    randomise(adapter)
    lora = saving.task_lora(adapter, "summary")
    weights = adapter.weights("summary")
    for name, layer in adapter.layers.items():
        A, B = layer.A.detach(), layer.B.detach()  # noqa: N806
        wanted = sum(weights[i] * B[:, 2 * i : 2 * i + 2] @ A[2 * i : 2 * i + 2] for i in range(4))
        prefix = f"base_model.model.{name}"
        product = lora[f"{prefix}.lora_B.weight"] @ lora[f"{prefix}.lora_A.weight"]
        assert torch.allclose(product, torch.as_tensor(wanted), atol=1e-7)
