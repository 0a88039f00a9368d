"""A packed row equals its samples computed one by one, by the model's own attention."""

from typing import Any

import numpy as np
import pytest
import torch

from pipeline import attention
from pipeline.moelora import MoeLoraConfig, inject
from pipeline.train import data, loop, loss
from pipeline.train.data import Sample
from tests.pipeline.moelora.conftest import ARCHITECTURES, GATES, VOCABULARY, randomise, tiny


@pytest.mark.parametrize(
    ("architecture", "gate"), [*((each, "shared") for each in ARCHITECTURES), *(("llama", g) for g in GATES)]
)
def test_packed_equals_separate_forward_and_backward(architecture: str, gate: Any) -> None:
    """Sliding windows of 4, learned and rotary positions, routed experts, mixed tasks."""
    adapter = inject(tiny(architecture), MoeLoraConfig(tasks=("a", "b"), rank=8, experts=4, gate=gate))
    randomise(adapter)
    generator = np.random.default_rng(2)
    samples = [
        Sample(task, generator.integers(2, VOCABULARY, length, dtype=np.int32), length - answer, False)
        for task, length, answer in (("a", 12, 3), ("b", 7, 2), ("a", 3, 1))
    ]

    def computed(rows: list[data.Batch]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        adapter.zero_grad()
        losses = []
        for row in rows:
            with loop.routed(adapter, row):
                losses.append(loss.token_losses(adapter, row))
                losses[-1].sum().backward()
        gradients = [p.grad.clone() for p in adapter.adapter_parameters().values() if p.grad is not None]
        return torch.cat(losses).detach(), gradients

    wanted, wanted_gradients = computed([data.batch([sample], "cpu") for sample in samples])
    assert attention.enable(adapter.model)
    losses, gradients = computed([data.batch(samples, "cpu")])
    assert torch.allclose(losses, wanted, atol=1e-5)
    for gradient, wanted_gradient in zip(gradients, wanted_gradients, strict=True):
        assert torch.allclose(gradient, wanted_gradient, atol=1e-4, rtol=1e-4)


def test_the_loss_is_that_of_full_logits_at_answer_tokens_only() -> None:
    adapter = inject(tiny("llama"), MoeLoraConfig(tasks=("a",), rank=8, experts=4))
    randomise(adapter)
    sample = Sample("a", np.arange(2, 14, dtype=np.int32), 9, False)
    with torch.no_grad():
        with adapter.tasks(["a"]):
            logits = adapter.model(torch.arange(2, 14)[None]).logits[0]
        wanted = torch.nn.functional.cross_entropy(logits[8:11], torch.arange(11, 14), reduction="none")
        attention.enable(adapter.model)
        row = data.batch([sample], "cpu")
        with loop.routed(adapter, row):
            losses = loss.token_losses(adapter, row)
    assert torch.allclose(losses, wanted, atol=1e-5)


def test_a_model_whose_attention_is_not_exchangeable_is_left_alone() -> None:
    model = tiny("llama")
    model.set_attn_implementation("eager")
    assert not attention.enable(model)
    assert model.config._attn_implementation == "eager"


def test_models_that_carry_more_from_token_to_token_or_count_from_the_rows_start_are_left_alone() -> None:
    import transformers as t

    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    }  # fmt: skip
    for config in (
        t.Lfm2Config(**sizes, layer_types=["conv", "full_attention"]),
        t.Llama4TextConfig(**sizes, intermediate_size_mlp=48, num_local_experts=2, attention_chunk_size=4),
        t.MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=1),
    ):
        model = t.AutoModelForCausalLM.from_config(config)
        assert not attention.enable(model), config.model_type
        assert model.config._attn_implementation != "packed"


def test_a_mask_from_outside_is_an_error_not_ignored() -> None:
    model = tiny("llama")
    attention.enable(model)
    with attention.packed([3]), pytest.raises(ValueError, match="its own masks"):
        model(torch.ones(1, 3, dtype=torch.long), attention_mask=torch.ones(1, 1, 3, 3))


def test_packed_attention_outside_its_context_is_an_error() -> None:
    model = tiny("llama")
    attention.enable(model)
    with pytest.raises(ValueError, match="packed"):
        model(torch.ones(1, 3, dtype=torch.long))
