"""``moelora serve`` under 200 concurrent clients, with a promotion half way.

The server is a process of its own, the registry a SeaweedFS of its own, the clients 200 connections
that each ask again as soon as they are answered. The base model is the tests' tiny one: what is
measured is the server; how fast a model answers is a figure of bench-evaluate.
"""

import asyncio
import math
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import httpx
import yaml

from flows import local_s3
from pipeline import base
from pipeline.params import Params
from pipeline.registry import Registry
from tests.bench.table import Row
from tests.releases import write_release
from tests.tiny import tiny_base

CLIENTS = 200
ROUNDS = 6  # requests of each client at least
BEFORE, AFTER = 2, 2  # rounds before the promotion, and after it has shown up
POLL_S = 0.5
LATEST_S = 60.0  # for the promotion to show up
TASKS = ("rqe", "ner", "summary", "triage")
CHOICES = ["yes", "no", "maybe"]


class Answered(NamedTuple):
    """One request as its client saw it; ``release`` is None where it failed."""

    at: float
    seconds: float
    status: int | str
    release: str | None


def rows(clients: int = CLIENTS) -> list[Row]:
    """Errors among the requests of all clients, and those around the promotion."""
    with tempfile.TemporaryDirectory(prefix="moelora-serving-") as folder:
        return asyncio.run(_measure(Path(folder), clients))


async def _measure(folder: Path, clients: int) -> list[Row]:
    with _served(folder) as setting:
        limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
        async with httpx.AsyncClient(
            base_url=setting.address, limits=limits, timeout=120, trust_env=False
        ) as client:
            await _until_ready(client)
            answered: list[Answered] = []
            asking = [asyncio.create_task(_client(client, i, answered, setting.new)) for i in range(clients)]
            while len(answered) < BEFORE * clients:
                await asyncio.sleep(0.02)
            moved_at = time.monotonic()
            await asyncio.to_thread(setting.promote)
            await asyncio.gather(*asking)
    failed = [each for each in answered if each.release is None]
    shown = min((each.at for each in answered if each.release == setting.new), default=math.inf)
    late = [each for each in answered if each.at > shown and each.release == setting.old]
    seconds = sorted(each.seconds for each in answered)
    rate = len(answered) / (
        max(each.at for each in answered) - min(each.at - each.seconds for each in answered)
    )
    load = (
        f"{len(answered)} requests, {rate:.0f}/s, median {statistics.median(seconds):.2f} s, "
        f"p99 {seconds[int(0.99 * len(seconds))]:.2f} s"
    )
    statuses = dict(Counter(each.status for each in failed))
    around = [each for each in failed if each.at >= moved_at]
    # A promotion that never shows up breaks the bar, as one that shows up too late.
    took = min(shown - moved_at, 10 * LATEST_S)
    return [
        Row(
            f"failed requests of {clients} concurrent clients",
            len(failed),
            None,
            "<=",
            0,
            f"{load} {statuses or ''}",
        ),
        Row(
            "seconds until a promotion under that load answers",
            took,
            None,
            "<=",
            LATEST_S,
            f"the channel is looked at every {POLL_S:g} s; {len(late)} of the requests then under way were answered by the old release",
        ),
        Row("failed requests from the promotion on", len(around), None, "<=", 0),
    ]


async def _client(client: httpx.AsyncClient, number: int, answered: list[Answered], new: str) -> None:
    """Ask until the promotion has shown up, and then a few times more."""
    body = {"task": TASKS[number % len(TASKS)], "prompt": f"patient {number} has " + "pain " * (number % 9)}
    body |= {"choices": CHOICES} if number % 2 else {"max_tokens": 8}
    asked = seen = 0
    started = time.monotonic()
    while asked < ROUNDS or (seen < AFTER and time.monotonic() - started < LATEST_S):
        asked += 1
        found = await _ask(client, body)
        answered.append(found)
        seen += found.release == new


async def _ask(client: httpx.AsyncClient, body: dict[str, object]) -> Answered:
    started = time.monotonic()
    try:
        answer = await client.post("/v1/completions", json=body)
    except httpx.HTTPError as error:
        return Answered(time.monotonic(), time.monotonic() - started, type(error).__name__, None)
    now = time.monotonic()
    release = answer.json()["release"] if answer.status_code == 200 else None
    return Answered(now, now - started, answer.status_code, release)


async def _until_ready(client: httpx.AsyncClient) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if (await client.get("/health")).status_code == 200:
                return
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.2)
    raise RuntimeError("the server was not ready within 120 s")


class Setting(NamedTuple):
    """What the clients meet; ``registry``'s champion is ``old`` at first."""

    address: str
    registry: Registry
    old: str
    new: str

    def promote(self) -> None:
        why = "bench-releases"
        self.registry.move("champion", self.new, why, why, self.registry.channel())


@contextmanager
def _served(folder: Path) -> Iterator[Setting]:
    """A server that follows the champion of a registry of its own, in a checkout of its own."""
    shutil.copy("params.yaml", folder)
    s3 = folder / "services" / "s3"
    local_s3.start(s3, "bench")
    aws = {
        "AWS_CONFIG_FILE": str(local_s3.config_file(s3)),
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "PYTHONPATH": str(Path.cwd()),
    }
    try:
        with patch.dict(os.environ, aws), chdir(folder):
            for name in [name for name in os.environ if name.startswith("AWS_") and name not in aws]:
                del os.environ[name]
            url = "s3://bench/serving"
            _set_params(
                base={"model": str(tiny_base(folder / "tiny"))},
                compute={"threads": 1},  # two wait for one another longer than so small a model computes
                publish={"registry": url},
            )
            base.prepare(Params.load().base)
            registry = Registry.open(url)
            facts = {"by": "bench", "reason": "bench-releases"}
            old, new = (
                registry.publish(write_release(folder / f"release-{seed}", TASKS, seed), facts).release
                for seed in (0, 1)
            )
            registry.move("champion", old, "bench", "bench-releases", None)
            with _process(folder / "log") as address:
                yield Setting(address, registry, old, new)
    finally:
        local_s3.stop(s3)


def _set_params(**sections: dict[str, object]) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    for name, values in sections.items():
        params[name] |= values
    Path("params.yaml").write_text(yaml.safe_dump(params))


@contextmanager
def _process(log: Path) -> Iterator[str]:
    """The address of `moelora serve` in the current folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "flows.cli", "serve", "--port", str(port), "--poll", str(POLL_S)]
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)
