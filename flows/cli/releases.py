"""Commands about published releases and the champion among them."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from flows import repository
from flows.cli import ready
from flows.cli.app import By, ChannelName, Json, Reason, ReleaseId, app
from flows.terminal import err, new_table, next_step, out, plain, print_json, transfer, verdict
from pipeline.errors import ReleaseCorrupt


@app.command(epilog="Example: moelora releases --json")
def releases(as_json: Json = False) -> None:
    """List the published releases, the oldest first."""
    registry = ready.registry()
    channels = registry.channels()
    found = registry.releases()
    # Of those that are refused, as unsigned, damaged or withdrawn, nothing is read.
    gates = registry.read_each([each.id for each in found], "gate.json")
    rows = [
        {
            "id": each.id,
            "published_at": each.published_at,
            "files": each.files,
            "bytes": each.bytes,
            "verdict": json.loads(gates[each.id])["verdict"] if each.id in gates else "refused",
            "champion": "champion" in _pointing(channels, each.id),
            "channels": _pointing(channels, each.id),
        }
        for each in found
    ]
    if as_json:
        print_json(rows)
        return
    table = new_table("release", "published", "files", "MB", "verdict", "")
    for row in rows:
        mark = ", ".join(row["channels"])
        size = f"{row['bytes'] / 1e6:.1f}"
        shown = verdict(row["verdict"])
        table.add_row(row["id"], row["published_at"][:19], str(row["files"]), size, shown, mark)
    out.print(table)
    promotable = [row["id"] for row in rows if not row["champion"] and row["verdict"] != "refused"]
    next_step(
        f"{len(rows)} releases",
        f"moelora promote {promotable[-1]} --reason …" if promotable else "moelora retrain",
    )


@app.command(epilog='Example: moelora promote 0123456789abcdef --by "A. Meyer" --reason "better on triage"')
def promote(
    release: ReleaseId,
    reason: Reason,
    by: By = None,
    confirm: Annotated[
        list[str] | None, typer.Option(help="Undecided task whose risk you accept; may be repeated.")
    ] = None,
    confirm_other_comparison: Annotated[
        bool,
        typer.Option(
            "--confirm-other-comparison",
            help="Accept a release that was not compared with the champion of now.",
        ),
    ] = False,
    channel: ChannelName = "champion",
) -> None:
    """Make a release the champion, or what another channel points at, after showing the gate's table."""
    registry = ready.registry()
    ready.prefect()
    from flows.promote import gate_of, situation
    from flows.promote import promote as flow

    gate = gate_of(registry, release)
    _print_gate(gate)
    out.print(plain(situation(release, gate, registry.channel(channel), channel)))
    flow(
        release,
        by or repository.actor(),
        reason,
        confirm or [],
        confirm_other_comparison,
        channel,
        return_state=True,
    ).result()
    next_step(f"the {channel} is {release}", f'moelora predict --release {release} --task TASK --text "…"')


@app.command(epilog='Example: moelora rollback --reason "wrong on triage" --to 0123456789abcdef')
def rollback(
    reason: Reason,
    to: Annotated[str | None, typer.Option(help="Release id; default: the one before this one.")] = None,
    by: By = None,
    channel: ChannelName = "champion",
) -> None:
    """Move a channel back, the champion unless you name another; works while Prefect is down."""
    from flows import local_prefect

    now = ready.registry().roll_back(channel, to, by or repository.actor(), reason)
    if local_prefect.address() is None:
        err.print("Prefect is not reachable and was not told; the pointer is moved all the same.")
    else:
        # Before prefect is imported, and after the pointer is where it belongs.
        local_prefect.ensure()
        from flows.rollback import tell

        tell(now)
    next_step(f"the {channel} is {now.release}", "moelora history")


@app.command(epilog="Example: moelora verify 0123456789abcdef")
def verify(release: ReleaseId, as_json: Json = False) -> None:
    """Check a published release: signature, every digest, nothing extra, tensors that fit the base."""
    from pipeline import verify as check

    problems = check.problems(ready.registry(), release)
    if as_json:
        print_json({"release": release, "problems": problems})
    if problems:
        raise ReleaseCorrupt(
            f"release {release}: {'; '.join(problems)}: publish it again by `moelora retrain`"
        )
    if not as_json:
        next_step(f"release {release} is whole", f"moelora pull {release}")


@app.command(epilog="Example: moelora pull 0123456789abcdef --to /srv/adapter")
def pull(
    release: ReleaseId,
    to: Annotated[Path | None, typer.Option(help="Empty or new folder; default: the cache.")] = None,
) -> None:
    """Fetch a release, its signature and every file verified: whole or not at all."""
    from pipeline.verify import check_folder

    with transfer(f"release {release}") as tell:
        folder = ready.registry().pull(release, to, tell)
    check_folder(folder, release)
    next_step(
        f"release {release} is in {folder}", f'moelora predict --release {release} --task TASK --text "…"'
    )


