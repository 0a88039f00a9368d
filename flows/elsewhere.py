"""Have the GPU worker run its stages, from the retraining that waits for them.

    begin     a run of gpu-stage, while the last data stages are still under way: a process takes
              seconds to start
    push      the inputs, by stage name, to DVC's shared remote; the state, and which stages are
              wanted, to refs/moelora/<flow run>, for which that run waits
    wait      one whose worker died is started again, on whatever worker is free, and goes on from
              the last checkpoint
    adopt     what DVC noted there, stage by stage, into dvc.lock, and pull those results

Ends with the waiting run: whoever is cancelled, or killed, takes the other along (see ``leash``).
"""

import time
from collections.abc import Callable
from typing import Any, TypeVar, cast
from uuid import UUID

import httpx
from prefect import get_client, get_run_logger
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments import run_deployment
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run
from prefect.states import Cancelling

from flows import dvc_lock, repository, workspace
from pipeline import STAGES
from pipeline.errors import PipelineError, Stopped

ON_GPU = ("train", "export", "evaluate")
"""Stages of the work pool ``gpu``; all others run on ``cpu``."""

FIRST_OPEN = "split"
"""The first stage whose results are de-identified and needed there."""

DEPLOYMENT = "gpu-stage/gpu-stage"

WANTED = "moelora:"
"""How the message of a state's commit begins; the stages that are wanted follow."""

ATTEMPTS = 5
"""Runs of gpu-stage that may die with their worker before the retraining gives up."""

POLL = 0.5  # s between looks at the run

OFFLINE = 900.0
"""Seconds without an answer of the Prefect server, or of the repository, before a wait gives up."""

SOON = 60.0
"""Seconds after which a run that no worker took is worth a line in the log."""

WIND_UP = 25.0
"""Seconds to wait for a cancelled run: a worker kills this one 30 s after it asked it to end."""

T = TypeVar("T")


class Gpu:
    """The runs of gpu-stage of one retraining; as a context it leaves none behind."""

    def __init__(self, batch: str) -> None:
        self._batch = batch
        self._reference = f"refs/moelora/{flow_run.id}"
        self._child: UUID | None = None

    def __enter__(self) -> "Gpu":
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            cancel(self._child)
            forget(self._reference)

    def begin(self) -> None:
        """Start a run that waits for what it is to do."""
        if self._child is None:
            self._child = start(self._reference, self._batch)

    def run(self, wanted: list[str]) -> None:
        """Bring ``wanted``, stages of the pool ``gpu`` in their order, up to date there; results come
        back.

        Raises PipelineError with the stage's own message; Stopped where somebody cancelled it.
        """
        repository.dvc("push", *before(wanted[0]))
        left = list(wanted)
        for attempt in range(1, ATTEMPTS + 1):
            if patiently(lambda: _state(UUID(str(flow_run.id)))).is_final():
                raise Stopped("this run was ended from outside while its process went on")
            commit = repository.commit_state(f"{WANTED} {' '.join(left)}", always=True)
            workspace.push(f"{commit}:{self._reference}")
            self.begin()
            left, state = self._results(left)
            if not left:
                return
            if not state.is_crashed():
                raise ending(state, left)
            get_run_logger().warning(
                "The GPU worker's run ended (%s); %s goes on with another, attempt %d of %d.",
                state.message,
                left[0],
                attempt + 1,
                ATTEMPTS,
            )
        raise PipelineError(f"{left[0]}: {ATTEMPTS} runs on the GPU worker died: its log says why")

    def _results(self, wanted: list[str]) -> "tuple[list[str], State[Any]]":
        """Wait for the run and take what it finished: the stages that are left, and how it ended."""
        assert self._child is not None  # noqa: S101  # run has begun it
        child, self._child = self._child, None
        try:
            state = wait(child)
        finally:
            forget(self._reference)
        finished = handed_back(child, wanted)
        if finished:
            adopt(finished)
        return [stage for stage in wanted if stage not in finished], state


