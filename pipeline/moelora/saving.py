"""An adapter's files: ``adapter.safetensors`` and ``adapter.json``, same adapter, same bytes."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from pipeline.digests import canonical_json
from pipeline.errors import BaseModelError, DataError
from pipeline.moelora.config import MoeLoraConfig
from pipeline.moelora.layer import features
from pipeline.moelora.model import MoeLora, Task, inject

TENSORS = "adapter.safetensors"
FACTS = "adapter.json"
FORMAT = 1


def tensors(adapter: MoeLora) -> dict[str, Tensor]:
    """The trained tensors on the processor, contiguous, detached, by name."""
    named = adapter.adapter_parameters()
    return {name: parameter.detach().cpu().contiguous() for name, parameter in named.items()}


def save(adapter: MoeLora, folder: Path) -> None:
    """Write the adapter into ``folder``, which exists."""
    save_file(tensors(adapter), folder / TENSORS, metadata={"format": "pt"})
    facts = {"format": FORMAT, "config": adapter.config.to_dict(), "base": base_facts(adapter)}
    (folder / FACTS).write_text(canonical_json(facts), encoding="utf-8")


def load(model: PreTrainedModel, folder: Path) -> MoeLora:
    """Inject the adapter of ``folder`` into its base model.

    Raises DataError where the files are missing or damaged, BaseModelError where the adapter
    belongs to another base.
    """
    try:
        facts: dict[str, Any] = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        values = load_file(folder / TENSORS)
        if facts["format"] != FORMAT:
            raise DataError(f"{folder / FACTS}: format {facts['format']}, this version reads {FORMAT}")
        config = MoeLoraConfig(**facts["config"])
        layers = facts["base"]["layers"]
    except OSError:
        raise DataError(f"{folder} holds no adapter: {TENSORS} and {FACTS} are needed") from None
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise DataError(f"{folder} holds a damaged adapter: {type(error).__name__}") from None
    adapter = inject(model, config)
    if base_facts(adapter)["layers"] != layers:
        adapter.unload()
        raise BaseModelError(
            f"{folder} was trained for {facts['base']['architecture']} with other layers than "
            f"this {type(model).__name__}: set base in params.yaml to the model it was trained for"
        )
    try:
        restore(adapter, values)
    except ValueError as error:
        adapter.unload()
        raise DataError(f"{folder / TENSORS}: {error}") from None
    return adapter


def restore(adapter: MoeLora, values: dict[str, Tensor]) -> None:
    """Set the trained tensors; raises ValueError where names or shapes differ."""
    parameters = adapter.adapter_parameters()
    if parameters.keys() != values.keys():
        raise ValueError(f"names differ: {sorted(parameters.keys() ^ values.keys())[:3]}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            if parameter.shape != values[name].shape:
                raise ValueError(f"{name}: shape {tuple(values[name].shape)}, not {tuple(parameter.shape)}")
            parameter.copy_(values[name])


def base_facts(adapter: MoeLora) -> dict[str, Any]:
    """What an adapter asks of its base: the class, and [d_in, d_out] of every adapted layer."""
    return {
        "architecture": type(adapter.model).__name__,
        "layers": {name: list(features(layer.base)) for name, layer in adapter.layers.items()},
    }


def task_lora(adapter: MoeLora, task: Task) -> dict[str, Tensor]:
    """The task's exact LoRA under PEFT's names: A as it is, the gate's weights folded into B.

    ``base_model.model.<module>.lora_A.weight`` [r, d_in] and ``.lora_B.weight`` [d_out, r],
    float32. PEFT applies the same ``alpha / r``, or ``alpha / sqrt(r)`` where its ``use_rslora``
    is set, so the weights alone are folded.
    """
    config = adapter.config
    weights = adapter.layer_weights(task)
    lora = {}
    for name, layer in adapter.layers.items():
        columns = weights[name].cpu().repeat_interleave(config.rank // config.experts)
        lora[f"base_model.model.{name}.lora_A.weight"] = layer.A.detach().cpu().contiguous()
        lora[f"base_model.model.{name}.lora_B.weight"] = (layer.B.detach().cpu() * columns).contiguous()
    return lora
