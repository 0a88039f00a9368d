"""Set a Prefect server up for the service: pools, queues, limits, sources, deployments, automations.

Every part is made where it is absent and brought to what it should be where it is there, so that the
same call may be made again, on any server, after any change of infra/.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml
from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.variables import Variable
from prefect.workers.process import ProcessWorker

from flows import repository
from flows.watch import SOURCES
from pipeline.errors import PipelineError

DEPLOYMENTS = Path("infra/prefect.yaml")
AUTOMATIONS = Path("infra/automations.yaml")

BLOCK = "moelora-notify"

LIMITS: dict[str, int | None] = {"cpu": None, "gpu": 1, "promote": None}
"""Runs at once on a pool. On ``gpu`` as many as its workers have GPUs."""

QUEUES: dict[str, dict[str, int | None]] = {"cpu": {"retrain": 1, "watch": 1}, "gpu": {}, "promote": {}}
"""Runs at once of a queue: counted by state, so nothing stays held when a process is killed."""

WATCHED = 10.0
"""Seconds that an automation has to start a watcher again."""


async def deploy(sources: list[str] | None, notify: str | None, keep_sources: bool = False) -> list[str]:
    """Set everything up; a line for each part. Sources that are set stay where ``sources`` is None, or
    where they are to be kept.

    Raises PipelineError where the server refuses a part.
    """
    told = []
    async with get_client() as client:
        for pool, limit in LIMITS.items():
            await _pool(client, pool, limit)
            for queue, at_once in QUEUES[pool].items():
                await _queue(client, pool, queue, at_once)
        told.append(f"work pools {', '.join(LIMITS)}")
        known: Any = await Variable.aget(SOURCES)
        kept = known or [] if sources is None or (known and keep_sources) else sources
        await Variable.aset(SOURCES, kept, overwrite=True)
        told.append(f"watching {', '.join(kept)}" if kept else "watching nothing: --watch FOLDER|s3://…")
        _deployments()
        names = await _deployment_ids(client)
        told.append(f"deployments {', '.join(names)}")
        block = await _notification(notify)
        made = await _automations(client, names, block)
        told.append(f"{made} automations" + ("" if block else "; nobody is notified: --notify URL"))
        if await _start_watching(client, names["watch"]):
            told.append("the watcher was started")
    return told


async def _pool(client: PrefectClient, name: str, limit: int | None) -> None:
    try:
        found = await client.read_work_pool(name)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        made = WorkPoolCreate(name=name, type="process", base_job_template=template, concurrency_limit=limit)
        await client.create_work_pool(made)
        return
    # A limit that somebody set for more GPUs stays.
    if found.concurrency_limit is None and limit is not None:
        await client.update_work_pool(name, WorkPoolUpdate(concurrency_limit=limit))


async def _queue(client: PrefectClient, pool: str, name: str, limit: int | None) -> None:
    try:
        found = await client.read_work_queue_by_name(name, work_pool_name=pool)
    except ObjectNotFound:
        found = await client.create_work_queue(name, work_pool_name=pool)
    await client.update_work_queue(found.id, concurrency_limit=limit)


def _deployments() -> None:
    prefect = (sys.executable, "-m", "prefect", "--no-prompt")
    done = repository.program(*prefect, "deploy", "--all", "--prefect-file", str(DEPLOYMENTS))
    if done.returncode:
        raise PipelineError(f"prefect deploy: {(done.stdout + done.stderr).strip()[-800:]}")


async def _deployment_ids(client: PrefectClient) -> dict[str, str]:
    entries = yaml.safe_load(DEPLOYMENTS.read_text())["deployments"]
    found = {}
    for entry in entries:
        deployed = await client.read_deployment_by_name(f"{entry['name']}/{entry['name']}")
        found[str(entry["name"])] = str(deployed.id)
    return found


async def _notification(url: str | None) -> str | None:
    """The id of the block that posts notifications to ``url``, or of the one that is there."""
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    if url is None:
        try:
            found: Any = await CustomWebhookNotificationBlock.aload(BLOCK)
        except ValueError:
            return None
        return str(found._block_document_id)
    # What Slack, Mattermost, Teams' workflows and most others read is `text`.
    block = CustomWebhookNotificationBlock.model_validate(
        {"name": "moelora", "url": url, "method": "POST", "json_data": {"text": "{{subject}}: {{body}}"}}
    )
    return str(await block.asave(BLOCK, overwrite=True))


async def _automations(client: PrefectClient, deployments: dict[str, str], block: str | None) -> int:
    text = AUTOMATIONS.read_text()
    for name, identity in deployments.items():
        text = text.replace(f"DEPLOYMENT_{name}", identity)
    made = 0
    for entry in yaml.safe_load(text.replace("NOTIFY", block or "")):
        if block is None and any(action["type"] == "send-notification" for action in entry["actions"]):
            continue
        wanted = AutomationCore.model_validate(entry)
        found = await client.read_automations_by_name(entry["name"])
        if not found:
            await client.create_automation(wanted)
        # One that is renewed forgets what it waits for: runs that died before would never be marked.
        elif _told(found[0]) != _told(wanted):
            await client.update_automation(found[0].id, wanted)
        made += 1
    return made


def _told(automation: AutomationCore) -> dict[str, Any]:
    """What an automation says, without the ids that a server gives and in one order."""
    text = automation.model_dump_json(include={*AutomationCore.model_fields} - {"owner_resource"})
    return dict(_in_order(json.loads(text)))


def _in_order(part: Any) -> Any:
    if isinstance(part, dict):
        return {name: _in_order(value) for name, value in part.items() if name != "id"}
    if isinstance(part, list):
        return sorted((_in_order(each) for each in part), key=str)
    return part


async def keep_watching() -> bool:
    """Start a watcher where none runs or is about to after WATCHED seconds; whether it was done.

    The automation that starts one after a crash never hears of it where the server itself has only
    just come back.
    """
    async with get_client() as client:
        deployment = (await _deployment_ids(client))["watch"]
        patience = time.monotonic() + WATCHED
        while time.monotonic() < patience:
            if await _is_watching(client, deployment):
                return False
            await asyncio.sleep(0.5)
        return await _start_watching(client, deployment)


async def _start_watching(client: PrefectClient, deployment: str) -> bool:
    """Start a watcher where none runs or is about to; whether it was done."""
    if await _is_watching(client, deployment):
        return False
    await client.create_flow_run_from_deployment(UUID(deployment))
    return True


async def _is_watching(client: PrefectClient, deployment: str) -> bool:
    only = DeploymentFilter(id=DeploymentFilterId(any_=[UUID(deployment)]))
    runs = await client.read_flow_runs(deployment_filter=only, sort=FlowRunSort.START_TIME_DESC, limit=20)
    return any(run.state is not None and not run.state.is_final() for run in runs)
