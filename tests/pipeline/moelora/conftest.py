"""Tiny randomly initialised models of several architectures."""

from typing import Any

import pytest
import torch

from pipeline.moelora import MoeLora, MoeLoraConfig, inject

ARCHITECTURES = (
    "llama", "qwen2", "qwen3", "gemma3", "mistral", "phi", "phi3", "gpt2", "gpt_neox", "opt",
    "mixtral", "qwen3_moe", "phimoe",
)  # fmt: skip
GATES = ("shared", "per_layer", "uniform")
VOCABULARY = 97


def tiny(architecture: str, dtype: torch.dtype = torch.float32) -> Any:
    """A causal model of two layers, width 32, the same weights every time.

    Windows of 4 tokens slide in Mistral, Phi-3 and PhiMoE, in one of the two layers of Qwen2 and
    Gemma 3, whose layers also rotate by different bases.
    """
    import transformers as t

    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
        "bos_token_id": None,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }
    grouped = sizes | {"num_key_value_heads": 2}
    configs: dict[str, Any] = {
        "llama": lambda: t.LlamaConfig(**grouped),
        "qwen2": lambda: t.Qwen2Config(
            **grouped, use_sliding_window=True, sliding_window=4, max_window_layers=1
        ),
        "qwen3": lambda: t.Qwen3Config(**grouped, head_dim=8),
        "gemma3": lambda: t.Gemma3TextConfig(
            **grouped, head_dim=8, sliding_window=4, layer_types=["sliding_attention", "full_attention"],
        ),
        "mistral": lambda: t.MistralConfig(**grouped, sliding_window=4),
        "phi": lambda: t.PhiConfig(**sizes),
        "phi3": lambda: t.Phi3Config(**grouped, sliding_window=4),
        "gpt2": lambda: t.GPT2Config(
            vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=128, bos_token_id=None,
            eos_token_id=1, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        ),
        "gpt_neox": lambda: t.GPTNeoXConfig(**sizes),
        "opt": lambda: t.OPTConfig(
            vocab_size=VOCABULARY, hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=128, word_embed_proj_dim=32, dropout=0.0, bos_token_id=None,
            eos_token_id=1, pad_token_id=0,
        ),
        "mixtral": lambda: t.MixtralConfig(**grouped, num_local_experts=4),
        "qwen3_moe": lambda: t.Qwen3MoeConfig(
            **grouped, head_dim=8, moe_intermediate_size=16, num_experts=4, num_experts_per_tok=2,
            mlp_only_layers=[0],
        ),
        "mpt": lambda: t.MptConfig(
            vocab_size=VOCABULARY, d_model=32, n_heads=4, n_layers=2, expansion_ratio=2, max_seq_len=128,
        ),
        "phimoe": lambda: t.PhimoeConfig(**grouped, sliding_window=4, num_local_experts=4),
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return t.AutoModelForCausalLM.from_config(configs[architecture](), dtype=dtype).eval()


@pytest.fixture(params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ids(rows: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(2, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))


def trained(architecture: str, tasks: tuple[str, str], **config: Any) -> MoeLora:
    """Two steps on random tokens, a row of each task."""
    adapter = inject(tiny(architecture), MoeLoraConfig(tasks=tasks, rank=8, experts=4, **config))
    optimizer = torch.optim.AdamW(adapter.adapter_parameters().values(), lr=0.05)
    adapter.train()
    for step in range(2):
        batch = ids(2, 8, seed=step)
        with adapter.tasks(tasks):
            adapter.model(batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    adapter.eval()
    return adapter


def randomise(adapter: Any, seed: int = 5, spread: float = 0.1) -> None:
    """Give B values as if trained: at zero an adapter shows nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in adapter.adapter_parameters().items():
            if name.endswith(".B"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
