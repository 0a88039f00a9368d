"""Training against its peers on SmolLM2-135M and real records of all English tasks.

    make bench-train                        about an hour on 2 cores, 21 GB of memory free
    python -m tests.bench.train --quick     about 15 minutes: one repeat of a small sample

Every variant runs in a process of its own, one at a time, and takes its turn once a repeat; a
figure is the median over the steps of all repeats, each process's first left out. Learning rate,
rank, dropout, token cap and threads are those of params.yaml; prompts and answers are cut so that
Trainer's batches fit in memory (tests.bench.records). What was measured is one file in
reports/bench/train/<setting>/ and is not measured again while code, parameters and data stay:
interrupt it at will, and run the same command to go on. Beside the table: reports/bench/train.json,
and the loss curves in reports/bench/train-curves.json.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.digests import canonical_json, file_digest, value_digest
from pipeline.files import write_atomically
from pipeline.params import Params
from tests.bench import base, records
from tests.bench.children import ChildFailed, Result, measure_once
from tests.bench.table import REPORTS, Row, show

VARIANTS = "tests.bench.train.variants"
KILLS = 20


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    records: int
    """Records of the sample, all of them an effective batch; a multiple of ``batch``."""
    steps: int
    """Of this loop; its loss curves."""
    peer_steps: int
    """Of Trainer, which takes several times as long."""
    repeats: int
    pairs: int
    """Steps of MOELoRA and plain LoRA in turn, each repeat."""
    layer: int
    """Repeats of the layer alone."""
    loop_records: int = 16
    loop_tokens: int = 512
    """Records and tokens of a row for the loop over experts, and for MOELoRA beside it: with rows of
    1,024 tokens the loop does not fit 24 GB. Dropout is params.yaml's for both; without it the loop
    keeps no mask and no input for each expert, and the distance is smaller: 7.9 against 2.4 GB, a
    step 2.3 times as long, in one run each."""
    batch: int = 8
    """Records of a micro-batch of Trainer: its default."""


FULL = Size(records=32, steps=6, peer_steps=2, repeats=3, pairs=2, layer=15)
QUICK = Size(records=16, steps=3, peer_steps=2, repeats=1, pairs=1, layer=3)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one repeat of a small sample")
    size = QUICK if parser.parse_args(arguments).quick else FULL
    records.folder()
    base.prepare()
    params = Params.load()
    results = measure_all(
        size, params.train.micro_batch_tokens, REPORTS / "train" / fingerprint(size, params)
    )
    show_curves(results)
    show("train", table(results, size), machine(results["ours"][0]))


def fingerprint(size: Size, params: Params) -> str:
    """Names all that decides the figures but the machine: size, parameters, data, code, packages."""
    code = [*Path("pipeline").rglob("*.py"), *Path("tests/bench").rglob("*.py")]
    knobs = params.model_dump(mode="json", include={"base", "compute", "resample", "train"})
    decides = {
        "size": asdict(size),
        "knobs": knobs,
        "data": file_digest(records.folder() / "en.train.jsonl.gz"),
        "code": {str(file): file_digest(file) for file in sorted(code)},
        "versions": {name: metadata.version(name) for name in ("torch", "transformers", "peft")},
    }
    return f"{'quick' if size == QUICK else 'full'}-{value_digest(decides)[:12]}"


def measure_all(size: Size, cap: int, finished: Path) -> dict[str, list[Result]]:
    """Each variant's results, one a repeat; fewer where a process failed. ``finished``: where they are kept."""
    sample = {"count": size.records}
    peer = sample | {"steps": size.peer_steps, "batch": size.batch}
    small = {"count": size.loop_records, "row_tokens": size.loop_tokens, "steps": 1}
    in_turn: dict[str, tuple[str, dict[str, Any]]] = {
        "ours": ("loop", sample | {"steps": size.steps, "adapter": "moelora"}),
        "bfloat16": ("loop", sample | {"steps": size.steps, "adapter": "moelora", "dtype": "bfloat16"}),
        "trainer": ("trainer", peer),
        "grouped": ("trainer", peer | {"cap": cap}),
        "small": ("loop", small | {"adapter": "moelora"}),
        "loop": ("loop", small | {"adapter": "loop"}),
    }
    results: dict[str, list[Result]] = {}

    def take(name: str, number: int, function: str, **options: object) -> None:
        print(f"bench-train: {name}, {number + 1}", flush=True)
        file = finished / f"{name}-{number + 1}.json"
        try:
            results.setdefault(name, []).append(measure_once(file, function, **options))
        except ChildFailed as error:
            print(f"bench-train: {error}", file=sys.stderr, flush=True)

    take("kills", 0, "tests.bench.train.kills:drill", kills=KILLS)
    take("layer", 0, f"{VARIANTS}:layer", repeats=size.layer)
    take("reference", 0, f"{VARIANTS}:reference_loss", **sample)
    for repeat in range(size.repeats):
        for name, (function, options) in in_turn.items():
            take(name, repeat, f"{VARIANTS}:{function}", **options, seed=records.SEED + repeat)
        take("pairs", repeat, f"{VARIANTS}:steps_in_turn", **sample, repeats=size.pairs)
    return results


