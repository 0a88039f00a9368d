"""Commands about published releases and the champion among them."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from flows import repository
from flows.cli import ready
from flows.cli.app import By, Json, Reason, ReleaseId, app
from flows.terminal import err, new_table, next_step, out, plain, print_json, verdict
from pipeline.errors import InputError, ReleaseCorrupt


@app.command(epilog="Example: moelora releases --json")
def releases(as_json: Json = False) -> None:
    """List the published releases, the oldest first."""
    registry = ready.registry()
    champion = registry.channel()
    current = champion.release if champion else None
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
            "champion": each.id == current,
        }
        for each in found
    ]
    if as_json:
        print_json(rows)
        return
    table = new_table("release", "published", "files", "MB", "verdict", "")
    for row in rows:
        mark = "champion" if row["champion"] else ""
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
) -> None:
    """Make a release the champion, after showing the gate's table."""
    registry = ready.registry()
    ready.prefect()
    from flows.promote import gate_of, situation
    from flows.promote import promote as flow

    gate = gate_of(registry, release)
    _print_gate(gate)
    out.print(plain(situation(release, gate, registry.channel())))
    flow(
        release,
        by or repository.actor(),
        reason,
        confirm or [],
        confirm_other_comparison,
        return_state=True,
    ).result()
    next_step(f"the champion is {release}", 'moelora predict --task TASK --text "…"')


@app.command(epilog='Example: moelora rollback --reason "wrong on triage" --to 0123456789abcdef')
def rollback(
    reason: Reason,
    to: Annotated[str | None, typer.Option(help="Release id; default: the champion before this one.")] = None,
    by: By = None,
) -> None:
    """Move the champion back; works while Prefect is down."""
    from flows import local_prefect

    registry = ready.registry()
    if is_up := local_prefect.address() is not None:
        local_prefect.ensure()
    from flows.rollback import move_back, tell

    now = move_back(registry, to, reason, by or repository.actor())
    if is_up:
        tell(now)
    else:
        err.print("Prefect is not reachable and was not told; the pointer is moved all the same.")
    next_step(f"the champion is {now.release}", "moelora history")


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
    folder = _fit(ready.registry().pull(release, to), release)
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

    registry = ready.registry()
    if release is None:
        champion = registry.channel()
        if champion is None:
            raise InputError("there is no champion: moelora promote sets one, or name a --release")
        release = champion.release
    folder = registry.pull(release)
    ready.prepare_base()
    _fit(folder, release)
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
    table = new_table("at", "event", "release", "by", "reason")
    for entry in entries:
        table.add_row(
            entry["at"][:19],
            verdict(entry["event"]),
            entry["release"] or "",
            entry["by"],
            plain(entry["reason"]),
        )
    out.print(table)
    next_step(f"{len(entries)} entries", "moelora releases")


def _fit(folder: Path, release: str) -> Path:
    """The folder of a pulled release, once its tensors fit. Raises ReleaseCorrupt."""
    from pipeline.verify import folder_problems

    if problems := folder_problems(folder):
        raise ReleaseCorrupt(f"release {release}: {'; '.join(problems)}: do not use it")
    return folder


def _print_gate(gate: dict[str, Any]) -> None:
    table = new_table("outcome", "rule", "task", "why")
    for rule in gate["rules"]:
        table.add_row(verdict(rule["outcome"]), rule["rule"], rule["task"] or "", plain(rule["why"]))
    out.print(table)
    if override := gate.get("override"):
        why = f"let through by {override['by']}: {override['reason']}"
        out.print(f"{verdict(gate['verdict'])} {plain(why)}", soft_wrap=True)
