"""What bench-train measures, each a function for tests.bench.children.

Every optimiser step takes all records of the sample, so that each variant's k-th loss is of the
same records whatever the order in which it reads them; the first is the same for all, since every
adapter begins as nothing.
"""

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pipeline import attention, base, moelora
from pipeline.moelora import saving
from pipeline.params import Params, Train
from pipeline.stage import Progress
from pipeline.train.__main__ import adapter_config
from pipeline.train.data import Sample, pack
from pipeline.train.loop import Loop, routed
from pipeline.train.loss import token_losses
from tests.bench import peers, records
from tests.bench.children import Result
from tests.bench.peers import Adapter, ExpertLoop, PeftLora

LAYER_WIDTH = 1024
LAYER_BATCH = (4, 256)


class StepTimes(Progress):
    """Seconds of each step, from the loop's own messages; nothing is printed or written."""

    def __init__(self) -> None:
        self.stop_requested = False
        self.times = [time.perf_counter()]

    def update(self, done: int, total: int, message: str = "") -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())

    def count(self, **work: int) -> None:
        pass

    @property
    def seconds(self) -> list[float]:
        return [after - before for before, after in itertools.pairwise(self.times)]


def settings(dropout: float | None, dtype: str = "float32", seed: int = 17) -> Params:
    """params.yaml with the loss that Trainer knows, its schedule, and this dropout (None: as it is)."""
    params = Params.load()
    train = {"loss": "tokens", "warmup": 0.0, "seed": seed}
    if dropout is not None:
        train["dropout"] = dropout
    return params.model_copy(
        update={
            "compute": params.compute.model_copy(update={"dtype": dtype}),
            "train": params.train.model_copy(update=train),
        }
    )


def adapt(model: Any, kind: str, train: Train, tasks: tuple[str, ...]) -> Adapter:
    """``moelora``, ``peft`` or ``loop`` (the published code's) in ``model``."""
    if kind == "peft":
        return PeftLora(model, train)
    config = adapter_config(train, tasks)
    return moelora.inject(model, config) if kind == "moelora" else ExpertLoop(model, config)


def run_loop(adapter: Adapter, params: Params, samples: dict[str, Sample], steps: int) -> Result:
    """``seconds`` and ``losses`` of steps of this project's loop, each over all ``samples``."""
    train = params.train.model_copy(
        update={"batch_records": len(samples), "checkpoint_every": 10**9, "validate_every": 10**9}
    )
    times = StepTimes()
    with tempfile.TemporaryDirectory() as folder:
        loop = Loop(
            adapter,  # type: ignore[arg-type]
            train,
            params.compute.device,
            train.micro_batch_tokens,
            samples,  # type: ignore[arg-type]
            list(samples) * steps,
            [],
            Path(folder),
            times,
        )
        state = loop.run()
    return {"seconds": times.seconds, "losses": [entry["loss"] for entry in state.curve]}


def loop(
    adapter: str,
    count: int,
    steps: int,
    dtype: str = "float32",
    dropout: float | None = None,
    seed: int = 17,
    row_tokens: int | None = None,
) -> Result:
    """This project's loop with one adapter: ``seconds, losses, padding`` of its steps; rows of
    ``row_tokens``, or as params.yaml has it."""
    params, model, samples = _prepare(count, dropout, dtype, seed)
    attention.enable(model)
    _warm(model)
    computed = count_tokens(model)
    if row_tokens is not None:
        train = params.train.model_copy(update={"micro_batch_tokens": row_tokens})
        params = params.model_copy(update={"train": train})
    adapted = adapt(model, adapter, params.train, records.tasks(list(samples.values())))
    result = run_loop(adapted, params, samples, steps)
    real = steps * sum(sample.length for sample in samples.values())
    return result | {"padding": 1 - real / sum(computed)}


def trainer(count: int, steps: int, batch: int, cap: int | None = None, seed: int = 17) -> Result:
    """Transformers' Trainer with PEFT's LoRA, the same figures."""
    params, model, samples = _prepare(count, None, "float32", seed)
    torch.use_deterministic_algorithms(False)
    _warm(model)
    computed = count_tokens(model)
    result = peers.run_trainer(model, list(samples.values()), params.train, steps, batch=batch, cap=cap)
    real = steps * sum(len(sample.ids) for sample in samples.values())
    return result | {"padding": 1 - real / sum(computed)}


def steps_in_turn(count: int, repeats: int) -> Result:
    """Seconds of steps of MOELoRA and of PEFT's LoRA, in turn in one process: from process to process
    the same step differs by more than the bar. Dropout 0, since PEFT's costs more than ours. The
    first step of each is left out, which takes its memory from the system."""
    params, first, samples = _prepare(count, 0.0)
    tasks = records.tasks(list(samples.values()))
    seconds: dict[str, list[float]] = {"moelora": [], "peft": []}
    adapters = {}
    for kind, model in (("moelora", first), ("peft", base.load(params.compute)[0])):
        attention.enable(model)
        _warm(model)
        adapters[kind] = adapt(model, kind, params.train, tasks)
    for repeat in range(repeats + 1):
        for kind, adapter in adapters.items():
            found = run_loop(adapter, params, samples, 1)["seconds"]
            seconds[kind] += found if repeat else []
    return seconds