@app.command(
    epilog='Example: moelora predict --task triage --text "Chest pain …" --choice urgent --choice routine'
)
def predict(
    task: Annotated[str, typer.Option(help="A task the release knows.", show_default=False)],
    text: Annotated[
        str, typer.Option(help="The whole prompt; `-` reads standard input.", show_default=False)
    ],
    choice: Annotated[
        list[str] | None, typer.Option(help="Possible answer; may be repeated. None: free text.")
    ] = None,
    release: Annotated[str | None, typer.Option(help="Release id; default: the champion.")] = None,
    task_fallback: Annotated[
        Literal["mean"] | None,
        typer.Option(help="Answer a task the release does not know with the mean of those it knows."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask a release one question. Not a medical device."""
    from pipeline import predict as prediction
    from pipeline.verify import check_folder

    release, promoted = ready.named_or_champion(release)
    with transfer(f"release {release}") as tell:
        folder = ready.pull(release, promoted, tell)
    ready.prepare_base()
    check_folder(folder, release)
    question = sys.stdin.read() if text == "-" else text
    answer = prediction.predict(folder, task, question, choice, task_fallback)
    if as_json:
        print_json({"release": release, "task": task, "answer": answer})
    else:
        out.print(plain(answer))


@app.command(epilog="Example: moelora history --json")
def history(as_json: Json = False) -> None:
    """Show what was published, promoted and rolled back, by whom as claimed, and why."""
    entries = ready.registry().history()
    if as_json:
        print_json(entries)
        return
    settled = {entry["intention"] for entry in entries if "intention" in entry}
    table = new_table("at", "event", "channel", "release", "before", "by", "reason")
    for entry in entries:
        if entry["id"] in settled:  # its outcome says the same
            continue
        event = verdict(entry["event"]) + (" (found out later)" if entry.get("reconciled") else "")
        table.add_row(
            entry["at"][:19],
            event,
            entry.get("channel") or "",
            entry["release"] or "",
            entry.get("previous") or "",
            plain(entry["by"]),
            plain(entry["reason"]),
        )
    out.print(table)
    next_step(f"{len(entries)} entries", "moelora releases")


@app.command(epilog="Example: moelora prune --keep 10 --reason 'older than our policy' --apply")
def prune(
    keep: Annotated[int, typer.Option(min=0, help="So many of the newest releases stay.")] = 10,
    apply: Annotated[bool, typer.Option("--apply", help="Remove them; else they are only shown.")] = False,
    reason: Annotated[str, typer.Option(help="Why; stays in the registry's history.")] = "retention",
    by: By = None,
    as_json: Json = False,
) -> None:
    """Show, or remove, releases that no channel needs: not pointed at, not gone back to, not new."""
    registry = ready.registry()
    plan = registry.plan_prune(keep)
    done = registry.prune(plan, by or repository.actor(), reason) if apply else None
    if as_json:
        print_json({"plan": asdict(plan), "done": asdict(done) if done else None})
        return
    table = new_table("release", "MB", "", "why")
    for release, why in plan.kept.items():
        table.add_row(release, "", "stays", plain(why))
    for each in plan.removed:
        table.add_row(each.id, f"{each.bytes / 1e6:.1f}", "goes", f"published {each.published_at[:19]}")
    for release in plan.unfinished:
        table.add_row(release, "", "goes", "never finished, or its removal was not")
    out.print(table)
    if plan.uploads:
        out.print(f"{len(plan.uploads)} uploads that were given up go too.")
    if done is None:
        total = len(plan.removed) + len(plan.unfinished)
        next_step(f"{total} would go, nothing is removed yet", f"moelora prune --keep {keep} --apply")
        return
    for release in done.spared:
        out.print(f"{release} stays: a channel was pointed at it meanwhile.")
    for locked in done.locked:
        until = f"until {locked.until[:19]}" if locked.until else "for a time S3 does not tell"
        out.print(plain(f"locked by the bucket {until}: {locked.key}"), soft_wrap=True)
    next_step(f"{len(done.removed)} removed", "moelora releases")


def _pointing(channels: list[Any], release: str) -> list[str]:
    return [channel.name for channel in channels if channel.release == release]


def _print_gate(gate: dict[str, Any]) -> None:
    table = new_table("outcome", "rule", "task", "why")
    for rule in gate["rules"]:
        table.add_row(verdict(rule["outcome"]), rule["rule"], rule["task"] or "", plain(rule["why"]))
    out.print(table)
    if override := gate.get("override"):
        why = f"let through by {override['by']}: {override['reason']}"
        out.print(f"{verdict(gate['verdict'])} {plain(why)}", soft_wrap=True)
