"""The peers: PEFT's LoRA and the published code's loop over experts where the loop of pipeline.train
takes a MoeLora, and Transformers' Trainer as people use it."""

import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from pipeline.moelora import MoeLora, MoeLoraConfig
from pipeline.moelora.layer import features
from pipeline.moelora.model import target_names
from pipeline.params import Train
from pipeline.train.data import Sample

EMBEDDING_SIZE = 64


class PeftLora(nn.Module):
    """One LoRA of stock PEFT for all tasks."""

    def __init__(self, model: Any, params: Train) -> None:
        from peft import LoraConfig, get_peft_model

        super().__init__()
        # A list of names and not "all-linear", so that both adapt the same layers.
        config = LoraConfig(
            r=params.rank,
            lora_alpha=int(params.alpha),
            lora_dropout=params.dropout,
            target_modules=target_names(model, params.targets),
            task_type="CAUSAL_LM",
        )
        self.model = get_peft_model(model, config)

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in sorted(self.model.named_parameters()) if p.requires_grad}

    @contextmanager
    def token_tasks(self, _names: Sequence[str], _lengths: Sequence[int]) -> Iterator[None]:
        yield


@dataclass
class Weights:
    """Expert weights [rows, positions, N] that all layers apply now."""

    now: Tensor | None = None


