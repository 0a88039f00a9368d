"""Training speed on a GPU against Transformers' Trainer with PEFT's LoRA, on random Llama models of 1B
and 7B parameters: speed does not depend on what the weights are.

    make bench-gpu                                         about 15 minutes on an H100
    python -m tests.bench.gpu --device cpu --tiny          the same code on a processor, in a minute

Base in bfloat16, adapter in float32; both see the same records, whose lengths are those of real
ones, and take all of them in each optimiser step. Each side computes as much at once as fits the
device: rows of 16,384 tokens or half, a quarter, ... of it; micro-batches of Trainer's default of 8
records or half, a quarter, ... of it. Every training runs in a process of its own.

Model FLOPs utilisation counts what the task needs, for either side the same: of T real tokens with K
answer tokens among them,

    T (2 P + 2 P + 2 a + 4 a)    the base's P weights in blocks forward, and backward for activations
                                 alone since they are frozen; the adapter's a weights with theirs
    K (2 H + 2 H)                the head's H weights where there is something to predict
    6 L d sum(S^2)               attention of L layers of width d inside samples of S tokens, half of
                                 the square: 2 S^2 d forward, twice that backward

over the time and the device's dense bfloat16 peak. Neither padding nor logits that nobody reads are
counted, nor what is computed again.
"""

import argparse
import statistics
from collections.abc import Sequence
from typing import Any

from tests.bench.children import ChildFailed, Result, measure, peak
from tests.bench.table import Row, show

PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "A10G": 70e12}
"""Dense bfloat16 FLOP/s of a device, by a part of its name (NVIDIA's data sheets, SXM where there is one)."""

LENGTHS = (
    (367, 2), (212, 2), (120, 9), (139, 102), (228, 4), (487, 34), (80, 21), (124, 2), (592, 140), (76, 12),
    (88, 8), (122, 2), (245, 191), (267, 7), (88, 2), (760, 248), (432, 2), (99, 9), (341, 4), (988, 476),
    (79, 5), (422, 58), (88, 2), (47, 5), (68, 2), (210, 2), (213, 182), (88, 6), (236, 4), (96, 2), (95, 7),
    (72, 2),
)  # fmt: skip
"""Tokens of each record of bench-train's sample, and how many of them are its answer."""

ROW_TOKENS = (16384, 8192, 4096, 2048)
BATCHES = (8, 4, 2, 1)
CONFIGS: dict[str, dict[str, int]] = {
    "1B": {
        "vocab_size": 128256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
    "7B": {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
    },
    "tiny": {
        "vocab_size": 300,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    },
}
"""The shapes of Llama 3.2 1B and Llama 2 7B."""

TASKS = tuple(f"task-{i:02d}" for i in range(14))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="a torch device")
    parser.add_argument("--tiny", action="store_true", help="a model of two small layers alone")
    parser.add_argument("--quick", action="store_true", help="one repeat instead of three")
    options = parser.parse_args(arguments)
    # In a process of its own: this one stays without torch.
    name = measure("tests.bench.gpu:device_name", device=options.device)["name"]
    if name is None:
        raise SystemExit(
            "bench-gpu needs a CUDA device and this machine shows none; "
            "its code runs on a processor by: python -m tests.bench.gpu --device cpu --tiny"
        )
    table: list[Row] = []
    for config in ("tiny",) if options.tiny else ("1B", "7B"):
        repeats = 1 if options.quick or options.tiny else 3
        table += rows(config, name, *compare(config, options.device, repeats))
    show("gpu", table, f"{name}, base in bfloat16, adapter in float32")


def device_name(device: str) -> Result:
    """``name`` of the device, None where it is not there."""
    import torch

    if device == "cpu":
        return {"name": "processor"}
    return {"name": torch.cuda.get_device_name(device) if torch.cuda.is_available() else None}


def compare(config: str, device: str, repeats: int) -> tuple[list[Result], list[Result]]:
    """Results of ours and of Trainer, taken in turn, at the largest size that each has room for."""
    sizes: dict[str, list[int]] = {"ours": list(ROW_TOKENS), "trainer": list(BATCHES)}
    results: dict[str, list[Result]] = {"ours": [], "trainer": []}
    for _ in range(repeats):
        for side, left in sizes.items():
            while left:
                print(f"bench-gpu: {config} {side}, {left[0]} at once", flush=True)
                try:
                    found = measure(f"tests.bench.gpu:{side}", config=config, device=device, size=left[0])
                except ChildFailed as error:
                    print(f"bench-gpu: {error}", flush=True)
                    found = {"fits": False}
                if found["fits"]:
                    results[side].append(found)
                    break
                left.pop(0)
    return results["ours"], results["trainer"]


def ours(config: str, device: str, size: int, copies: int = 4, steps: int = 6) -> Result:
    """This project's loop with MOELoRA; ``size``: tokens of a row. See ``_result``."""
    import torch

    from pipeline import attention
    from tests.bench.train import variants

    model, samples, params = _prepare(config, device, copies)
    # As pipeline.base.load does, since byte-identical training is what the loop promises.
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    attention.enable(model)
    train = params.train.model_copy(update={"micro_batch_tokens": size})
    try:
        adapter = variants.adapt(model, "moelora", train, TASKS)
        found = variants.run_loop(adapter, params.model_copy(update={"train": train}), samples, steps)
    except torch.OutOfMemoryError:
        return {"fits": False}
    return _result(model, samples, found, size, device)