def table(results: dict[str, list[Result]], size: Size) -> list[Row]:
    """The issue's rows; what no process measured has no value."""
    speed = {
        name: size.records / median(results, name) if results.get(name) else None
        for name in ("ours", "bfloat16", "trainer", "grouped")
    }
    within, drift, noise = curves_agree(results)
    best = max(("ours", "bfloat16") if within else ("ours",), key=lambda name: speed[name] or 0.0)
    pair = {kind: median(results, "pairs", kind) for kind in ("moelora", "peft")}
    one = results["layer"][0] if results.get("layer") else {}
    whole = _ratio(median(results, "loop"), median(results, "small"))
    peak = {name: median(results, name, "peak") for name in ("ours", "trainer", "small", "loop")}
    reference = results["reference"][0] if results.get("reference") else None
    kills = results["kills"][0] if results.get("kills") else None
    padding = {name: median(results, name, "padding") for name in ("ours", "trainer", "grouped")}
    return [
        Row(
            "training step, MOELoRA / plain PEFT LoRA",
            _ratio(pair["moelora"], pair["peft"]),
            1.0,
            "<=",
            1.05,
            f"{_text(pair['moelora'], 's')} against {_text(pair['peft'], 's')}; same loop and batches, dropout 0",
        ),
        Row(
            "adapted layer, expert loop / MOELoRA",
            _ratio(one.get("loop"), one.get("moelora")),
            1.0,
            ">=",
            2.0,
            f"whole step, with dropout, {_text(whole)}; outputs differ by {one.get('difference', float('nan')):.1g}",
        ),
        Row(
            "peak memory, expert loop / MOELoRA",
            _ratio(peak["loop"], peak["small"]),
            1.0,
            ">=",
            4.0,
            f"{_gigabytes(peak['loop'])} against {_gigabytes(peak['small'])}; rows of {size.loop_tokens} tokens, with dropout",
        ),
        Row(
            "samples/s, this loop / Trainer, random batches",
            _ratio(speed["ours"], speed["trainer"]),
            1.0,
            ">=",
            3.5,
            f"{_text(speed['ours'])} against {_text(speed['trainer'])}, float32; "
            f"its padding {_percent(padding['trainer'])}",
        ),
        Row(
            "samples/s, this loop / Trainer, grouped by length, same token cap",
            _ratio(speed["ours"], speed["grouped"]),
            1.0,
            ">=",
            1.8,
            f"{_text(speed['ours'])} against {_text(speed['grouped'])}; its padding {_percent(padding['grouped'])}",
        ),
        Row(
            "samples/s, best precision / Trainer in float32",
            _ratio(speed[best], speed["trainer"]),
            1.0,
            ">=",
            5.0,
            f"{'float32' if best == 'ours' else best}; bfloat16 {_text(speed['bfloat16'])}, its loss off by "
            f"{_text(drift)} at most, seeds by {_text(noise) if noise else 'unknown (one seed)'}",
        ),
        Row(
            "peak memory, this loop / Trainer",
            _ratio(peak["ours"], peak["trainer"]),
            1.0,
            "<=",
            0.5,
            f"{_gigabytes(peak['ours'])} against {_gigabytes(peak['trainer'])}",
        ),
        Row(
            "padding among computed tokens",
            padding["ours"],
            padding["trainer"],
            "<=",
            0.03,
            "peer: Trainer, random batches",
        ),
        Row(
            "loss against the reference implementation",
            abs(reference["packed"] - reference["reference"]) if reference else None,
            0.0,
            "<=",
            1e-5,
            f"{reference['packed']:.6f}; without the adapter {reference['bare']:.6f}" if reference else "",
        ),
        Row(
            "kill -9 survived, same bytes at the end",
            (kills["landed"] if kills["equal"] else 0) if kills else None,
            KILLS,
            ">=",
            KILLS,
            f"a tiny model, {kills['seconds']:.1f} s of training" if kills else "",
        ),
    ]


