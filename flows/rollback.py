"""Point `champion` back at an earlier release: the pointer first, then everybody is told.

moelora rollback --reason TEXT [--to RELEASE]
"""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.states import Completed

from flows import repository
from flows.promote import the_registry
from flows.retrain import ended_by
from pipeline.errors import InputError, PipelineError
from pipeline.registry import Channel, Registry


@flow(name="rollback", persist_result=False)
def rollback(to: str | None = None, reason: str = "", by: str | None = None) -> "State[Any]":
    """Move `champion` to the release before it, or to ``to``."""
    try:
        now = move_back(the_registry(), to, reason, by or repository.actor())
    except PipelineError as error:
        return ended_by(error)
    tell(now)
    return Completed(name="RolledBack", message=f"The champion is {now.release}.")


def move_back(registry: Registry, to: str | None, reason: str, by: str) -> Channel:
    """Move the pointer; needs no Prefect.

    Raises InputError where there is nothing to go back to or no reason, PointerMoved,
    ReleaseNotFound, ReleaseCorrupt.
    """
    if not reason.strip():
        raise InputError("a rollback needs a reason: --reason TEXT")
    before = registry.channel()
    if before is None:
        raise InputError("there is no champion to roll back from: moelora promote sets one")
    to = to or before.previous
    if to is None:
        raise InputError(
            f"{before.release} is the first champion: name a release by --to, see moelora releases"
        )
    if to == before.release:
        raise InputError(f"{to} is the champion already: nothing to do")
    return registry.move("champion", to, by, reason, before, event="rolled back")


def tell(now: Channel) -> None:
    """Tell Prefect's automations that the champion was moved back."""
    emit_event(
        "adapter.rolled-back",
        resource={"prefect.resource.id": f"moelora.release.{now.release}"},
        payload={"by": now.by, "reason": now.reason, "previous": now.previous},
    )
