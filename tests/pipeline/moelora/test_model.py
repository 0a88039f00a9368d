"""The adapter in whole models of several architectures."""

from typing import Any

import pytest
import torch

from pipeline.errors import InputError
from pipeline.moelora import MoeLora, MoeLoraConfig, inject
from pipeline.moelora.model import UnknownTask, target_names
from tests.pipeline.moelora.conftest import GATES, ids, randomise, tiny

TASKS = ("rqe", "mts-section", "summary")


def adapted(architecture: str = "llama", **config: Any) -> MoeLora:
    adapter = inject(tiny(architecture), MoeLoraConfig(tasks=TASKS, rank=8, experts=4, **config))
    randomise(adapter)
    return adapter


def logits(adapter: MoeLora, batch: torch.Tensor, tasks: list[Any]) -> torch.Tensor:
    with torch.no_grad(), adapter.tasks(tasks):
        out: torch.Tensor = adapter.model(batch, use_cache=False).logits
    return out


@pytest.mark.parametrize("length", [3, 7], ids=["length equal to batch size", "length unequal"])
def test_rows_of_a_mixed_batch_equal_batches_of_one(architecture: str, length: int) -> None:
    adapter = adapted(architecture)
    batch = ids(3, length)
    mixed = logits(adapter, batch, ["rqe", "summary", "mts-section"])
    for row, task in enumerate(["rqe", "summary", "mts-section"]):
        alone = logits(adapter, batch[row : row + 1], [task])
        assert (mixed[row] - alone[0]).abs().max() < 1e-5
    assert (mixed - logits(adapter, batch, ["rqe"])).abs().max() > 1e-3  # tasks do differ