def median(results: dict[str, list[Result]], name: str, key: str = "seconds") -> float | None:
    """Over all repeats, and over their steps where ``key`` has one value a step; a process's first
    step, which takes its memory from the system, counts where it is the only one."""
    values: list[float] = []
    for result in results.get(name, []):
        found = result[key] if isinstance(result[key], list) else [result[key]]
        values += found[1:] if key == "seconds" and len(found) > 1 else found
    return statistics.median(values) if values else None


def curves_agree(results: dict[str, list[Result]]) -> tuple[bool, float | None, float | None]:
    """Whether bfloat16 moves the loss no more than another seed does; the largest distance at any step
    from float32's curve of the same seed, and the largest between float32's curves of two seeds
    (None with one seed: what is not known does not count as within)."""
    ours = [result["losses"] for result in results.get("ours", [])]
    other = [result["losses"] for result in results.get("bfloat16", [])]
    if not ours or len(ours) != len(other):
        return False, None, None
    drift = max(abs(a - b) for x, y in zip(ours, other, strict=True) for a, b in zip(x, y, strict=True))
    if len(ours) == 1:
        return False, drift, None
    noise = max(max(step) - min(step) for step in zip(*ours, strict=True))
    return drift <= noise, drift, noise


def show_curves(results: dict[str, list[Result]]) -> None:
    """Loss of each step, a row a variant and seed; also written as JSON."""
    curves = {
        f"{name}, seed {records.SEED + repeat}": result["losses"]
        for name in ("trainer", "grouped", "ours", "bfloat16")
        for repeat, result in enumerate(results.get(name, []))
    }
    steps = range(1, max(map(len, curves.values()), default=0) + 1)
    shown = Table("variant", *map(str, steps), title="loss of each step, the same records in all")
    for name, losses in curves.items():
        shown.add_row(name, *(f"{loss:.4f}" for loss in losses))
    Console().print(shown)
    write_atomically(REPORTS / "train-curves.json", canonical_json(curves))


def machine(result: Result) -> str:
    """Facts that every figure depends on."""
    return (
        f"{os.cpu_count()} cores, {result['instructions']}, {result['threads']} torch threads; "
        "float32 where nothing else is said"
    )


def _ratio(value: float | None, peer: float | None) -> float | None:
    return value / peer if value and peer else None


def _text(value: float | None, unit: str = "") -> str:
    return "not measured" if value is None else f"{value:.3g} {unit}".strip()


def _gigabytes(value: float | None) -> str:
    return "not measured" if value is None else f"{value / 1e9:.1f} GB"


def _percent(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.0%}"


if __name__ == "__main__":
    main()