def reference_loss(count: int) -> Result:
    """Mean token loss of the sample by packed rows and stacked experts, and by the published code's
    loop on each record alone with the logits of all positions; the same random adapter, float32."""
    params, model, samples = _prepare(count, 0.0)
    tasks = records.tasks(list(samples.values()))
    adapter = adapt(model, "moelora", params.train, tasks)
    assert isinstance(adapter, moelora.MoeLora)
    generator = torch.Generator().manual_seed(records.SEED)
    with torch.no_grad():
        for name, parameter in adapter.adapter_parameters().items():
            if name.endswith(".B"):
                parameter.normal_(0, 0.2, generator=generator)
    values = saving.tensors(adapter)
    tokens = sum(sample.answer_tokens for sample in samples.values())
    with torch.no_grad():
        with adapter.disabled():
            bare = _one_by_one(model, None, samples) / tokens
        attention.enable(model)
        packed = 0.0
        for row in pack(list(samples.values()), params.train.micro_batch_tokens, "cpu"):
            with routed(adapter, row):
                packed += token_losses(adapter, row).double().sum().item()
        model = adapter.unload()
        model.set_attn_implementation("sdpa")
        reference = ExpertLoop(model, adapter.config)
        reference.copy(values)
        reference.eval()
        alone = _one_by_one(model, reference, samples)
    return {"packed": packed / tokens, "reference": alone / tokens, "bare": bare}


def _one_by_one(model: Any, reference: ExpertLoop | None, samples: dict[str, Sample]) -> float:
    """Summed loss of the answers, each record a batch of its own."""
    total = 0.0
    for sample in samples.values():
        ids = torch.from_numpy(sample.ids.astype("int64"))[None]
        if reference is None:
            logits = model(input_ids=ids).logits
        else:
            with reference.tasks([sample.task]):
                logits = model(input_ids=ids).logits
        start = sample.answer_start
        losses = functional.cross_entropy(logits[0, start - 1 : -1], ids[0, start:], reduction="none")
        total += losses.double().sum().item()
    return total


def layer(repeats: int) -> Result:
    """Median seconds of one adapted layer, forward and backward with its gate, tasks mixed in the
    batch: ``moelora``, ``loop``; ``difference``: the largest between their outputs."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from tests.bench.table import medians

    params = settings(0.0)
    torch.set_num_threads(params.compute.threads)
    torch.manual_seed(records.SEED)
    config = LlamaConfig(
        vocab_size=8,
        hidden_size=LAYER_WIDTH,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=8,
    )
    name = "model.layers.0.self_attn.q_proj"
    tasks = [f"task-{i}" for i in range(LAYER_BATCH[0])]
    train = params.train.model_copy(update={"targets": "q_proj"})
    ours = adapt(LlamaForCausalLM(config), "moelora", train, tuple(tasks))
    other = adapt(LlamaForCausalLM(config), "loop", train, tuple(tasks))
    assert isinstance(ours, moelora.MoeLora)
    assert isinstance(other, ExpertLoop)
    with torch.no_grad():
        ours.layers[name].B.normal_(0, 0.02)
    other.copy(saving.tensors(ours))
    other.layers[name].base.load_state_dict(ours.layers[name].base.state_dict())
    x = torch.randn(*LAYER_BATCH, LAYER_WIDTH, requires_grad=True)

    def output(adapter: Any) -> Tensor:
        with adapter.tasks(tasks):
            y: Tensor = adapter.layers[name](x)
        return y

    def step(adapter: Any) -> Callable[[], None]:
        return lambda: output(adapter).square().mean().backward()

    difference = (output(ours) - output(other)).abs().max().item()
    return medians(repeats, moelora=step(ours), loop=step(other)) | {"difference": difference}


def count_tokens(model: Any) -> list[int]:
    """Tokens of each forward pass of ``model`` from now on, padding included."""
    counts: list[int] = []
    model.get_input_embeddings().register_forward_pre_hook(lambda _, inputs: counts.append(inputs[0].numel()))
    return counts


def samples_a_second(results: list[Result], count: int) -> float:
    """By the median step of all repeats."""
    return count / statistics.median(seconds for result in results for seconds in result["seconds"])


def _prepare(
    count: int, dropout: float | None, dtype: str = "float32", seed: int = 17
) -> tuple[Params, Any, dict[str, Sample]]:
    params = settings(dropout, dtype, seed)
    model, tokenizer = base.load(params.compute)
    chosen = records.sample(count, params.resample)
    return params, model, records.samples(chosen, tokenizer, records.MAX_TOKENS)


def _warm(model: Any) -> None:
    """What a process does once (thread pools, first use of kernels) is none of its steps."""
    ids = torch.arange(2, 66)[None] % model.config.vocab_size
    with torch.no_grad(), attention.packed([64]):
        model(input_ids=ids, use_cache=False)