class ExpertLoopLinear(nn.Module):
    """The published code's layer: every expert has its own dropout and its full-width output is gated
    (there for one row a sample, here also for the tokens of a packed row)."""

    def __init__(self, base: nn.Module, config: MoeLoraConfig, weights: Weights) -> None:
        super().__init__()
        d_in, d_out = features(base)
        rank = config.rank // config.experts
        self.base = base
        self.scaling = config.alpha / config.rank
        self.dropout = nn.Dropout(config.dropout)
        self.A = nn.ModuleList(nn.Linear(d_in, rank, bias=False) for _ in range(config.experts))
        self.B = nn.ModuleList(nn.Linear(rank, d_out, bias=False) for _ in range(config.experts))
        self.weights = weights
        for a, b in zip(self.A, self.B, strict=True):
            nn.init.normal_(a.weight, std=0.01)
            nn.init.zeros_(b.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = self.base(x)
        for i, (a, b) in enumerate(zip(self.A, self.B, strict=True)):
            y = y + b(a(self.dropout(x))) * self.scaling * self.weights.now[..., i, None]  # type: ignore[index]
        return y


class ExpertLoop(nn.Module):
    """MOELoRA as the published code computes it, in float32."""

    def __init__(self, model: Any, config: MoeLoraConfig) -> None:
        super().__init__()
        model.requires_grad_(False)
        self.config = config
        self.weights = Weights()
        self.embedding = nn.Embedding(len(config.tasks), EMBEDDING_SIZE)
        self.gate = nn.Linear(EMBEDDING_SIZE, config.experts, bias=False)
        self.layers: dict[str, ExpertLoopLinear] = {}
        for name in target_names(model, config.targets):
            parent, _, child = name.rpartition(".")
            layer = ExpertLoopLinear(model.get_submodule(name), config, self.weights)
            setattr(model.get_submodule(parent), child, layer)
            self.layers[name] = layer
        self.model = model

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        named = {"gate.embedding": self.embedding.weight, "gate.projection": self.gate.weight}
        for name, layer in self.layers.items():
            for part, experts in (("A", layer.A), ("B", layer.B)):
                named |= {f"layers.{name}.{part}.{i}": expert.weight for i, expert in enumerate(experts)}
        return dict(sorted(named.items()))

    def copy(self, values: dict[str, Tensor]) -> None:
        """Take the tensors of a MoeLora of the same configuration (``saving.tensors``)."""
        with torch.no_grad():
            self.embedding.weight.copy_(values["gate.embedding"])
            self.gate.weight.copy_(values["gate.projection"])
            for name, layer in self.layers.items():
                for experts, part, dim in ((layer.A, "A", 0), (layer.B, "B", 1)):
                    pieces = values[f"layers.{name}.{part}"].chunk(self.config.experts, dim=dim)
                    for expert, piece in zip(experts, pieces, strict=True):
                        expert.weight.copy_(piece)

    @contextmanager
    def tasks(self, names: Sequence[str]) -> Iterator[None]:
        """Within, row i of a batch is of task ``names[i]``."""
        index = torch.tensor([self.config.tasks.index(name) for name in names])
        self.weights.now = torch.softmax(self.gate(self.embedding(index)), dim=-1)[:, None]
        yield
        self.weights.now = None

    @contextmanager
    def token_tasks(self, names: Sequence[str], lengths: Sequence[int]) -> Iterator[None]:
        """Within, a batch is one packed row of samples of these lengths."""
        with self.tasks(names):
            assert self.weights.now is not None
            repeats = torch.tensor(lengths)
            self.weights.now = self.weights.now[:, 0].repeat_interleave(repeats, dim=0)[None]
            yield


Adapter = MoeLora | PeftLora | ExpertLoop


class CappedTrainer(Trainer):
    """Micro-batches of Trainer's own length-grouped order, closed before padding takes them over a
    number of tokens: Trainer itself knows micro-batches of a fixed number of records only."""

    cap: int

    def get_train_dataloader(self) -> DataLoader[Any]:
        order = list(self._get_train_sampler())  # type: ignore[arg-type]
        lengths = [len(self.train_dataset[i]["input_ids"]) for i in order]  # type: ignore[index]
        groups = capped(lengths, self.cap)
        batches = [[order[i] for i in group] for group in groups]
        return DataLoader(self.train_dataset, batch_sampler=batches, collate_fn=self.data_collator)  # type: ignore[arg-type]


def capped(lengths: Sequence[int], cap: int) -> list[list[int]]:
    """Indices in their order, cut into batches of at most ``cap`` padded tokens (one record at least)."""
    batches: list[list[int]] = []
    longest = 0
    for index, length in enumerate(lengths):
        longest = max(longest, length)
        if not batches or longest * (len(batches[-1]) + 1) > cap:
            batches.append([])
            longest = length
        batches[-1].append(index)
    return batches


def run_trainer(
    model: Any,
    samples: Sequence[Sample],
    params: Train,
    steps: int,
    batch: int,
    cap: int | None = None,
    device: str = "cpu",
    dtype: str = "float32",
) -> dict[str, list[float]]:
    """``seconds`` and ``losses`` of optimiser steps of Trainer on a PEFT LoRA, each over all ``samples``.

    Random micro-batches of ``batch`` records padded to their longest; with ``cap`` those of
    CappedTrainer. Learning rate, its cosine, clipping and dropout are those of ``params``; everything
    else is Trainer's default, the logits of all positions among it.
    """
    rows = [
        {"input_ids": s.ids.tolist(), "labels": [-100] * s.answer_start + s.ids[s.answer_start :].tolist()}
        for s in samples
    ]
    adapter = PeftLora(model, params)
    lengths = sorted((len(s.ids) for s in samples), reverse=True)
    accumulation = math.ceil(len(rows) / batch) if cap is None else len(capped(lengths, cap))
    clock = StepClock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
            num_train_epochs=steps,
            learning_rate=params.learning_rate,
            lr_scheduler_type="cosine",
            max_grad_norm=params.clip,
            train_sampling_strategy="random" if cap is None else "group_by_length",
            bf16=dtype == "bfloat16",
            use_cpu=device == "cpu",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=params.seed,
        )
        kind = Trainer if cap is None else CappedTrainer
        trainer = kind(
            model=adapter.model,
            args=arguments,
            train_dataset=rows,  # type: ignore[arg-type]
            data_collator=pad_to_longest,
            callbacks=[clock],
        )
        if isinstance(trainer, CappedTrainer) and cap is not None:
            trainer.cap = cap
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"seconds": clock.seconds, "losses": losses}


def pad_to_longest(rows: Sequence[dict[str, list[int]]]) -> dict[str, Tensor]:
    """A micro-batch as Transformers' own collators make it."""
    longest = max(len(row["input_ids"]) for row in rows)

    def padded(lists: list[list[int]], value: int) -> Tensor:
        return torch.tensor([[*each, *[value] * (longest - len(each))] for each in lists])

    ids = [row["input_ids"] for row in rows]
    return {
        "input_ids": padded(ids, 0),
        "attention_mask": padded([[1] * len(each) for each in ids], 0),
        "labels": padded([row["labels"] for row in rows], -100),
    }


class StepClock(TrainerCallback):
    """Seconds of each optimiser step, from its first micro-batch to its update."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._start = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._start = _now()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(_now() - self._start)


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
