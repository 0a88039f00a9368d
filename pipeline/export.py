"""Turn the adapter into a release: the native files, and one stock PEFT LoRA for each task.

    python -m pipeline.export

Reads models/adapter and models/base; writes models/release/moelora/ (the adapter as trained),
models/release/tasks/<task>/ (adapter_config.json and adapter_model.safetensors, as PEFT, vLLM
and every LoRA server read them) and reports/export.json. Every task's LoRA is loaded by stock
PEFT and its logits are compared with the native adapter's, in float32; more than
``export.tolerance`` apart ends the stage with nothing written.
"""

import shutil
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import save_file
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from pipeline import base, paths
from pipeline.digests import canonical_json, folder_digest
from pipeline.errors import PipelineError
from pipeline.files import new_folder
from pipeline.moelora import MoeLora, saving
from pipeline.params import Base, Params
from pipeline.stage import Progress, Report, main

PROBES = (2, 32)
"""Rows and tokens of the random sequences that logits are compared on."""

PACKAGES = ("peft", "torch", "transformers")
"""Packages whose version may change a trained adapter's bytes; publish puts them in the lineage."""


def run(params: Params, progress: Progress) -> Report:
    """Export models/adapter; returns the report. See the module's docstring."""
    # Rounding to bfloat16 would hide a difference, or be one: the proof is always in float32.
    model, tokenizer = base.load(params.compute.model_copy(update={"dtype": "float32", "quantize": None}))
    adapter = saving.load(model, paths.ADAPTER)
    adapter.eval()
    probes = _probes(len(tokenizer), params.compute.device)
    tasks = adapter.config.tasks
    with new_folder(paths.RELEASE) as folder:
        native = folder / paths.RELEASE_NATIVE.relative_to(paths.RELEASE)
        native.mkdir()
        for name in (saving.TENSORS, saving.FACTS):
            shutil.copyfile(paths.ADAPTER / name, native / name)
        exported = folder / paths.RELEASE_TASKS.relative_to(paths.RELEASE)
        expected = {}
        for task in tasks:
            write_task_lora(adapter, task, exported / task, params.base)
            with adapter.tasks([task]):
                expected[task] = _logits(model, probes)
        adapter.unload()
        differences = {}
        for done, task in enumerate(tasks, start=1):
            stock = PeftModel.from_pretrained(model, str(exported / task)).eval()
            differences[task] = (_logits(stock, probes) - expected[task]).abs().max().item()
            model = stock.unload()
            progress.update(done, len(tasks), "tasks proven equal")
        wrong = {task: d for task, d in differences.items() if not d <= params.export.tolerance}
        if wrong:
            raise PipelineError(
                f"logits of the exported LoRA differ from the native adapter's by {max(wrong.values()):.2e} "
                f"for {', '.join(sorted(wrong))}; export.tolerance is {params.export.tolerance:g}. "
                "Nothing was written"
            )
        digest = folder_digest(folder)
    return {
        "release_digest": digest,
        "tolerance": params.export.tolerance,
        "tasks": {task: {"max_abs_difference": d} for task, d in differences.items()},
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }


def write_task_lora(adapter: MoeLora, task: str, folder: Path, base_model: Base) -> None:
    """Write the exact LoRA of ``task`` as stock PEFT reads it; same adapter, same bytes.

    ``base_model_name_or_path`` is the model params.yaml names (of a local folder its name
    alone), never a path of this machine.
    """
    folder.mkdir(parents=True)
    layers = adapter.layers
    name = Path(base_model.model).name if Path(base_model.model).is_dir() else base_model.model
    alpha = adapter.config.alpha
    config: dict[str, Any] = LoraConfig(
        task_type="CAUSAL_LM",
        base_model_name_or_path=name,
        revision=base_model.revision,
        r=adapter.config.rank,
        lora_alpha=int(alpha) if alpha.is_integer() else alpha,  # type: ignore[arg-type]
        use_rslora=adapter.config.scaling == "rslora",
        lora_dropout=adapter.config.dropout,
        target_modules=target_modules(adapter),
        fan_in_fan_out=any(isinstance(layer.base, Conv1D) for layer in layers.values()),
        inference_mode=True,
    ).to_dict()  # type: ignore[no-untyped-call]
    # PEFT keeps sets, whose order differs from process to process.
    config = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    (folder / "adapter_config.json").write_text(canonical_json(config), encoding="utf-8")
    save_file(
        saving.task_lora(adapter, task), folder / "adapter_model.safetensors", metadata={"format": "pt"}
    )


def target_modules(adapter: MoeLora) -> list[str]:
    """The shortest names that select exactly the adapted layers: last parts where those are
    unambiguous, as LoRA servers expect them; full names otherwise."""
    adapted = set(adapter.layers)
    suffixes = {name.rsplit(".", 1)[-1] for name in adapted}
    names: Sequence[str] = [
        name.removesuffix(".base")
        for name, _ in adapter.model.named_modules()
        if name.rpartition(".")[0] not in adapted or name.endswith(".base")
    ]
    selected = {name for name in names if name.rsplit(".", 1)[-1] in suffixes}
    return sorted(suffixes if selected == adapted else adapted)


def _probes(vocabulary: int, device: str) -> Tensor:
    """Random token ids [rows, tokens], the same every time; nobody's text."""
    generator = torch.Generator().manual_seed(17)
    return torch.randint(vocabulary, PROBES, generator=generator).to(device)


def _logits(model: Any, ids: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(input_ids=ids, use_cache=False).logits.cpu()
    return logits


if __name__ == "__main__":
    main("export", run)