def trainer(config: str, device: str, size: int, copies: int = 4, steps: int = 6) -> Result:
    """Trainer with PEFT's LoRA; ``size``: records of a micro-batch."""
    import torch

    from tests.bench import peers

    model, samples, params = _prepare(config, device, copies)
    try:
        found = peers.run_trainer(
            model,
            list(samples.values()),
            params.train,
            steps,
            batch=size,
            device=device,
            dtype="bfloat16",
        )
    except torch.OutOfMemoryError:
        return {"fits": False}
    return _result(model, samples, found, size, device)


def rows(config: str, device_name: str, own: Sequence[Result], peer: Sequence[Result]) -> list[Row]:
    """The table's rows of one model; a side without results has no figures."""
    speed, used, memory = [], [], []
    for results in (own, peer):
        times = [second for result in results for second in result["seconds"]]
        seconds = statistics.median(times) if times else None
        highest = peak_flops(device_name)
        speed.append(_ratio(results[0]["tokens"] if results else None, seconds))
        used.append(_ratio(_ratio(results[0]["flops"] if results else None, seconds), highest))
        memory.append(results[0]["memory"] if results else None)
    sizes = [str(results[0]["size"]) if results else "no" for results in (own, peer)]
    return [
        Row(
            f"{config}: model FLOPs utilisation",
            used[0],
            used[1],
            ">=",
            0.45,
            "" if peak_flops(device_name) else "this device's peak is not known",
        ),
        Row(
            f"{config}: tokens/s, this loop / Trainer",
            _ratio(speed[0], speed[1]),
            1.0,
            ">=",
            1.3,
            f"{_figure(speed[0])} against {_figure(speed[1])}; rows of {sizes[0]} tokens, batches of "
            f"{sizes[1]} records",
        ),
        Row(
            f"{config}: peak memory, this loop / Trainer",
            _ratio(memory[0], memory[1]),
            1.0,
            "<=",
            1.0,
            f"{_figure(memory[0], 1e9)} GB against {_figure(memory[1], 1e9)} GB",
        ),
    ]


def flops(model: Any, samples: Sequence[Any]) -> float:
    """What one optimiser step over ``samples`` needs, by the formula above; ``model`` is adapted."""
    frozen = adapter = 0
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            adapter += parameter.numel()
        elif "layers." in name and parameter.dim() == 2:
            frozen += parameter.numel()
    config = model.config
    tokens = sum(sample.length for sample in samples)
    answers = sum(sample.answer_tokens for sample in samples)
    squares = sum(sample.length**2 for sample in samples)
    return (
        tokens * (4 * frozen + 6 * adapter)
        + answers * 4 * config.vocab_size * config.hidden_size
        + 6 * config.num_hidden_layers * config.hidden_size * squares
    )


def peak_flops(device_name: str) -> float | None:
    """Dense bfloat16 FLOP/s of a device, None where it is not known."""
    parts = [part for part in PEAKS if part in device_name]
    return PEAKS[max(parts, key=len)] if parts else None


def _prepare(config: str, device: str, copies: int) -> tuple[Any, dict[str, Any], Any]:
    """A random model in bfloat16, random records of LENGTHS ``copies`` times over, params.yaml's knobs."""
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from pipeline.train.data import Sample
    from tests.bench.train import variants

    shape = LlamaConfig(**CONFIGS[config], max_position_embeddings=4096)
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(shape, dtype=torch.bfloat16)
    random = np.random.default_rng(0)
    samples = {}
    for i in range(copies * len(LENGTHS)):
        length, answer = LENGTHS[i % len(LENGTHS)]
        ids = random.integers(2, shape.vocab_size, length).astype(np.int32)
        samples[f"{i:04d}"] = Sample(TASKS[i % len(TASKS)], ids, length - answer, False)
    params = variants.settings(None, "bfloat16")
    compute = params.compute.model_copy(update={"device": device})
    return model, samples, params.model_copy(update={"compute": compute})


def _result(model: Any, samples: dict[str, Any], found: Result, size: int, device: str) -> Result:
    """``seconds`` and ``losses`` of each step, the first left out of the seconds since it warms up;
    ``tokens`` and ``flops`` of a step; ``memory``: the device's peak in bytes."""
    import torch

    on_gpu = device.startswith("cuda")
    return {
        "fits": True,
        "size": size,
        "seconds": found["seconds"][1:],
        "losses": found["losses"],
        "tokens": sum(sample.length for sample in samples.values()),
        "flops": flops(model, list(samples.values())),
        "memory": torch.cuda.max_memory_allocated(device) if on_gpu else peak(),
    }


def _ratio(value: float | None, other: float | None) -> float | None:
    return value / other if value and other else None


def _figure(value: float | None, unit: float = 1.0) -> str:
    return "not measured" if value is None else f"{value / unit:,.1f}"


if __name__ == "__main__":
    main()
