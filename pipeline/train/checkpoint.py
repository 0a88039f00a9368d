"""Checkpoints: whole or absent, found again by all that decides the result's bytes.

    <cache>/open/train/<fingerprint>/step-000030/
        state.json            step, curve, validation, best step
        tensors.safetensors   adapter, optimiser, best adapter

A changed input, parameter, code, library or number of processes has another fingerprint, so that
it never resumes from here.
"""

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline import paths
from pipeline.digests import canonical_json
from pipeline.errors import PipelineError
from pipeline.files import new_folder

KEPT = 2
"""Newest checkpoints kept while training; the last one alone when it is done."""


@dataclass
class State:
    """How far a training is: everything but tensors."""

    step: int = 0
    """Optimiser steps taken."""
    curve: list[dict[str, Any]] = field(default_factory=list)
    """``step, loss, learning_rate, gradient_norm, tasks`` of each; tasks: mean token loss of each
    task in the step."""
    validation: list[dict[str, Any]] = field(default_factory=list)
    """``step, mean, tasks`` of each validation."""
    best_step: int | None = None
    """The step whose adapter has the lowest mean validation loss so far."""


@contextmanager
def folder(fingerprint: str) -> Iterator[Path]:
    """The checkpoints' folder, held alone: a training that was left running must not share it."""
    path = paths.cache_root() / "open" / "train" / fingerprint
    path.mkdir(parents=True, exist_ok=True)
    with (path / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise PipelineError(
                "the same training is already running in another process: wait for it or stop it"
            ) from None
        for unfinished in path.glob(".step-*"):
            shutil.rmtree(unfinished)
        yield path


def save(path: Path, state: State, tensors: dict[str, dict[str, Tensor]]) -> None:
    """Add a checkpoint and drop the oldest. ``tensors``: by group (adapter, best, ...) and name."""
    with new_folder(path / f"step-{state.step:06d}") as target:
        flat = {f"{group}/{name}": t for group, named in tensors.items() for name, t in named.items()}
        save_file(flat, target / "tensors.safetensors")
        (target / "state.json").write_text(canonical_json(asdict(state)))
    prune(path, KEPT)


def load(path: Path) -> tuple[State, dict[str, dict[str, Tensor]]] | None:
    """The newest checkpoint, or None where there is none."""
    found = _all(path)
    if not found:
        return None
    state = State(**json.loads((found[-1] / "state.json").read_text()))
    tensors: dict[str, dict[str, Tensor]] = {}
    for name, tensor in load_file(found[-1] / "tensors.safetensors").items():
        group, _, rest = name.partition("/")
        tensors.setdefault(group, {})[rest] = tensor
    return state, tensors


def prune(path: Path, kept: int) -> None:
    """Remove all but the newest ``kept``."""
    for old in _all(path)[:-kept]:
        shutil.rmtree(old)


def _all(path: Path) -> list[Path]:
    return sorted(path.glob("step-*"))
