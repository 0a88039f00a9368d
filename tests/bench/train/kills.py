"""`kill -9` at random moments of one training of a tiny model, then the bytes of an uninterrupted one."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import polars as pl

from pipeline import paths
from tests.bench.children import Result
from tests.bench.records import ROOT, SEED
from tests.conftest import Checkout
from tests.pipeline.train.conftest import Project

ROUNDS = 12
"""The project's order of 96 draws this many times over: long enough for all kills."""


def drill(kills: int) -> Result:
    """``landed``: kills that met the training at work; ``seconds`` that it takes undisturbed;
    ``equal``: whether all that the stage wrote is equal to the uninterrupted run's."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        project = Project(Checkout(Path(folder)))
        order = pl.read_parquet(paths.ORDER)
        longer = pl.concat([order] * ROUNDS).with_columns(
            position=pl.int_range(ROUNDS * len(order), dtype=pl.UInt32)
        )
        longer.write_parquet(paths.ORDER)
        length = _undisturbed(project)
        wanted = project.outputs()
        for path in (paths.ADAPTER, paths.PLOTS / "train"):
            shutil.rmtree(path)
        paths.report("train").unlink()

        moments = random.Random(SEED)
        landed = 0
        for _ in range(kills):
            # Together at most the training's length, so that it is not over before the last kill.
            landed += _killed(project, moments.uniform(0, length / kills))
        _end(project.start("killed"))
        return {"landed": landed, "seconds": length, "equal": project.outputs() == wanted}


def _undisturbed(project: Project) -> float:
    """Seconds from the first step to the last of a training in a cache of its own."""
    process = project.start("undisturbed")
    assert process.stdout is not None
    process.stdout.readline()
    start = time.monotonic()
    _end(process)
    return time.monotonic() - start


def _killed(project: Project, moment: float) -> bool:
    """Start the stage and kill it ``moment`` seconds after its first step; False where it had ended."""
    process = project.start("killed")
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(moment)
    process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


def _end(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"pipeline.train ended with {process.returncode}: {errors[-500:]}")
