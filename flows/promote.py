"""Move a channel, `champion` unless another is named, to a release that a person has looked at.

    moelora promote RELEASE --by NAME --reason TEXT [--confirm TASK …] [--confirm-other-comparison]
                            [--channel NAME]

Run from Prefect's page without ``by`` and ``reason``, or by itself for a new candidate, it shows the
gate's table and waits for a form. Approved, rejected or left unanswered: the registry's history keeps
it, with the name that was typed. Somebody else's move meanwhile is never overwritten: the pointer moves
only if it still is where it was when the table was shown.
"""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.flow_runs import apause_flow_run
from prefect.input import RunInput
from prefect.states import Cancelled, Completed
from pydantic import Field

from flows import reports, repository, workspace
from flows.champion import open_registry
from flows.endings import ended_by
from flows.leash import leash
from pipeline.errors import (
    InputError,
    ParamsError,
    PipelineError,
    RegistryUnavailable,
    ReleaseCorrupt,
)
from pipeline.registry import CANDIDATE, CHAMPION, Channel, Registry
from pipeline.verify import content_problems

LOOK_FOR_NEWER = 30
"""Seconds between looks whether there is a newer candidate, for which another run asks."""

MARGIN = 600
"""Seconds that the server gives the form beyond ours."""

LOOK = 2
"""Seconds between looks whether somebody has answered."""


class Newer(Exception):
    """While a form waited for an answer, another release became the candidate."""


class Approval(RunInput):
    """The form in Prefect's page."""

    approve: bool = Field(description="Move the champion to this release?")
    by: str = Field(min_length=1, description="Your name, recorded as you claim it.")
    reason: str = Field(min_length=1, description="Why; stays in the registry's history.")
    confirmed: list[str] = Field(default=[], description="Undecided tasks whose risk you accept, by name.")
    confirm_other_comparison: bool = Field(
        default=False, description="Accept a release that was not compared with the champion of now."
    )


@flow(name="promote", flow_run_name="{release}", persist_result=False)
def promote(
    release: str,
    by: str | None = None,
    reason: str | None = None,
    confirmed: Sequence[str] = (),
    confirm_other_comparison: bool = False,
    channel: str = CHAMPION,
    hours: float = 72.0,
) -> "State[Any]":
    """Show the gate's table of a release, ask who approves and why, and move a channel to it.

    ``hours``: how long the form waits for a person. Fails where the release is blocked, an undecided
    task is not confirmed, it was compared with something else than the champion of now and that is not
    confirmed, or somebody else moved the channel first.
    """
    try:
        with leash():
            return _promote(release, by, reason, confirmed, confirm_other_comparison, channel, hours)
    except PipelineError as error:
        return ended_by(error)


def _promote(
    release: str,
    by: str | None,
    reason: str | None,
    confirmed: Sequence[str],
    confirm_other_comparison: bool,
    channel: str,
    hours: float,
) -> "State[Any]":
    registry = the_registry()
    before = registry.channel(channel)
    gate = gate_of(registry, release)
    if problems := content_problems(registry, release):
        raise ReleaseCorrupt(f"release {release} is not promoted: {'; '.join(problems)}")
    told = situation(release, gate, before, channel)
    reports.tell_gate(gate, told)
    if by is None or reason is None:
        try:
            approval = asyncio.run(_ask(registry, release, reports.gate_page(gate, told), hours * 3600))
        except TimeoutError:
            return _unanswered(registry, release, "Expired", f"nobody answered within {hours:g} hours")
        except Newer as error:
            return _unanswered(registry, release, "Superseded", str(error))
        if not approval.approve:
            registry.append_history("rejected", release, approval.by, approval.reason)
            return Cancelled(name="Rejected", message=f"{approval.by}: {approval.reason}")
        by, reason, confirmed = approval.by, approval.reason, approval.confirmed
        confirm_other_comparison = confirm_other_comparison or approval.confirm_other_comparison
    now = move(registry, release, gate, before, by, reason, confirmed, confirm_other_comparison, channel)
    try:
        branch = mark(registry, release)
    except (PipelineError, KeyError) as error:  # the pointer has moved: that is what there is to tell
        branch = None
        get_run_logger().warning("The commit of release %s is not tagged: %s", release, error)
    resource = {"prefect.resource.id": f"moelora.release.{release}"}
    emit_event("adapter.promoted", resource=resource, payload={"channel": channel, "by": by})
    get_run_logger().info(
        "The %s is %s.%s", channel, now.release, f" To keep its state: git merge {branch}" if branch else ""
    )
    return Completed(name="Promoted", message=f"{by}: {reason}")


def _unanswered(registry: Registry, release: str, name: str, why: str) -> "State[Any]":
    registry.append_history(name.lower(), release, repository.actor(), why)
    return Cancelled(name=name, message=f"{why}. No channel was moved; run promote again to be asked again.")


