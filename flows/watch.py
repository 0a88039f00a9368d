"""Watch where clinical data arrives, take what is complete, and ask for a retraining.

Runs all day on the pool ``cpu`` and looks every second or two. Files that come together become one
batch, which is closed when nothing more has come for QUIET seconds. `clinical-data.arrived` is said
once a batch, until a retraining for it is there; while one still waits in its queue no other is
asked for, since that one will read the inbox when it starts. A retraining that died with its worker
is started again.

Ends after ``hours``, so that the next run takes up new code; an automation starts that.
"""

import shutil
import time
from datetime import timedelta
from uuid import NAMESPACE_URL, uuid5

import httpx
from prefect import flow, get_client, get_run_logger
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events import emit_event
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.variables import Variable

from flows import arrivals, home
from flows.arrivals import Arrivals
from flows.leash import leash
from pipeline.params import Params

SOURCES = "moelora_sources"
"""Prefect variable: a list of folders and s3:// prefixes; may be edited in the page."""

RETRAIN = "retrain/retrain"

EVERY = 1.5
"""Seconds from look to look."""

QUIET = 3.0
"""Seconds without a new file that close a batch."""

LONGEST = 12.0
"""Seconds after its first file at which a batch is closed, though more may come."""

SPEAK_EVERY = 5.0
"""Seconds between questions to Prefect's server while nothing arrives."""

ASK_AGAIN = 30.0
"""Seconds after which a batch is announced again where no retraining has come of it."""

DIED = 3
"""Retrainings in a row that may die before one is not started again by itself."""

DISK = 5 * 10**9
"""Free bytes below which somebody is told."""


@flow(name="watch", flow_run_name="watch", persist_result=False)
def watch(hours: float = 6.0) -> str:
    """Look at the sources for ``hours``; how many files were taken, in words."""
    log = get_run_logger()
    log.info("Watching what the variable %s names.", SOURCES)
    watcher = Watcher()
    deadline = time.monotonic() + timedelta(hours=hours).total_seconds()
    with leash():
        while time.monotonic() < deadline or watcher.is_open:
            try:
                watcher.look()
            except (httpx.HTTPError, PrefectException) as error:
                log.warning("Prefect's server does not answer (%s); looking goes on.", type(error).__name__)
                time.sleep(EVERY)
            time.sleep(EVERY)
    return f"{watcher.taken} files taken"


class Watcher:
    """What one run of ``watch`` remembers."""

    def __init__(self) -> None:
        self._arrivals = Arrivals(Params.load().ingest.include)
        self._batch: str | None = None
        self._first = self._last = 0.0
        self._asked: dict[str, float] = {}
        self._spoke = -SPEAK_EVERY
        self._disk_told = False
        self._unreachable = 0
        self._sources: list[str] = []
        self.taken = 0

    @property
    def is_open(self) -> bool:
        """Whether files were taken that no retraining was asked for yet."""
        return self._batch is not None

    def look(self) -> None:
        """Take what is complete; close the batch, announce, start again what died."""
        self._take()
        now = time.monotonic()
        if self._batch and (now - self._last >= QUIET or now - self._first >= LONGEST):
            self._batch = None
        closed = [batch for batch in self._arrivals.unannounced() if batch != self._batch]
        if not closed and now - self._spoke < SPEAK_EVERY:
            return
        self._spoke = now
        self._watch_disk()
        with get_client(sync_client=True) as client:
            self._sources = list(Variable.get(SOURCES, []) or [])
            runs = retrainings(client)
            for batch in closed:
                self._announce(batch, runs)
            start_again(client, runs)

    def _take(self) -> None:
        batch = self._batch or arrivals.new_batch()
        found = self._arrivals.look(self._sources, batch)
        log = get_run_logger()
        if found.taken:
            if self._batch is None:
                self._batch, self._first = batch, time.monotonic()
            self._last = time.monotonic()
            self.taken += found.taken
        if found.waiting and self._batch:
            self._last = time.monotonic()
        if found.taken or found.already or found.quarantined or found.ignored:
            log.info(
                "Batch %s: %d files taken, %d there already, %d quarantined, %d ignored.",
                batch,
                found.taken,
                found.already,
                found.quarantined,
                found.ignored,
            )
        if found.quarantined:
            told = f"{found.quarantined} files were no data: the folder quarantine of the watcher says why"
            emit_event("clinical-data.quarantined", resource=_me(), payload={"message": told})
        if found.unreachable != self._unreachable:
            self._unreachable = found.unreachable
            log.warning("%d of %d sources cannot be read.", found.unreachable, len(self._sources))

    def _announce(self, batch: str, runs: list[FlowRun]) -> None:
        if any(run.parameters.get("batch") == batch for run in runs) or any(_waits(run) for run in runs):
            self._arrivals.announced(batch)
            return
        now = time.monotonic()
        if now - self._asked.get(batch, -ASK_AGAIN) < ASK_AGAIN:
            return
        self._asked[batch] = now
        files = sum(1 for path in (home.inbox() / batch).rglob("*") if path.is_file())
        get_run_logger().info("Clinical data arrived: batch %s, %d files.", batch, files)
        emit_event(
            "clinical-data.arrived",
            resource={"prefect.resource.id": f"moelora.batch.{batch}", "prefect.resource.name": batch},
            payload={"files": files},
            id=uuid5(NAMESPACE_URL, f"moelora.batch.{batch}"),
        )

    def _watch_disk(self) -> None:
        free = shutil.disk_usage(home.folder()).free
        if free < DISK and not self._disk_told:
            told = f"{free / 1e9:.1f} GB are free where {home.folder()} lies"
            emit_event("moelora.disk-nearly-full", resource=_me(), payload={"message": told})
        self._disk_told = free < DISK


def retrainings(client: SyncPrefectClient) -> list[FlowRun]:
    """The newest runs of the deployment, the newest first; none where it is not there."""
    try:
        deployment = client.read_deployment_by_name(RETRAIN)
    except ObjectNotFound:
        return []
    return client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id])),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=50,
    )


def start_again(client: SyncPrefectClient, runs: list[FlowRun]) -> None:
    """Start the retraining that died last again, with what it was given, unless it did so too often."""
    begun = [run for run in runs if run.state and not (run.state.is_scheduled() and run.auto_scheduled)]
    died = 0
    while died < len(begun) and begun[died].state.is_crashed():  # type: ignore[union-attr]
        died += 1
    if not 0 < died <= DIED:
        return
    last = begun[0]
    if last.deployment_id is None:
        return
    again = client.create_flow_run_from_deployment(
        last.deployment_id, parameters=last.parameters, tags=["again"], idempotency_key=f"again-{last.id}"
    )
    get_run_logger().warning("%s died; %s goes on where it was.", last.name, again.name)


def _waits(run: FlowRun) -> bool:
    """Whether a run will still read the inbox: one that was asked for and has not begun."""
    state = run.state
    return state is not None and not run.auto_scheduled and (state.is_scheduled() or state.is_pending())


def _me() -> dict[str, str]:
    return {"prefect.resource.id": f"moelora.watch.{home.folder().name}"}
