"""How much is sent, and how fast, beside ``aws s3 cp --recursive``."""

import os
import random
import shutil
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.bench.releases.proxy import Proxy
from tests.bench.releases.server import BUCKET, Server

FACTS = {"by": "bench", "reason": "a measurement"}
TASKS = 8


def resent(server: Server, folder: Path) -> float:
    """Bytes sent for a release of which one task changed, over the bytes of that task's files and the
    manifest; requests are counted whole, with headers."""
    made = folder / "resent"
    choice = random.Random("resent")
    for task in range(TASKS):
        (made / f"tasks/t{task}").mkdir(parents=True)
        (made / f"tasks/t{task}/adapter.safetensors").write_bytes(choice.randbytes(2_000_000))
        (made / f"tasks/t{task}/adapter_config.json").write_bytes(choice.randbytes(1_000))
    (made / "moelora").mkdir()
    (made / "moelora/adapter.safetensors").write_bytes(choice.randbytes(12_000_000))
    server.registry("resent").publish(made, FACTS)
    (made / "tasks/t3/adapter.safetensors").write_bytes(choice.randbytes(2_000_000))
    with Proxy(server.port) as proxy:
        done = _child("publish", server.config_by(proxy.port), "resent", made)
        sent = proxy.sent
    manifest = server.registry("resent").store.get(f"resent/releases/{done}/manifest.json") or b""
    task = sum(path.stat().st_size for path in (made / "tasks/t3").iterdir())
    return sent / (task + len(manifest))


def make(folder: Path, size: int) -> Path:
    """A release of ``size`` bytes: half in the native adapter, half in the tasks'."""
    files = {"moelora/adapter.safetensors": size // 2}
    files |= {f"tasks/t{task}/adapter.safetensors": size // 2 // TASKS for task in range(TASKS)}
    block = random.Random("speed").randbytes(1 << 20)
    for number, (path, length) in enumerate(files.items()):
        place = folder / path
        place.parent.mkdir(parents=True)
        with place.open("wb") as file:
            for start in range(0, length, len(block)):
                # No two blocks alike, so that nothing can be saved by noticing it.
                head = f"{number} {start} ".encode()
                file.write((head + block[len(head) :])[: length - start])
    return folder


def install_aws(folder: Path) -> Path | None:
    """The ``aws`` command in an environment of its own, or None where it cannot be had."""
    found = folder / "bin" / "aws"
    if not found.is_file():
        venv.create(folder, with_pip=True)
        command = [str(folder / "bin" / "pip"), "install", "--quiet", "awscli"]
        if subprocess.run(command, check=False).returncode:
            return None
    return found


def beside_aws(
    server: Server, folder: Path, aws: Path, size: int, repeats: int
) -> dict[str, dict[str, float]]:
    """Median seconds of ``upload`` and ``download`` by ``ours`` and by ``aws``, process starts
    included, in turns."""
    made = make(folder / "release", size)
    seconds: dict[str, dict[str, list[float]]] = {
        way: {"ours": [], "aws": []} for way in ("upload", "download")
    }
    for repeat in range(repeats):
        # A prefix of its own each time: nothing is there to be copied.
        ours, theirs = f"speed-{repeat}", f"s3://{BUCKET}/aws-{repeat}/"
        to = folder / "downloaded"
        _timed(seconds["upload"]["aws"], _aws, server, aws, str(made), theirs)
        release = _timed(seconds["upload"]["ours"], _child, "publish", server.config, ours, made)
        _timed(seconds["download"]["aws"], _aws, server, aws, theirs, str(to))
        shutil.rmtree(to)
        _timed(seconds["download"]["ours"], _child, "pull", server.config, ours, to, release)
        shutil.rmtree(to)
        for prefix in (f"{ours}/", f"aws-{repeat}/"):
            _empty(server, prefix)
    shutil.rmtree(made)
    return {
        way: {who: statistics.median(taken) for who, taken in each.items()} for way, each in seconds.items()
    }


def _timed(into: list[float], work: Callable[..., str], *arguments: Any) -> str:
    os.sync()  # what others wrote is not ours to wait for
    start = time.perf_counter()
    done = work(*arguments)
    into.append(time.perf_counter() - start)
    return done


def _child(action: str, config: Path, prefix: str, folder: Path, *more: str) -> str:
    command = [sys.executable, "-m", "tests.bench.releases.child", action, str(config), prefix, str(folder)]
    return subprocess.run([*command, *more], check=True, capture_output=True, text=True).stdout.strip()


def _aws(server: Server, aws: Path, source: str, target: str) -> str:
    environment = {"PATH": os.environ["PATH"], "AWS_CONFIG_FILE": str(server.config)}
    command: Sequence[str] = [str(aws), "s3", "cp", "--recursive", "--only-show-errors", source, target]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


def _empty(server: Server, prefix: str) -> None:
    store = server.registry("any").store
    for item in list(store.list(prefix)):
        store.client.delete_object(Bucket=BUCKET, Key=item["Key"])
