"""The service with a real server and real workers: arrival, schedule, bursts, cancels, kills, people.

    make bench-orchestration                        about 40 minutes on 2 cores
    python -m tests.bench.orchestration --quick     about 10 minutes: fewer repetitions
    python -m tests.bench.orchestration --only arrival overhead

The stages are the real ones on a tiny base model; the peer is `dvc repro` in a clone, whose bytes every
disturbed training must reach. Workers and server that are killed are started again by `moelora up`, as
systemd, Compose or a cluster would.
"""

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from tests.bench.orchestration import credentials, drills, people
from tests.bench.orchestration.project import arrive, contents, idle, make, plain_dvc, released, set_params
from tests.bench.table import Row, show
from tests.service import Run, Service, is_final, until

PARTS = ("overhead", "arrival", "burst", "schedule", "unchanged", "cancels", "kills", "people", "credentials")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure")
    parser.add_argument("--steps", type=int, default=250, help="steps of the training that is disturbed")
    options = parser.parse_args(arguments)
    times = {"cancels": 3, "kills": 1} if options.quick else {"cancels": 10, "kills": 5}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        service = make(folder, options.steps)
        try:
            service.up()
            idle_from_the_start(service)
            for part in PARTS:
                if part in options.only:
                    print(f"bench-orchestration: {part}", flush=True)
                    try:
                        rows += globals()[f"{part}_rows"](service, folder, times, options.steps)
                    except (AssertionError, OSError, subprocess.SubprocessError) as error:
                        # What one part could not measure keeps no other from it.
                        rows.append(Row(part, None, None, ">=", 1, f"{type(error).__name__}: {error}"[:300]))
                    show("orchestration", rows, "so far")
        finally:
            service.down()
    show("orchestration", rows, f"Prefect on SQLite, three process workers, {os.cpu_count()} cores")


def idle_from_the_start(service: Service) -> None:
    """Until the batch that the service began with has its adapter."""
    until(lambda: service.runs("retrain"), 120)
    idle(service)


def retrained(service: Service, number: int) -> tuple[Run, float]:
    """Drop a file and wait for what comes of it: the run, and the seconds until it was running."""
    before = {run["id"] for run in service.runs("retrain")}

    def come() -> list[Run]:
        return [run for run in service.runs("retrain") if run["id"] not in before]

    arrive(service, number)
    waited = until(lambda: any(run["start_time"] for run in come()), 90)
    idle(service)
    return come()[-1], waited


def overhead_rows(service: Service, folder: Path, times: dict[str, int], steps: int) -> list[Row]:
    """A deployed run of every stage beside plain DVC on the same commit, all of it made anew."""
    pairs = []
    for repeat in range(1 if times["kills"] == 1 else 3):
        # Other rows for every stage: nothing finished earlier is used by either.
        run, _ = retrained(service, 900 + repeat)
        digest, plain = plain_dvc(service, folder / f"plain-{repeat}")
        pairs.append((run["total_run_time"], plain, digest == released(service)))
    ours, theirs = (statistics.median(pair[which] for pair in pairs) for which in (0, 1))
    note = f"{ours:.1f} s deployed, {theirs:.1f} s dvc repro, medians of {len(pairs)}"
    return [
        Row("orchestration over dvc repro, s", ours - theirs, None, "<=", 15, note),
        Row("runs whose adapter is dvc repro's", sum(pair[2] for pair in pairs), None, ">=", len(pairs)),
    ]


def arrival_rows(service: Service, folder: Path, times: dict[str, int], steps: int) -> list[Row]:
    taken, candidates = [], 0
    for number in range(3):
        run, waited = retrained(service, number)
        taken.append(waited)
        candidates += run["state"]["name"] == "Published"
    note = f"{', '.join(f'{each:.1f}' for each in taken)}"
    return [
        Row("file dropped to retraining running, s, worst of 3", max(taken), None, "<=", 30, note),
        Row("of them published without a hand", candidates, None, ">=", 3),
    ]


