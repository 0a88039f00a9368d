"""The exported files as a stranger loads them: stock PEFT, no code of ours in between."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline import base, paths
from pipeline.errors import DataError
from pipeline.moelora import saving
from pipeline.params import Compute

PROBES = (2, 24)
"""Rows and tokens of the random sequences that logits are compared on."""


def differences(compute: Compute) -> dict[str, float]:
    """Largest absolute difference of logits between models/release/tasks/<task>, loaded by stock
    PEFT, and models/release/moelora, for each task the latter knows.

    In float32 whatever ``compute.dtype``, as in export: rounding to bfloat16 would hide a
    difference, or be one. DataError where PEFT cannot load a task's files.
    """
    from peft import PeftModel

    model, tokenizer = base.load(compute.model_copy(update={"dtype": "float32", "quantize": None}))
    adapter = saving.load(model, paths.RELEASE_NATIVE)
    ids = torch.randint(len(tokenizer), PROBES, generator=torch.Generator().manual_seed(0)).to(model.device)
    native = {}
    for task in adapter.config.tasks:
        with adapter.tasks([task]):
            native[task] = _logits(model, ids)
    adapter.unload()
    worst = {}
    for task, expected in native.items():
        folder = paths.RELEASE_TASKS / task
        try:
            stock = PeftModel.from_pretrained(model, _existing(folder), local_files_only=True).eval()
        except (OSError, ValueError, RuntimeError) as error:
            raise DataError(
                f"{folder} cannot be loaded by PEFT ({type(error).__name__}): "
                "run `python -m pipeline.export` again"
            ) from None
        worst[task] = float((_logits(stock, ids) - expected).abs().max())
        model = stock.unload()
    return worst


def _existing(folder: Path) -> str:
    """The folder's name for PEFT, which would take a missing one for a name on the Hub."""
    if not folder.is_dir():
        raise FileNotFoundError(folder)
    return str(folder)


def _logits(model: Any, ids: Tensor) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = model(input_ids=ids, use_cache=False).logits.float().cpu()
    return logits
