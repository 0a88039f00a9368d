"""Point a channel back at an earlier release: the pointer first, then everybody is told.

moelora rollback --reason TEXT [--to RELEASE] [--channel NAME]
"""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.states import Completed

from flows import repository
from flows.endings import ended_by
from flows.promote import the_registry
from pipeline.errors import PipelineError
from pipeline.registry import CHAMPION, Channel


@flow(name="rollback", persist_result=False)
def rollback(
    to: str | None = None, reason: str = "", by: str | None = None, channel: str = CHAMPION
) -> "State[Any]":
    """Move a channel to the release before it, or to ``to``, where it once was."""
    try:
        now = the_registry().roll_back(channel, to, by or repository.actor(), reason)
    except PipelineError as error:
        return ended_by(error)
    tell(now)
    return Completed(name="RolledBack", message=f"The {channel} is {now.release}.")


def tell(now: Channel) -> None:
    """Tell Prefect's automations that a channel was moved back."""
    emit_event(
        "adapter.rolled-back",
        resource={"prefect.resource.id": f"moelora.release.{now.release}"},
        payload={"channel": now.name, "by": now.by, "reason": now.reason, "previous": now.previous},
    )