def burst_rows(service: Service, folder: Path, times: dict[str, int], steps: int) -> list[Row]:
    before, known = {run["id"] for run in service.runs("retrain")}, len(contents(service))
    for number in range(3):
        arrive(service, 100 + number)
        time.sleep(3)
    most = 0

    def over() -> bool:
        nonlocal most
        runs = [run for run in service.runs("retrain") if run["id"] not in before]
        most = max(most, sum(run["state"]["type"] == "RUNNING" for run in runs))
        return bool(runs) and all(is_final(run) for run in runs) and len(contents(service)) == known + 3

    until(over, 600)
    runs = [run for run in service.runs("retrain") if run["id"] not in before]
    lost = known + 3 - len(contents(service))
    doubled = len(contents(service)) - len(set(contents(service)))
    return [
        Row(
            "3 batches in 10 s: retrainings at once", most, None, "<=", 1, f"{len(runs)} retrainings for all"
        ),
        Row("3 batches in 10 s: files lost or taken twice", lost + doubled, None, "<=", 0),
    ]


def schedule_rows(service: Service, folder: Path, times: dict[str, int], steps: int) -> list[Row]:
    url = f"{service.api}/deployments"
    named = httpx.get(f"{url}/name/retrain/retrain", trust_env=False).json()
    schedule = named["schedules"][0]["id"]
    every_minute = {"active": True, "schedule": {"cron": "* * * * *", "timezone": "UTC"}}
    httpx.patch(
        f"{url}/{named['id']}/schedules/{schedule}", json=every_minute, trust_env=False
    ).raise_for_status()

    def seen() -> bool:
        runs = [run for run in service.runs("retrain") if run["auto_scheduled"]]
        return any(run["state"]["type"] == "COMPLETED" for run in runs)

    took = until(seen, 300)
    weekly = {"active": True, "schedule": {"cron": "0 3 * * 0", "timezone": "UTC"}}
    httpx.patch(f"{url}/{named['id']}/schedules/{schedule}", json=weekly, trust_env=False).raise_for_status()
    idle(service)
    note = f"by a cron of every minute, {took:.0f} s after it was set"
    return [Row("scheduled runs seen to start and finish", 1, None, ">=", 1, note)]


def unchanged_rows(service: Service, folder: Path, times: dict[str, int], steps: int) -> list[Row]:
    idle(service)
    taken, named = [], 0
    for number in range(3):
        began = time.time()
        run = service.ended(service.start("retrain", batch=f"nothing-{number}"))
        taken.append(time.time() - began)
        named += run["state"]["name"] == "Unchanged" and "has changed" in run["state"]["message"]
    note = "from the request to the end, worst of 3: " + ", ".join(f"{each:.1f}" for each in taken)
    return [
        Row("a retraining with nothing new, s", max(taken), None, "<=", 20, note),
        Row("of them said so", named, None, ">=", 3),
    ]


def cancels_rows(service: Service, folder: Path, times: dict[str, int], steps: int) -> list[Row]:
    idle(service)
    wanted = reference(service, folder, "for-cancels")
    done = drills.cancels(service, times["cancels"], wanted, steps)
    return [
        Row(f"{times['cancels']} cancels in training: last process gone, s", max(done.gone), None, "<=", 30),
        Row("of them ended as Cancelled", done.recovered, None, ">=", times["cancels"]),
        Row("the next run's adapter is dvc repro's", done.same, None, ">=", 1, done.notes[-1]),
    ]


def kills_rows(service: Service, folder: Path, times: dict[str, int], steps: int) -> list[Row]:
    idle(service)
    wanted, rows = reference(service, folder, "for-kills"), []
    first = 11  # at 10, which params.yaml has, DVC has the adapter already
    whats = {
        "the GPU worker": drills.kill_worker,
        "the retraining's process": drills.kill_flow,
        "the server": drills.kill_server,
    }
    for what, kill in whats.items():
        done = drills.kills(service, times["kills"], wanted, first, kill)
        first += times["kills"]
        note = (
            f"training went on from step {', '.join(done.notes)} of {steps}; longest {max(done.gone):.0f} s"
        )
        figure = f"kill -9 of {what}: recovered with dvc repro's bytes"
        rows.append(Row(figure, done.same, None, ">=", times["kills"], note))
    return rows


def people_rows(service: Service, folder: Path, times: dict[str, int], steps: int) -> list[Row]:
    return people.rows(service)


def credentials_rows(service: Service, folder: Path, times: dict[str, int], steps: int) -> list[Row]:
    return credentials.rows(folder / "roles")


def reference(service: Service, folder: Path, name: str) -> str:
    """What plain DVC makes of main and of what has arrived."""
    set_params(service, {"train.checkpoint_every": 1})
    digest, _ = plain_dvc(service, folder / name)
    return digest


if __name__ == "__main__":
    main()
