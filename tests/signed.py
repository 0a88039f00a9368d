"""A release of a tiny real shape, and keys to sign it with."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from pipeline import paths, signing
from pipeline.digests import canonical_json, folder_digest

LAYERS = {"model.layers.0.q_proj": (32, 32), "model.layers.0.down_proj": (64, 32)}  # d_in, d_out
RANK = 4
TASKS = ("triage", "gout")


def make_release(folder: Path, base: str = "b" * 64, seed: int = 0) -> Path:
    """Write an adapter and a LoRA for each task as ``export`` does; ``base``: digest in its lineage."""
    random = np.random.default_rng(seed)

    def tensors(first: str, second: str) -> dict[str, np.ndarray]:
        made = {}
        for layer, (d_in, d_out) in LAYERS.items():
            made[first.format(layer)] = random.normal(size=(RANK, d_in)).astype("float32")
            made[second.format(layer)] = random.normal(size=(d_out, RANK)).astype("float32")
        return made

    native = folder / "moelora"
    native.mkdir(parents=True)
    save_file(tensors("layers.{}.A", "layers.{}.B"), native / "adapter.safetensors")
    layers = {name: list(widths) for name, widths in LAYERS.items()}
    facts = {
        "format": 1,
        "config": {"rank": RANK},
        "base": {"architecture": "LlamaForCausalLM", "layers": layers},
    }
    (native / "adapter.json").write_text(canonical_json(facts))
    for task in TASKS:
        target = folder / "tasks" / task
        target.mkdir(parents=True)
        lora = tensors("base_model.model.{}.lora_A.weight", "base_model.model.{}.lora_B.weight")
        save_file(lora, target / "adapter_model.safetensors")
        (target / "adapter_config.json").write_text(json.dumps({"r": RANK}))
    (folder / "README.md").write_text("# A card\n")
    gate = {"verdict": "pass", "rules": [], "undecided": [], "against": "base", "release_digest": "d" * 64}
    (folder / "gate.json").write_text(canonical_json(gate))
    lineage = {
        "stages": {},
        "inputs": ["a" * 16],
        "params": {"train": {"rank": RANK}},
        "key_id": "0" * 16,
        "base": {"model": "tiny", "revision": None, "digest": base},
        "packages": {"numpy": np.__version__},
    }
    (folder / "lineage.json").write_text(canonical_json(lineage))
    return folder


def make_base(widths: dict[str, tuple[int, int]] = LAYERS) -> str:
    """A base model of those layers in models/base; its digest."""
    paths.BASE.mkdir(parents=True)
    weights = {f"{name}.weight": np.zeros((d_out, d_in), "float32") for name, (d_in, d_out) in widths.items()}
    save_file(weights, paths.BASE / "model.safetensors")
    return folder_digest(paths.BASE)


def trust(name: str, folder: Path) -> Path:
    """A new pair whose public key this checkout trusts; the private key's file in ``folder``."""
    private = folder / f"{name}.pem"
    signing.make_pair(private, paths.TRUSTED_KEYS / f"{name}.pub")
    return private
