"""Several who want the same at once."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline.errors import PointerMoved
from pipeline.registry import Channel, Registry
from tests.bench.releases.server import Server

PROMOTERS = 8
FACTS = {"by": "bench", "reason": "a race"}


def race(server: Server, folder: Path, races: int) -> tuple[int, int]:
    """Races of eight promoters that exactly one won, and history entries that are missing."""
    registries = [server.registry("races") for _ in range(PROMOTERS)]
    releases = [_publish(registries[0], folder, number) for number in range(2)]
    with ThreadPoolExecutor(PROMOTERS) as pool:
        fair = sum(_one_race(registries, releases, pool, number) for number in range(races))
    events = [entry["event"] for entry in registries[0].history()]
    wanted = {"intended": PROMOTERS * races, "promoted": races, "lost": (PROMOTERS - 1) * races}
    return fair, sum(abs(count - events.count(event)) for event, count in wanted.items())


def _publish(registry: Registry, folder: Path, number: int) -> str:
    made = folder / f"race-{number}"
    made.mkdir(parents=True)
    (made / "README.md").write_text(str(number))
    return registry.publish(made, FACTS).release


def _one_race(registries: list[Registry], releases: list[str], pool: ThreadPoolExecutor, number: int) -> bool:
    before, line = registries[0].channel(), threading.Barrier(PROMOTERS)

    def run(promoter: int) -> Channel | str:
        line.wait()
        try:
            release = releases[(number + promoter) % 2]
            return registries[promoter].move("champion", release, f"p{promoter}", "a race", before)
        except PointerMoved as error:
            return str(error)

    outcomes = list(pool.map(run, range(PROMOTERS)))
    winners = [each for each in outcomes if isinstance(each, Channel)]
    told = [each for each in outcomes if isinstance(each, str)]
    if len(winners) != 1 or registries[0].channel() != winners[0]:
        return False
    return all(f"moved first, to {winners[0].release} by {winners[0].by}" in text for text in told)


def twins(server: Server, folder: Path, times: int) -> float:
    """Objects of a release that two processes published at once, over those of one upload; the worst of
    several times. Raises AssertionError where one of them fails or gets another id."""
    worst = 0.0
    for number in range(times):
        made = folder / f"twins-{number}"
        files = {f"tasks/t{task}/adapter.safetensors": bytes([number, task]) * 100_000 for task in range(6)}
        for path, data in files.items():
            (made / path).parent.mkdir(parents=True)
            (made / path).write_bytes(data)
        command = [sys.executable, "-m", "tests.bench.releases.child", "publish", str(server.config), "twins"]
        both = [subprocess.Popen([*command, str(made)], stdout=subprocess.PIPE, text=True) for _ in range(2)]
        ids = {process.communicate()[0].strip() for process in both}
        if len(ids) != 1 or any(process.returncode for process in both):
            raise AssertionError(f"two publishers of one release ended with {ids}")
        registry = server.registry("twins")
        release = ids.pop()
        objects = list(registry.store.list(f"twins/releases/{release}/"))
        uploads = registry.store.client.list_multipart_uploads(Bucket="moelora", Prefix="twins/")
        count = len(objects) + len(uploads.get("Uploads", []))
        worst = max(worst, count / (len(files) + 1))
        if registry.verify(release):
            raise AssertionError(f"release {release} of two publishers is not whole")
    return worst
