"""How long people wait for ``moelora rollback``."""

import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.releases.server import BUCKET, Server

ROOT = Path(__file__).resolve().parents[3]
FACTS = {"by": "bench", "reason": "a measurement"}
PROMOTIONS = 50


def seconds(server: Server, folder: Path, size: int, repeats: int) -> float:
    """Median seconds of the command, from its start to its end, on releases of ``size`` bytes and a
    history of many promotions; Prefect is down."""
    checkout = folder / "rollback"
    checkout.mkdir()
    registry = server.registry("rollback")
    releases = []
    for name in "ab":
        made = checkout / name
        made.mkdir()
        block = random.Random(name).randbytes(1_000_000)
        (made / "adapter.safetensors").write_bytes(block * (size // len(block)))
        releases.append(registry.publish(made, FACTS).release)
    small = checkout / "small"
    small.mkdir()
    (small / "README.md").write_text("small")
    other = registry.publish(small, FACTS).release
    for number in range(PROMOTIONS):
        wanted = releases[0] if number == PROMOTIONS - 1 else other
        registry.move("champion", wanted, "bench", "a measurement", registry.channel())
    params = (ROOT / "params.yaml").read_text()
    place = f"registry: s3://{BUCKET}/rollback"
    (checkout / "params.yaml").write_text(params.replace("registry: local", place))
    environment = os.environ | {
        "AWS_CONFIG_FILE": str(server.config),
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "PYTHONPATH": str(ROOT),
        "PREFECT_API_URL": "http://127.0.0.1:9/api",
    }
    command = [sys.executable, "-m", "flows.cli", "rollback", "--reason", "a measurement"]
    taken = []
    for _ in range(repeats):
        registry.move("champion", releases[1], "bench", "a measurement", registry.channel())
        start = time.perf_counter()
        subprocess.run(command, cwd=checkout, env=environment, check=True, capture_output=True)
        taken.append(time.perf_counter() - start)
        now = registry.channel()
        if now is None or now.release != releases[0]:
            raise AssertionError("the rollback went elsewhere")
    shutil.rmtree(checkout)
    return statistics.median(taken)