def before(stage: str) -> tuple[str, ...]:
    """The stages whose results ``stage`` may read and that are de-identified."""
    return STAGES[STAGES.index(FIRST_OPEN) : STAGES.index(stage)]


def start(reference: str, batch: str) -> UUID:
    """A new run of gpu-stage below this one; its id."""
    parameters = {"reference": reference, "batch": batch, "parent": str(flow_run.id)}

    def begin() -> FlowRun:
        made = run_deployment(DEPLOYMENT, parameters=parameters, timeout=0, tags=[batch], idempotency_key=key)
        return cast(FlowRun, made)

    key = f"{flow_run.id}-{time.time_ns()}"  # an answer that got lost starts no second one
    made = patiently(begin)
    get_run_logger().info("Run %s on the work pool gpu.", made.name)
    return made.id


def wait(child: UUID) -> "State[Any]":
    """The state in which a run ended. Whatever ends this call ends the run too."""
    began, told = time.monotonic(), False
    try:
        while True:
            state = patiently(lambda: _state(child))
            if state.is_final():
                return state
            if not told and state.is_scheduled() and time.monotonic() - began > SOON:
                told = True
                get_run_logger().warning("No worker has taken it yet: `moelora work gpu` starts one.")
            time.sleep(POLL)
    except BaseException:
        cancel(child)
        raise


def cancel(child: UUID) -> None:
    """Ask a run to end, and wait until it has, as long as there is time for it."""
    deadline = time.monotonic() + WIND_UP
    try:
        with get_client(sync_client=True) as client:
            if not _state(child).is_final():
                client.set_flow_run_state(child, Cancelling())
            while not _state(child).is_final() and time.monotonic() < deadline:
                time.sleep(0.5)
    except (httpx.HTTPError, PrefectException):
        return  # its leash ends it


def handed_back(child: UUID, wanted: list[str]) -> dict[str, dict[str, Any]]:
    """Stage to what DVC noted of it, of those that a run finished."""

    def look() -> dict[str, dict[str, Any]]:
        keys = [f"{stage}-lock" for stage in wanted]
        with get_client(sync_client=True) as client:
            found = client.read_artifacts(
                artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=keys)),
                flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[child])),
            )
        return {
            str(each.key).removesuffix("-lock"): dvc_lock.read_handed_back(str(each.data)) for each in found
        }

    found = patiently(look)
    return {stage: found[stage] for stage in wanted if stage in found}


def adopt(finished: dict[str, dict[str, Any]]) -> None:
    """Note what was made elsewhere, and fetch it. Raises PipelineError."""
    dvc_lock.adopt(finished)
    repository.dvc("pull", "--force", *finished)


def ending(state: "State[Any]", left: list[str]) -> PipelineError:
    """The error for a run that neither completed nor died."""
    message = state.message or f"the GPU worker's run ended as {state.name}"
    if state.is_cancelled():
        return Stopped(message)
    if state.is_completed():
        return PipelineError(f"{left[0]} ended on the GPU worker without handing anything back")
    return PipelineError(message)


def forget(reference: str) -> None:
    """Remove the state of this run from the repository; one that is left does no harm."""
    try:
        workspace.push(f":{reference}")
    except PipelineError:
        get_run_logger().warning("%s stays in the repository.", reference)


def patiently(ask: Callable[[], T]) -> T:
    """What the Prefect server answers, asked again while it is away for up to OFFLINE seconds."""
    deadline = time.monotonic() + OFFLINE
    while True:
        try:
            return ask()
        except (httpx.TransportError, httpx.HTTPStatusError) as error:
            lasting = isinstance(error, httpx.HTTPStatusError) and error.response.status_code < 500
            if lasting or time.monotonic() > deadline:
                raise PipelineError(f"the Prefect server does not answer: {type(error).__name__}") from None
            time.sleep(4 * POLL)


def _state(run: UUID) -> "State[Any]":
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run).state
    if state is None:
        raise PipelineError(f"flow run {run} has no state")
    return state
