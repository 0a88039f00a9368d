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
    """Move `champion` to the champion before it, or to ``to``, which once was the champion."""
    try:
        now = move_back(the_registry(), to, reason, by or repository.actor())
    except PipelineError as error:
        return ended_by(error)
    tell(now)
    return Completed(name="RolledBack", message=f"The champion is {now.release}.")


def move_back(registry: Registry, to: str | None, reason: str, by: str) -> Channel:
    """Move the pointer; needs no Prefect.

    Without ``to`` it goes to the champion before, past all that were rolled back from. Raises
    InputError where there is nothing to go back to, ``to`` never was the champion or no reason is
    given, PointerMoved, ReleaseNotFound, ReleaseCorrupt.
    """
    if not reason.strip():
        raise InputError("a rollback needs a reason: --reason TEXT")
    before = registry.channel()
    if before is None:
        raise InputError("there is no champion to roll back from: moelora promote sets one")
    moves = _moves(registry.history(), before)
    if to is None:
        earlier = [release for release in _line(moves) if release != before.release]
        if not earlier:
            raise InputError(
                f"no champion is left before {before.release}: name one by --to, see moelora history"
            )
        to = earlier[-1]
    if to == before.release:
        raise InputError(f"{to} is the champion already: nothing to do")
    if to not in {move["release"] for move in moves}:
        raise InputError(
            f"{to} never was the champion, so it is no way back: moelora promote {to} judges it first"
        )
    return registry.move("champion", to, by, reason, before, event="rolled back")


def _moves(history: list[dict[str, Any]], now: Channel) -> list[dict[str, Any]]:
    """The intentions that became a move of `champion`, in order of time.

    The last one may lack its outcome in the history, where its process was killed after the move.
    """
    done = {entry["intention"] for entry in history if entry["event"] in ("promoted", "rolled back")}
    done.add(now.intention)
    return [entry for entry in history if entry["id"] in done and entry["channel"] == now.name]


def _line(moves: list[dict[str, Any]]) -> list[str]:
    """Champions that may be gone back to, the latest last: none that was rolled back from since."""
    line: list[str] = []
    for move in moves:
        release, previous = move["release"], move["previous"]
        if move["intended"] == "rolled back":
            line = [each for each in line if each != previous]
            if release in line:
                line = line[: line.index(release)]
        line = [each for each in line if each != release] + [release]
    return line


def tell(now: Channel) -> None:
    """Tell Prefect's automations that the champion was moved back."""
    emit_event(
        "adapter.rolled-back",
        resource={"prefect.resource.id": f"moelora.release.{now.release}"},
        payload={"by": now.by, "reason": now.reason, "previous": now.previous},
    )