async def _ask(registry: Registry, release: str, text: str, seconds: float) -> Approval:
    """What a person answers to the form with ``text`` above it.

    Raises TimeoutError; Newer when the release was the candidate and another one is now.
    """
    form = Approval.with_initial_data(description=text)
    # Ended from here, before the server marks the run as failed: nothing went wrong.
    async with asyncio.timeout(seconds):
        asked = asyncio.create_task(
            apause_flow_run(wait_for_input=form, timeout=int(seconds) + MARGIN, poll_interval=LOOK)
        )
        followed = asyncio.create_task(_superseded(registry, release))
        try:
            await asyncio.wait({asked, followed}, return_when=asyncio.FIRST_COMPLETED)
            if asked.done():
                return asked.result()
            followed.result()
            return await asked
        finally:
            for each in (asked, followed):
                each.cancel()


async def _superseded(registry: Registry, release: str) -> None:
    """Return where ``release`` is not the candidate; else wait, and raise Newer once it is not."""
    candidate = await asyncio.to_thread(registry.channel, CANDIDATE)
    if candidate is None or candidate.release != release:
        return
    while candidate is None or candidate.release == release:
        await asyncio.sleep(LOOK_FOR_NEWER)
        try:
            candidate = await asyncio.to_thread(registry.channel, CANDIDATE)
        except RegistryUnavailable:
            continue
    raise Newer(f"{candidate.release} is the candidate now")


def gate_of(registry: Registry, release: str) -> dict[str, Any]:
    """The verdict a release was published with. Raises ReleaseNotFound, RegistryError."""
    gate: dict[str, Any] = json.loads(registry.read(release, "gate.json"))
    return gate


def situation(release: str, gate: dict[str, Any], before: Channel | None, channel: str = CHAMPION) -> str:
    """One line for who decides: what is replaced, and whether the comparison was with that."""
    current = before.release if before else "base"
    text = f"Release {release} would replace {current if before else f'nothing: there is no {channel} yet'}."
    if override := gate.get("override"):
        text += f" OVERRIDDEN: the gate blocked it, {override['by']} let it through: {override['reason']}."
    if gate["undecided"]:
        text += f" Undecided, each to be confirmed by name: {', '.join(gate['undecided'])}."
    if channel == CHAMPION and gate["against"] not in (current, release):
        text += f" It was compared with {gate['against']}, not with that: `moelora retrain` compares anew."
    return text


def move(
    registry: Registry,
    release: str,
    gate: dict[str, Any],
    before: Channel | None,
    by: str,
    reason: str,
    confirmed: Sequence[str],
    confirm_other_comparison: bool = False,
    channel: str = CHAMPION,
) -> Channel:
    """Move a channel from ``before`` to ``release``, all conditions held; what was approved stays in
    the history. Only for `champion` must the comparison have been with what is replaced.

    Raises InputError, PointerMoved, ReleaseCorrupt.
    """
    if not by.strip() or not reason.strip():
        raise InputError("a promotion needs a name and a reason: --by NAME --reason TEXT")
    if gate["verdict"] == "blocked":
        raise InputError(f"release {release} was blocked by the gate: it cannot be promoted")
    if before and before.release == release:
        raise InputError(f"{release} is the {channel} already: nothing to do")
    current = before.release if before else "base"
    if channel == CHAMPION and gate["against"] != current and not confirm_other_comparison:
        raise InputError(
            f"release {release} was compared with {gate['against']}, and the champion is "
            f"{before.release if before else 'none yet'}: `moelora retrain` compares anew, or accept it by "
            "--confirm-other-comparison"
        )
    unknown = sorted(set(confirmed) - set(gate["undecided"]))
    if unknown:
        raise InputError(f"{', '.join(unknown)}: not among the undecided tasks of {release}: leave it out")
    missing = sorted(set(gate["undecided"]) - set(confirmed))
    if missing:
        options = " ".join(f"--confirm {task}" for task in missing)
        raise InputError(
            f"too few test rows to tell whether {release} harms {', '.join(missing)}: "
            f"look at the gate's table and confirm each by name: {options}"
        )
    approval = {
        "verdict": gate["verdict"],
        "against": gate["against"],
        "confirmed": sorted(confirmed),
        "confirm_other_comparison": confirm_other_comparison,
    }
    return registry.move(channel, release, by, reason, before, facts={"approval": approval})


def mark(registry: Registry, release: str) -> str | None:
    """Tag the commit a release came from; the branch that holds it, where this clone has it."""
    made = [e for e in registry.history() if e["event"] == "candidate" and e["release"] == release]
    if not made:
        return None
    repository.tag(f"release/{release}", made[-1]["git_commit"])
    if workspace.is_deployed() and repository.git("tag", "--list", f"release/{release}"):
        workspace.push(f"refs/tags/release/{release}")
    branch = made[-1]["branch"]
    return str(branch) if branch else None


def the_registry() -> Registry:
    """The registry that params.yaml names. Raises ParamsError where it names none."""
    registry = open_registry()
    if registry is None:
        raise ParamsError("publish.registry is null: set local or s3://BUCKET/PREFIX in params.yaml")
    return registry
