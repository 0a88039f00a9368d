"""Watch where clinical data arrives, take what is complete, and see that it is read.

Runs all day on the pool ``cpu`` and looks every second or two. Files that come together become one
batch, which is closed when nothing more has come for QUIET seconds. For a closed batch that no
retraining has read, and none that waits or begins will read, it says `clinical-data.arrived`, and again
where nothing comes of it. Where no file came for STALE, it says `clinical-data.stale`. Retrainings and
approvals whose process died are started again.

Ends after ``hours``, so that the next run takes up new code; an automation starts that.
"""

import shutil
import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from prefect import flow, get_client, get_run_logger
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
)
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events import emit_event
from prefect.variables import Variable

from flows import arrivals, home, life, repository, workspace
from flows.arrivals import Arrivals
from flows.champion import open_registry
from flows.endings import ended_by
from flows.leash import leash
from pipeline.errors import PipelineError
from pipeline.params import Params
from pipeline.registry import CANDIDATE

SOURCES = "moelora_sources"
"""Prefect variable: a list of folders and s3:// prefixes; may be edited in the page."""

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

OFTEN = 5
"""Announcements of a batch after which somebody must look, and SELDOM seconds lie between two."""

SELDOM = 3600.0

CANDIDATE_EVERY = 60.0
"""Seconds between looks whether somebody was asked about the candidate."""

BEGINS = timedelta(seconds=60)
"""How long a run may be running before it has read the inbox."""

PROMOTE = "promote/promote"

DECIDED = ("promoted", "rejected", "expired", "superseded", "erased")
"""Events of the registry's history after which nobody need be asked about a release."""

DIED = 3
"""Runs in a row that may die before one is not started again by itself."""

STALE = timedelta(days=14)
"""Time without a new file after which somebody is told: exports come every week."""

DISK = 5 * 10**9
"""Free bytes below which somebody is told."""


@flow(name="watch", flow_run_name="watch", persist_result=False)
def watch(hours: float = 6.0) -> "str | State[str]":
    """Look at the sources for ``hours``; how many files were taken, in words."""
    deadline = time.monotonic() + timedelta(hours=hours).total_seconds()
    try:
        # Whatever its queue allows: two would each take a part, and one change the code of the other.
        with leash(), repository.one_at_a_time(workspace.PATIENCE):
            home.claim_inbox()
            return f"{_look_until(deadline)} files taken"
    except PipelineError as error:
        return ended_by(error)


def _look_until(deadline: float) -> int:
    log, watcher = get_run_logger(), Watcher()
    log.info("Watching what the variable %s names.", SOURCES)
    last = None
    while time.monotonic() < deadline or watcher.is_open:
        try:
            watcher.look()
            last = None
        except Exception as error:
            # Its text may name a raw file. Whatever it is, what arrives next is looked at all the same.
            if type(error) is not last:
                log.warning("A look failed with %s; looking goes on.", type(error).__name__)
            last = type(error)
            time.sleep(SPEAK_EVERY)
        time.sleep(EVERY)
    return watcher.taken


