"""Publishing while everything fails, under the eyes of a reader."""

import random
import shutil
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.digests import listing, listing_digest
from pipeline.registry import PART, Registry
from tests.bench.releases.proxy import Proxy
from tests.bench.releases.server import Server

PREFIX = "faults"
RATE = 0.12  # of requests; a publication makes about fifteen
KILLED = 0.3  # of publications
PUBLISHERS = 2  # at once
RERUNS = 20  # until one comes through; each may be hit as well
OTHERS = 5  # older releases that the reader verifies each time it has listed


@dataclass
class Outcome:
    """What became of all publications."""

    publishes: int = 0
    unclean: list[str] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    requests: int = 0
    first_time: int = 0  # came through at once
    killed: int = 0
    runs: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    listings: int = 0
    verified: int = 0
    bad: list[str] = field(default_factory=list)  # what the reader saw fail


def drill(server: Server, folder: Path, publishes: int, seed: int = 6) -> Outcome:
    """Publish so many releases through a proxy that spoils requests, and kill some publishers."""
    outcome, lock, over = Outcome(publishes), threading.Lock(), threading.Event()
    with Proxy(server.port, RATE, seed) as proxy, ThreadPoolExecutor(PUBLISHERS) as pool:
        config = server.config_by(proxy.port)
        reader = threading.Thread(target=_read, args=(server.registry(PREFIX), over, outcome))
        reader.start()
        try:
            jobs = [
                pool.submit(
                    _publish, server, config, _make(folder / str(number), number), number, outcome, lock
                )
                for number in range(publishes)
            ]
            for job in jobs:
                job.result()
        finally:
            over.set()
            reader.join()
        outcome.faults, outcome.requests = proxy.kinds, proxy.requests
    return outcome


def _make(folder: Path, number: int) -> Path:
    """A release: some files of its own, some as in others, every fifth with one that goes in parts."""
    own, shared = random.Random(f"own {number}"), random.Random("shared")
    files = {f"tasks/t{task}/adapter.safetensors": shared.randbytes(30_000) for task in range(3)}
    files |= {"README.md": own.randbytes(2_000), "tasks/own/adapter.safetensors": own.randbytes(100_000)}
    if number % 5 == 0:
        source = own if number % 10 else shared
        files["moelora/adapter.safetensors"] = source.randbytes(PART + 50_000)
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def _publish(
    server: Server, config: Path, folder: Path, number: int, outcome: Outcome, lock: threading.Lock
) -> None:
    choice, registry = random.Random(f"kill {number}"), server.registry(PREFIX)
    release = listing_digest(listing(folder))[:16]
    for run in range(RERUNS):
        kill_after = choice.uniform(0.5, 3.0) if choice.random() < KILLED else None
        status = _run(config, folder, kill_after)
        there = release in {each.id for each in registry.releases()}
        problems = registry.verify(release) if there else []
        with lock:
            outcome.runs += 1
            outcome.killed += status == -9
            outcome.first_time += run == 0 and status == 0
            if problems or (status == 0 and not there):
                outcome.unclean.append(f"{release}: {status} {problems}")
        if status == 0:
            break
    else:
        with lock:
            outcome.incomplete.append(release)
    shutil.rmtree(folder)


def _run(config: Path, folder: Path, kill_after: float | None) -> int:
    command = [
        sys.executable,
        "-m",
        "tests.bench.releases.child",
        "publish",
        str(config),
        PREFIX,
        str(folder),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return process.wait(kill_after)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _read(registry: Registry, over: threading.Event, outcome: Outcome) -> None:
    """List and verify all the time: what is new, and some of the others."""
    choice = random.Random("reader")
    known: set[str] = set()
    while not over.is_set():
        listed = [each.id for each in registry.releases()]
        new = [release for release in listed if release not in known]
        others = choice.sample(sorted(known), min(OTHERS, len(known)))
        for release in new + others:
            problems = registry.verify(release)
            outcome.bad += [f"{release}: {problem}" for problem in problems]
            outcome.verified += 1
        known |= set(new)
        outcome.listings += 1
        over.wait(0.05)
