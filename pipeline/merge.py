"""One task of a release as a full model, for whatever serves models and knows no LoRA.

>>> merge(registry.pull(release), "rqe", Path("rqe-model"), Params.load())

The folder holds config.json, ``*.safetensors`` in float32, the tokenizer, the base model's licence,
README.md, and RELEASE.md, the model card of the release where it has one. transformers'
``from_pretrained`` reads it, and so do its servers; no code of this project is needed then.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline import paths
from pipeline.errors import InputError, PipelineError
from pipeline.files import new_folder
from pipeline.params import Params
from pipeline.release_folder import check_base, release_id

PROBES = (2, 32)
"""Rows and tokens of the random sequences that logits are compared on."""

README = """\
# {base} for the task `{task}`

{base} with the adapter for one task added to its weights, in float32, by `moelora merge`. Its logits
are those of `tasks/{task}` of the release within float32's rounding.

| | |
|---|---|
| release | `{release}` |
| task | `{task}` |
| base model | {base}{revision} |

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("this folder")
tokenizer = AutoTokenizer.from_pretrained("this folder")
```

Prompts are written as in training: one message of a user by the tokenizer's chat template, without
the system message that some templates add; where there is no template, the input and a newline.
Not a medical device. Scores, data licences and intended use are those of the
release{card}.
"""


def merge(folder: Path, task: str, out: Path, params: Params) -> float:
    """Write models/base with the LoRA of ``task`` merged into ``out``; the largest absolute
    difference of logits from the LoRA's own, in float32.

    ``folder``: a verified release, or models/release. Raises InputError where ``out`` is there
    already, the release does not know the task or was trained on another base; PipelineError, with
    nothing written, where logits differ by more than ``export.tolerance`` of the largest. Of the
    largest, since the sum of two weights is rounded once more than their products were: with
    SmolLM2-135M, whose logits reach 29, that alone is 1e-4.
    """
    if out.exists():
        raise InputError(f"{out} is there already: name a new folder")
    source = _task_folder(folder, task)
    check_base(folder)
    # The heavy part, after everything that can be said without it.
    from peft import PeftModel

    from pipeline import base

    # Rounding to bfloat16 would hide a difference, or be one.
    model, tokenizer = base.load(params.compute.model_copy(update={"dtype": "float32", "quantize": None}))
    stock = PeftModel.from_pretrained(model, str(source), local_files_only=True).eval()
    probes = _probes(len(tokenizer), params.compute.device)
    wanted = _logits(stock, probes)
    merged: Any = stock.merge_and_unload()  # type: ignore[operator]
    difference = float((_logits(merged, probes) - wanted).abs().max())
    largest = float(wanted.abs().max())
    if not difference <= params.export.tolerance * max(1.0, largest):
        raise PipelineError(
            f"logits of the merged model, up to {largest:.3g}, differ from those of {task}'s LoRA by "
            f"{difference:.2e}; export.tolerance is {params.export.tolerance:g}. Nothing was written"
        )
    with new_folder(out) as made:
        merged.save_pretrained(made)
        tokenizer.save_pretrained(made)
        for licence in paths.BASE.glob("LICENSE*"):
            shutil.copyfile(licence, made / licence.name)
        card = folder / "README.md"
        if card.is_file():
            shutil.copyfile(card, made / "RELEASE.md")
        (made / "README.md").write_text(_readme(folder, source, task), encoding="utf-8")
        for file in made.iterdir():
            file.chmod(0o644)  # safetensors writes for its owner alone
    return difference


def _task_folder(folder: Path, task: str) -> Path:
    tasks = folder / paths.RELEASE_TASKS.name
    known = sorted(each.parent.name for each in tasks.glob("*/adapter_model.safetensors"))
    if not known:
        raise InputError(
            f"{folder} holds no release: {tasks.name}/<task>/adapter_model.safetensors is missing"
        )
    if task not in known:
        raise InputError(f"the release knows no task {task!r}: it knows {', '.join(known)}")
    return tasks / task


def _readme(folder: Path, source: Path, task: str) -> str:
    config = json.loads((source / "adapter_config.json").read_text(encoding="utf-8"))
    return README.format(
        base=config["base_model_name_or_path"],
        revision=f" at `{config['revision']}`" if config.get("revision") else "",
        task=task,
        release=release_id(folder),
        card=", see RELEASE.md" if (folder / "README.md").is_file() else "",
    )


def _probes(vocabulary: int, device: str) -> Tensor:
    """Random token ids [rows, tokens], the same every time; nobody's text."""
    return torch.randint(vocabulary, PROBES, generator=torch.Generator().manual_seed(17)).to(device)


def _logits(model: Any, ids: Tensor) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = model(input_ids=ids, use_cache=False).logits.cpu()
    return logits
