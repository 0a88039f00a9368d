"""A tiny project with everything that the train stage reads."""

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from pipeline import paths
from tests.conftest import Checkout
from tests.tiny import tiny_base

TASKS = {"rqe": "yes", "mts-section": "plan", "summary": "The patient is well."}


class Project:
    """A checkout with a tiny base, 30 training and 9 validation records of 3 tasks, 96 draws."""

    def __init__(self, checkout: Checkout) -> None:
        self.checkout = checkout
        self.root = checkout.root
        tiny_base(paths.BASE)
        paths.SPLIT.mkdir(parents=True)
        paths.RESAMPLED.mkdir(parents=True)
        train = records(30, "t")
        train.write_parquet(paths.TRAIN_SPLIT)
        records(9, "v").write_parquet(paths.VALIDATION_SPLIT)
        canary = {
            "canary_id": ["c0", "c1"],
            "task": ["rqe", "rqe"],
            "input": ["canary zero", "canary one"],
            "target": ["17", "39"],
            "inserted": [True, False],
        }
        pl.DataFrame(canary).write_parquet(paths.CANARIES)
        draws = [*(train["sample_id"].to_list() * 4)[:95], "c0"]
        tasks = dict(zip(train["sample_id"], train["task"], strict=True)) | {"c0": "rqe"}
        pl.DataFrame(
            {
                "position": pl.Series(range(len(draws)), dtype=pl.UInt32),
                "sample_id": draws,
                "task": [tasks[name] for name in draws],
                "epoch": pl.Series([i // 30 for i in range(len(draws))], dtype=pl.UInt32),
            }
        ).write_parquet(paths.ORDER)
        checkout.params(
            train__dropout=0.1,
            train__learning_rate=0.02,
            train__batch_records=4,
            train__micro_batch_tokens=200,
            train__max_tokens=64,
            train__validation_records=6,
            train__validate_every=8,
            train__checkpoint_every=3,
            compute__threads=1,
        )

    def environment(self, cache: str) -> dict[str, str]:
        return os.environ | {"MOELORA_CACHE": str(self.root / cache)}

    def start(self, cache: str = "scratch") -> subprocess.Popen[str]:
        """``python -m pipeline.train`` with a cache of that name."""
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline.train"],
            env=self.environment(cache),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def outputs(self) -> dict[str, bytes]:
        """Bytes of everything the stage wrote."""
        files = [paths.report("train"), *paths.ADAPTER.rglob("*"), *(paths.PLOTS / "train").rglob("*")]
        return {str(file): file.read_bytes() for file in files if file.is_file()}


def records(count: int, prefix: str) -> pl.DataFrame:
    names = list(TASKS)
    rows = [
        {
            "sample_id": f"{prefix}{i:03d}",
            "task": names[i % 3],
            "task_type": "qa_generation",
            "input": f"Record {i} of {names[i % 3]}: " + "cough " * (i % 7),
            "target": TASKS[names[i % 3]],
            "answer_choices": None,
            "group_id": f"g{prefix}{i}",
            "language": "en",
            "source": "s",
        }
        for i in range(count)
    ]
    return pl.DataFrame(rows)


@pytest.fixture
def project(checkout: Checkout) -> Project:
    return Project(checkout)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Until something matches ``path``, a glob below its parent's parent, or the process ends."""
    import time

    while process.poll() is None and not list(path.parent.parent.glob(f"*/{path.name}")):
        time.sleep(0.002)
