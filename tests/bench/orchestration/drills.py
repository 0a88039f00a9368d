"""Cancels and kills while a training is under way: what was left, what was recovered, which bytes."""

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil

from tests.bench.orchestration.project import idle, released, set_params, training_step
from tests.service import Service, until


@dataclass
class Drilled:
    """What came of the repetitions of one drill."""

    gone: list[float] = field(default_factory=list)
    """Seconds until no process of the stage was left, of each."""
    recovered: int = 0
    same: int = 0
    """Runs that ended with the bytes of plain DVC."""
    notes: list[str] = field(default_factory=list)


def cancels(service: Service, times: int, wanted: str, steps: int) -> Drilled:
    """Cancel one training again and again; each run goes on where the last one was stopped."""
    done = Drilled()
    set_params(service, {"train.checkpoint_every": 2})
    for number in range(times):
        # Each gets a little further, so that there is always something to go on with.
        _cancel_once(service, number, (number + 1) * steps // (times + 2), done)
    run = service.ended(service.start("retrain", batch="not-cancelled"), 600)
    done.notes.append(f"went on from step {_resumed(service)} of {steps}, ended as {run['state']['name']}")
    done.same = int(released(service) == wanted)
    return done


def _cancel_once(service: Service, number: int, step: int, done: Drilled) -> None:
    run = service.start("retrain", batch=f"cancelled-{number}")
    until(lambda: training_step(service) >= step, 240)
    time.sleep(random.uniform(0, 0.5))  # moments, not secrets
    service.cancel(run)
    done.gone.append(until(lambda: not service.stages(), 60))
    done.recovered += service.ended(run)["state"]["type"] == "CANCELLED"
    idle(service)


def kills(
    service: Service, times: int, wanted: str, first: int, kill: Callable[[Service, str], None]
) -> Drilled:
    """Kill something in the midst of a training, ``times`` times. The service must end it without a hand but
    a supervisor's, which starts workers and server again."""
    done = Drilled()
    for number in range(first, first + times):
        _kill_once(service, number, wanted, kill, done)
    return done


def _kill_once(
    service: Service, number: int, wanted: str, kill: Callable[[Service, str], None], done: Drilled
) -> None:
    # Another interval of checkpoints is another training for DVC, and the same bytes.
    set_params(service, {"train.checkpoint_every": number})
    batch = f"killed-{number}"
    run = service.start("retrain", batch=batch)
    until(lambda: training_step(service) > 2 * number, 240)
    time.sleep(random.uniform(0, 1.5))
    kill(service, run)
    began = time.monotonic()
    until(lambda: _completed(service, batch), 600)
    idle(service)
    done.gone.append(time.monotonic() - began)
    done.recovered += 1
    done.same += released(service) == wanted
    done.notes.append(str(_resumed(service)))


def kill_worker(service: Service, run: str) -> None:
    """The GPU worker's process, and after a while a new one, as systemd or a cluster would."""
    service.worker("gpu").kill()
    until(lambda: not service.stages(), 60)
    service.up()


def kill_flow(service: Service, run: str) -> None:
    """The process of the retraining."""
    service.flow_process("cpu", "retrain").kill()


def kill_server(service: Service, run: str) -> None:
    """The Prefect server, and after a while a new one on the same database."""
    found = json.loads((service.root / "scratch/services/prefect/server.json").read_text())
    process = psutil.Process(found["process"])
    for child in process.children(recursive=True):
        child.kill()
    process.kill()
    time.sleep(3)
    service.up()


def _completed(service: Service, batch: str) -> bool:
    runs = [run for run in service.runs("retrain") if run["parameters"]["batch"] == batch]
    return any(run["state"]["type"] == "COMPLETED" for run in runs)


def _resumed(service: Service) -> int:
    """The step that the last training went on from; 0 where it began anew."""
    path = service.clone("gpu", "gpu-stage") / "scratch/status/train.json"
    return int(json.loads(path.read_text())["work"].get("resumed_at_step", 0))
