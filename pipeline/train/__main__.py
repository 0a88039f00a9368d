"""Train one MOELoRA adapter for all tasks, or a plain LoRA (train.method), always from scratch.

    python -m pipeline.train
    torchrun --nproc-per-node 4 -m pipeline.train      # see ``ranks``

Reads models/base, data/resampled, data/split/train.parquet and validation.parquet; writes
models/adapter, reports/train.json and reports/plots/train (what a person looks at: see ``plots``).

Each optimiser step takes the next ``train.batch_records`` draws of the order, packed without
padding; the loss is taken over answer tokens alone, balanced over tasks or not (train.loss). The
adapter with the lowest validation loss, averaged over tasks, is what is saved; train.patience
ends a training that gets no better. Stopped by
SIGTERM, it saves and exits 75; killed, it loses at most ``train.checkpoint_every`` steps. Either
way the same command goes on and ends with the bytes of an uninterrupted run.
"""

import math
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import fields
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import pipeline
from pipeline import attention, base, moelora, paths
from pipeline.digests import file_digest, folder_digest, value_digest
from pipeline.files import new_folder
from pipeline.moelora import MoeLora, MoeLoraConfig, saving
from pipeline.params import Params, Train
from pipeline.stage import Progress, Report, main
from pipeline.train import checkpoint, data, plots, ranks
from pipeline.train.checkpoint import State
from pipeline.train.loop import Loop
from pipeline.train.ranks import Ranks

HEALTH_STEPS = 5
"""Steps at either end whose mean loss the report's health compares; never more than half."""


def run(params: Params, progress: Progress) -> Report:
    """Train on what resample ordered; returns the report. See the module's docstring."""
    with ranks.join(params.compute) as (own, device):
        return _run(params, progress, own, device)


def _run(params: Params, progress: Progress, own: Ranks, device: str) -> Report:
    train = params.train
    order = data.read_order()
    records = data.read_training_records(order)
    tasks = sorted(records["task"].unique())
    validation = data.choose_validation(tasks, train.validation_records)
    compute = params.compute.model_copy(update={"device": device})
    model, tokenizer = base.load(compute, place=not own.shard_base)
    inputs = {
        str(path): file_digest(path)
        for path in (paths.ORDER, paths.CANARIES, paths.TRAIN_SPLIT, paths.VALIDATION_SPLIT)
    }
    base_digest = folder_digest(paths.BASE)
    with own.main_first():
        tokens = data.tokenise(records.vstack(validation), tokenizer, train, progress, base_digest)
    adapter = moelora.inject(model, adapter_config(train, tasks))
    # A row of its own for each sample where packing is not safe.
    row_tokens = train.micro_batch_tokens if attention.enable(model) else 1
    if own.shard_base:
        ranks.shard(adapter, device)
    fingerprint = _fingerprint(params, inputs, base_digest, own.count)
    with checkpoint.folder(fingerprint) if own.main else nullcontext() as checkpoints:
        loop = Loop(
            adapter,
            train,
            device,
            row_tokens,
            tokens,
            order["sample_id"].to_list(),
            validation["sample_id"].to_list(),
            checkpoints,
            progress,
            own,
        )
        state = loop.run()
    if not own.main:
        return {}
    with new_folder(paths.ADAPTER) as folder:
        saving.save(adapter, folder)
    with new_folder(paths.PLOTS / "train") as folder:
        plots.write(state, adapter, folder)
    drawn = order["sample_id"].head(state.step * train.batch_records)
    draws = [tokens[sample_id] for sample_id in drawn]
    return {
        "steps": state.step,
        "steps_planned": loop.steps,
        "stopped_early": loop.stopped_early,
        "records": len(draws),
        "best_records": min((state.best_step or 0) * train.batch_records, len(draws)),
        "records_cut": sum(sample.cut for sample in draws),
        "tokens": sum(sample.length for sample in draws),
        "answer_tokens": sum(sample.answer_tokens for sample in draws),
        "validation_records": validation.height,
        "parameters": _parameters(adapter),
        "best_step": state.best_step,
        "health": _health(state),
        "gate": {task: adapter.weights(task).tolist() for task in tasks},
        "curve": state.curve,
        "validation": state.validation,
    }


def adapter_config(train: Train, tasks: Iterable[str]) -> MoeLoraConfig:
    """What the train section of params.yaml asks for, for ``tasks``."""
    named = {field.name for field in fields(MoeLoraConfig)} - {"tasks"}
    return MoeLoraConfig(tasks=tuple(tasks), **train.model_dump(include=named))


def _fingerprint(params: Params, inputs: dict[str, str], base_digest: str, processes: int) -> str:
    """Names all that decides the trained bytes."""
    root = Path(pipeline.__file__).parent
    code = [*root.glob("train/*.py"), *root.glob("moelora/*.py"), root / "prompts.py", root / "base.py"]
    code.remove(root / "train/plots.py")  # draws what was trained, decides none of it
    return value_digest(
        {
            "inputs": inputs,
            "base": base_digest,
            "compute": params.compute.model_dump(),
            "train": params.train.model_dump(),
            "processes": processes,
            "code": {str(file.relative_to(root)): file_digest(file) for file in code},
            "versions": {name: metadata.version(name) for name in ("torch", "transformers", "safetensors")},
            "instructions": torch.backends.cpu.get_cpu_capability(),
        }
    )[:32]


def _parameters(adapter: MoeLora) -> dict[str, int]:
    return {
        "trained": sum(parameter.numel() for parameter in adapter.adapter_parameters().values()),
        "base": sum(p.numel() for p in adapter.model.parameters() if not p.requires_grad),
    }


def _health(state: State) -> dict[str, Any]:
    """``finite`` is always true here: another loss ends the stage. Fewer than two steps have no
    first and last."""
    losses = [entry["loss"] for entry in state.curve]
    window = min(HEALTH_STEPS, len(losses) // 2)
    if window == 0:
        return {"finite": True, "loss_first": None, "loss_last": None}
    return {
        "finite": True,
        "loss_first": math.fsum(losses[:window]) / window,
        "loss_last": math.fsum(losses[-window:]) / window,
    }


if __name__ == "__main__":
    main("train", run, saves_on_stop=True)