class Watcher:
    """What one run of ``watch`` remembers."""

    def __init__(self) -> None:
        self._arrivals = Arrivals(Params.load().ingest.include)
        self._batch: str | None = None
        self._first = self._last = 0.0
        self._asked: dict[str, list[float]] = {}
        self._spoke = -SPEAK_EVERY
        self._looked = time.monotonic()
        self._disk_told = False
        self._troubles = (0, 0)
        self._sources: list[str] = []
        self.taken = 0

    @property
    def is_open(self) -> bool:
        """Whether files were taken into a batch that is not closed yet."""
        return self._batch is not None

    def look(self) -> None:
        """Take what is complete; close the batch, announce, start again what died."""
        self._take()
        now = time.monotonic()
        if self._batch and (now - self._last >= QUIET or now - self._first >= LONGEST):
            self._batch = None
            self._spoke = -SPEAK_EVERY
        if now - self._spoke < SPEAK_EVERY:
            return
        self._spoke = now
        self._watch_disk()
        self._sources = _strings(Variable.get(SOURCES, []))
        self._watch_age()
        for name in life.bury(home.folder()):
            get_run_logger().warning("%s had no process any more, and is marked so.", name)
        unread = [batch for batch in arrivals.unread() if batch != self._batch]
        with get_client(sync_client=True) as client:
            retrainings = recent_runs(client, "retrain")
            if not any(_will_read(run) for run in retrainings):
                for batch in unread:
                    self._announce(batch)
            start_again(client, retrainings)
            # What somebody approved then is not approved now: it asks again.
            promotions = recent_runs(client, "promote")
            start_again(client, promotions, {"release", "channel", "hours"})
            if now - self._looked >= CANDIDATE_EVERY:
                self._looked = now
                offer_candidate(client, {str(run.parameters.get("release")) for run in promotions})

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
        troubles = (found.unreachable, found.unreadable)
        if troubles != self._troubles:
            self._troubles = troubles
            told = f"{troubles[0]} of {len(self._sources)} sources and {troubles[1]} files cannot be read"
            log.warning("%s.", told)
            if any(troubles):
                emit_event("clinical-data.unreadable", resource=_me(), payload={"message": told})

    def _announce(self, batch: str) -> None:
        asked = self._asked.setdefault(batch, [])
        now = time.monotonic()
        if asked and now - asked[-1] < (ASK_AGAIN if len(asked) < OFTEN else SELDOM):
            return
        asked.append(now)
        get_run_logger().info("Clinical data arrived: batch %s.", batch)
        if len(asked) == OFTEN:
            get_run_logger().warning("No retraining has read batch %s: look at the runs of retrain.", batch)
        emit_event(
            "clinical-data.arrived",
            resource={"prefect.resource.id": f"moelora.batch.{batch}", "prefect.resource.name": batch},
            id=uuid4(),
        )

    def _watch_disk(self) -> None:
        free = shutil.disk_usage(home.folder()).free
        if free < DISK and not self._disk_told:
            told = f"{free / 1e9:.1f} GB are free where the worker's home lies"
            emit_event("moelora.disk-nearly-full", resource=_me(), payload={"message": told})
        self._disk_told = free < DISK

    def _watch_age(self) -> None:
        silence = self._arrivals.silence(STALE) if self._sources else None
        if silence:
            told = f"no file has come for {silence.days} days: look whether the sources still get some"
            get_run_logger().warning("%s.", told)
            emit_event("clinical-data.stale", resource=_me(), payload={"message": told})


def recent_runs(client: SyncPrefectClient, deployment: str) -> list[FlowRun]:
    """Runs of a deployment that are due or were, the newest first."""
    soon = datetime.now(UTC) + timedelta(seconds=30)
    due = FlowRunFilterExpectedStartTime.model_validate({"before_": soon})
    return client.read_flow_runs(
        deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[deployment])),
        flow_run_filter=FlowRunFilter(expected_start_time=due),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=50,
    )


def start_again(client: SyncPrefectClient, runs: list[FlowRun], kept: set[str] | None = None) -> None:
    """Start the run that died last again, with what it was given, or those parameters alone that are
    ``kept``, unless that happened too often."""
    died = 0
    while died < len(runs) and (state := runs[died].state) and state.is_crashed():
        died += 1
    if not 0 < died <= DIED:
        return
    last = runs[0]
    if last.deployment_id is None:
        return
    given = {k: v for k, v in last.parameters.items() if kept is None or k in kept}
    again = client.create_flow_run_from_deployment(
        last.deployment_id, parameters=given, tags=["again"], idempotency_key=f"again-{last.id}"
    )
    get_run_logger().warning("%s died; %s goes on where it was.", last.name, again.name)


def offer_candidate(client: SyncPrefectClient, offered: set[str]) -> None:
    """Ask people about a candidate that nobody was asked about: its one event may have been lost.

    ``offered``: releases that runs of `promote` were about.
    """
    registry = open_registry()
    candidate = registry.channel(CANDIDATE) if registry else None
    if registry is None or candidate is None or candidate.release in offered:
        return
    since = datetime.fromisoformat(candidate.at)
    if datetime.now(UTC) - since < BEGINS:
        return  # its event may be on the way
    if any(e["release"] == candidate.release and e["event"] in DECIDED for e in registry.history()):
        return
    deployment = client.read_deployment_by_name(PROMOTE)
    client.create_flow_run_from_deployment(
        deployment.id,
        parameters={"release": candidate.release},
        idempotency_key=f"candidate-{candidate.release}",
    )
    get_run_logger().warning("Nobody was asked about the candidate %s: asking now.", candidate.release)


def _will_read(run: FlowRun) -> bool:
    """Whether a run will still read the inbox: one that is due, or has only just begun."""
    state = run.state
    if state is None or state.is_final():
        return False
    if state.is_running():
        return run.start_time is None or datetime.now(UTC) - run.start_time < BEGINS
    return state.is_scheduled() or state.is_pending()


def _strings(value: object) -> list[str]:
    """The variable's value, which may have been edited by hand. Raises TypeError for what is no list."""
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise TypeError(f"{SOURCES} is no list of strings")
    return value


def _me() -> dict[str, str]:
    return {"prefect.resource.id": f"moelora.watch.{home.folder().name}"}