def test_decoding_step_by_step_with_a_cache_equals_one_pass(architecture: str) -> None:
    adapter = adapted(architecture)
    batch = ids(3, 6)
    tasks = ["summary", "rqe", "mts-section"]
    whole = logits(adapter, batch, tasks)
    cache = None
    with torch.no_grad(), adapter.tasks(tasks):
        for position in range(6):
            out = adapter.model(batch[:, position : position + 1], past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            assert (out.logits[:, 0] - whole[:, position]).abs().max() < 1e-5


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("length", [1, 3, 7])
def test_every_gate_serves_mixed_batches_and_a_cache(gate: str, length: int) -> None:
    adapter = adapted(gate=gate)
    batch = ids(3, length)
    tasks = ["rqe", "summary", "mts-section"]
    mixed = logits(adapter, batch, tasks)
    for row, task in enumerate(tasks):
        alone = logits(adapter, batch[row : row + 1], [task])
        assert (mixed[row] - alone[0]).abs().max() < 1e-5
    differ = (mixed - logits(adapter, batch, ["rqe"])).abs().max() > 1e-3
    assert differ == (gate != "uniform")
    cache = None
    with torch.no_grad(), adapter.tasks(tasks):
        for position in range(length):
            out = adapter.model(batch[:, position : position + 1], past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            assert (out.logits[:, 0] - mixed[:, position]).abs().max() < 1e-5


def test_greedy_generation_of_a_mixed_batch_equals_one_by_one() -> None:
    adapter = adapted()
    batch = ids(3, 5)
    tasks = ["summary", "rqe", "mts-section"]
    options: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False}
    with adapter.tasks(tasks):
        together = adapter.model.generate(batch, attention_mask=torch.ones_like(batch), **options)
    for row, task in enumerate(tasks):
        one = batch[row : row + 1]
        with adapter.tasks([task]):
            alone = adapter.model.generate(one, attention_mask=torch.ones_like(one), **options)
        assert together[row, : alone.shape[1]].tolist() == alone[0].tolist()


def test_a_sample_of_several_tasks_lies_between_and_all_tasks_are_the_mean() -> None:
    adapter = adapted()
    assert adapter.gate is not None
    mean = torch.softmax(adapter.gate.embedding.mean(0) @ adapter.gate.projection.T, -1)
    assert torch.allclose(adapter.weights(TASKS), mean, atol=1e-6)
    assert torch.equal(adapter.weights(("rqe",)), adapter.weights("rqe"))
    batch = ids(2, 5)
    mixed = logits(adapter, batch, [("rqe", "summary"), "rqe"])
    assert not torch.allclose(mixed[0], logits(adapter, batch[:1], ["rqe"])[0], atol=1e-4)
    assert torch.allclose(mixed[1], logits(adapter, batch[1:], ["rqe"])[0], atol=1e-5)


def test_disabled_is_the_bare_base_and_unload_gives_it_back(architecture: str) -> None:
    batch = ids(2, 5)
    with torch.no_grad():
        bare = tiny(architecture)(batch).logits
    adapter = adapted(architecture)
    with torch.no_grad(), adapter.disabled():
        assert torch.equal(adapter.model(batch).logits, bare)
    assert not torch.equal(logits(adapter, batch, ["rqe"]), bare)
    model = adapter.unload()
    with torch.no_grad():
        assert torch.equal(model(batch).logits, bare)
    inject(model, MoeLoraConfig(tasks=("other",)))


def test_a_fresh_adapter_changes_nothing() -> None:
    batch = ids(2, 5)
    with torch.no_grad():
        bare = tiny("llama")(batch).logits
    adapter = inject(tiny("llama"), MoeLoraConfig(tasks=TASKS))
    assert torch.equal(logits(adapter, batch, ["rqe"]), bare)


def test_only_the_adapter_is_trained_and_all_of_it(architecture: str) -> None:
    adapter = adapted(architecture, dropout=0.1)
    adapter.train()
    with adapter.tasks(["rqe", "summary", "mts-section"]):
        adapter.model(ids(3, 5)).logits.square().mean().backward()
    trained = {id(p) for p in adapter.adapter_parameters().values()}
    assert {id(p) for p in adapter.parameters() if p.requires_grad} == trained
    for name, parameter in adapter.adapter_parameters().items():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("gate", GATES)
def test_gradient_checkpointing_gives_the_same_gradients(gate: str) -> None:
    def gradients(checkpointing: bool) -> list[torch.Tensor]:
        adapter = adapted(gate=gate, dropout=0.1)
        torch.manual_seed(4)
        adapter.train()
        if checkpointing:
            adapter.model.activation_checkpointing_enable()
        with adapter.tasks(["rqe", "summary"]):
            adapter.model(ids(2, 5), use_cache=False).logits.square().mean().backward()
        return [p.grad for p in adapter.adapter_parameters().values() if p.grad is not None]

    for on, off in zip(gradients(True), gradients(False), strict=True):
        assert torch.allclose(on, off, atol=1e-7)


def test_all_linear_is_every_linear_of_the_blocks_and_not_the_head() -> None:
    names = target_names(tiny("llama"), "all-linear")
    kinds = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert {name.rsplit(".", 1)[-1] for name in names} == kinds
    assert len(names) == 14
    assert {n.rsplit(".", 1)[-1] for n in target_names(tiny("gpt2"), "all-linear")} == {
        "c_attn",
        "c_proj",
        "c_fc",
    }
    assert not any("embed_out" in name for name in target_names(tiny("gpt_neox"), "all-linear"))


def test_a_mixture_of_experts_model_is_adapted_outside_its_fused_experts() -> None:
    import transformers

    config = transformers.MixtralConfig(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=4,
    )  # fmt: skip
    model = transformers.MixtralForCausalLM(config)
    names = target_names(model, "all-linear")
    assert {name.rsplit(".", 1)[-1] for name in names} == {"q_proj", "k_proj", "v_proj", "o_proj"}
    for name in ("experts", "gate_up_proj", "experts.down_proj", "w1"):
        with pytest.raises(InputError, match=rf"'{name}' is, or .* the fused experts, .*q_proj"):
            target_names(model, (name,))


def test_what_peft_takes_for_fused_experts_and_routers_is_left_out() -> None:
    """Layer 0 of this Qwen3-MoE is dense; PhiMoE's router is a subclass of nn.Linear."""
    for architecture in ("qwen3_moe", "phimoe"):
        names = target_names(tiny(architecture), "all-linear")
        assert {name.rsplit(".", 1)[-1] for name in names} == {"q_proj", "k_proj", "v_proj", "o_proj"}
    with pytest.raises(InputError, match=r"'gate_proj' is, or PEFT takes it for, the fused experts"):
        target_names(tiny("qwen3_moe"), ("gate_proj",))


def test_targets_by_name() -> None:
    assert target_names(tiny("llama"), ("q_proj", "mlp.up_proj")) == [
        f"model.layers.{i}.{name}" for i in (0, 1) for name in ("self_attn.q_proj", "mlp.up_proj")
    ]


@pytest.mark.parametrize("target", ["query", "lm_head", "embed_tokens", "mlp"])
def test_a_target_that_is_no_linear_layer_of_a_block_names_the_candidates(target: str) -> None:
    with pytest.raises(InputError, match=rf"{target}.*down_proj, gate_proj, k_proj"):
        inject(tiny("llama"), MoeLoraConfig(tasks=TASKS, targets=(target,)))


def test_an_unknown_task_names_the_known() -> None:
    adapter = adapted()
    with (
        pytest.raises(UnknownTask, match=r"'nope'.*mts-section, rqe, summary"),
        adapter.tasks(["rqe", "nope"]),
    ):
        pass
    with pytest.raises(UnknownTask):
        adapter.weights("nope")


def test_a_second_adapter_is_refused_until_the_first_is_gone() -> None:
    adapter = adapted()
    with pytest.raises(ValueError, match="unload"):
        inject(adapter.model, MoeLoraConfig(tasks=TASKS))


def test_gates_of_layers_differ_and_their_mean_is_told() -> None:
    adapter = adapted(gate="per_layer")
    every = adapter.layer_weights("rqe")
    assert list(every) == list(adapter.layers) == sorted(adapter.layers)
    assert not torch.equal(every["model.layers.0.mlp.up_proj"], every["model.layers.1.mlp.up_proj"])
    assert torch.allclose(adapter.weights("rqe"), torch.stack(list(every.values())).mean(0))
    shared = adapted()
    assert all(torch.equal(own, shared.weights("rqe")) for own in shared.layer_weights("rqe").values())


def test_a_uniform_gate_weighs_every_expert_the_same_and_has_no_parameters() -> None:
    adapter = adapted(gate="uniform")
    assert adapter.weights("rqe").tolist() == [0.25] * 4
    assert not any(name.startswith("gate") for name in adapter.adapter_parameters())
    with pytest.raises(UnknownTask):
        adapter.weights("nope")


def test_rslora_scales_by_the_root_of_the_rank() -> None:
    assert MoeLoraConfig(tasks=TASKS, rank=16, alpha=32).scale == 2
    assert MoeLoraConfig(tasks=TASKS, rank=16, alpha=32, scaling="rslora").scale == 8
    batch = ids(2, 5)
    wanted = logits(adapted(alpha=32 * 8**0.5), batch, ["rqe"])
    assert torch.allclose(logits(adapted(scaling="rslora"), batch, ["rqe"]), wanted, atol=1e-5)


def test_a_new_task_or_layer_moves_no_other_first_value() -> None:
    few = inject(tiny("llama"), MoeLoraConfig(tasks=TASKS, targets=("q_proj",))).adapter_parameters()
    many = inject(tiny("llama"), MoeLoraConfig(tasks=("new", *TASKS))).adapter_parameters()
    for name in few.keys() - {"gate.embedding"}:
        assert torch.equal(few[name], many[name]), name
    assert torch.equal(few["gate.embedding"], many["gate.embedding"][1:])


@pytest.mark.parametrize(("gate", "gates"), [("uniform", 0), ("shared", 1), ("per_layer", 14)])
def test_parameters_are_those_of_a_plain_lora_and_the_gate(gate: str, gates: int) -> None:
    mixture = adapted(gate=gate).adapter_parameters()
    plain = inject(tiny("llama"), MoeLoraConfig(tasks=TASKS, rank=8, method="lora")).adapter_parameters()
    more = gates * (64 * len(TASKS) + 64 * 4)
    assert sum(p.numel() for p in mixture.values()) == sum(p.numel() for p in plain.values()) + more


def test_plain_lora_is_one_expert_for_all_tasks() -> None:
    adapter = adapted(method="lora")
    batch = ids(2, 5)
    assert torch.equal(logits(adapter, batch, ["rqe"]), logits(adapter, batch, ["summary"]))
    assert adapter.weights("rqe").tolist() == [1.0]


def test_contradictions_are_refused() -> None:
    with pytest.raises(ValueError, match="not divisible"):
        MoeLoraConfig(tasks=("a",), rank=8, experts=3)
    with pytest.raises(ValueError, match="each once"):
        MoeLoraConfig(tasks=("a", "a"))
