"""Workers on this machine, left running in the background: one for each pool.

    scratch/services/workers/<pool>.json    its process
    scratch/services/workers/<pool>.log     what it and its runs say

``environment_of`` is what `moelora work` gives a worker, wherever it runs: a folder of its own, and
none of the secrets that its role does not need.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from flows import home, local_prefect
from flows.stages import end_group
from pipeline import paths

FOLDER = paths.SERVICES / "workers"

PATIENCE = 40.0
"""Seconds that a worker has to end its runs, to each of which it gives 30."""

WIND_UP = 25.0
"""Seconds for runs whose worker had to be killed: they notice it, and save what they have."""

SECRETS = {"cpu": ("MOELORA_DEID_KEY", "MOELORA_SIGNING_KEY"), "gpu": (), "promote": ()}
"""Which of our secrets a role needs."""

SETTINGS = {
    "PREFECT_WORKER_QUERY_SECONDS": "2",
    # A run that says nothing for three of these is marked as crashed, see infra/automations.yaml.
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    # With each try twice as late as before: a server may be away for eight minutes.
    "PREFECT_CLIENT_MAX_RETRIES": "8",
}


def command(pool: str) -> list[str]:
    """The command of a worker."""
    return [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", "process"]


def environment_of(pool: str) -> dict[str, str]:
    """The environment of a worker of ``pool``, made of this process's."""
    needless = {name for names in SECRETS.values() for name in names} - {*SECRETS[pool]}
    kept = {name: value for name, value in os.environ.items() if name not in needless}
    folder = home.of_pool(pool)
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    own = {
        home.HOME: str(folder),
        home.CACHE: kept.get(home.CACHE, str(folder / "cache")),
        home.REPOSITORY: kept.get(home.REPOSITORY, str(Path.cwd())),
        "PATH": path,
    }
    return local_prefect.QUIET | SETTINGS | kept | own


def start(pool: str) -> bool:
    """Start a worker unless it runs; whether it was started."""
    if _process(pool) is not None:
        return False
    from flows import life

    life.bury(home.of_pool(pool))  # a run of a worker before this one would hold its queue
    FOLDER.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (FOLDER / f"{pool}.log").open("ab") as log:
        process = subprocess.Popen(
            command(pool),
            env=environment_of(pool),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    (FOLDER / f"{pool}.json").write_text(json.dumps({"process": process.pid}))
    return True


def stop() -> list[str]:
    """End the workers that were started in this checkout, and their runs; the pools they served.

    All are asked at once: a retraining waits for its run on the GPU worker to end.
    """
    import psutil

    served = {pool: psutil.Process(pid) for pool in home.POOLS if (pid := _process(pool)) is not None}
    runs = [run for worker in served.values() for run in worker.children()]
    for worker in served.values():
        worker.terminate()
    psutil.wait_procs(served.values(), PATIENCE)
    for worker in served.values():
        end_group(worker.pid)
    psutil.wait_procs(runs, WIND_UP)
    for pool in home.POOLS:
        (FOLDER / f"{pool}.json").unlink(missing_ok=True)
    return list(served)


def running() -> list[str]:
    """The pools that have a worker of this checkout."""
    return [pool for pool in home.POOLS if _process(pool) is not None]


def _process(pool: str) -> int | None:
    import psutil

    try:
        process = psutil.Process(int(json.loads((FOLDER / f"{pool}.json").read_text())["process"]))
        is_ours = process.cmdline()[1:] == command(pool)[1:]  # numbers are used again
        return process.pid if is_ours and process.status() != psutil.STATUS_ZOMBIE else None
    except (OSError, ValueError, KeyError, psutil.Error):
        return None
