"""Commands that run the pipeline or parts of it."""

import json
import signal
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from flows import repository
from flows.cli import ready
from flows.cli.app import Batch, Inbox, Include, Json, Settings, app
from flows.terminal import new_table, next_step, out, plain, print_json
from pipeline import STAGES, paths
from pipeline.errors import InputError, Stopped

Stage = StrEnum("Stage", {stage: stage for stage in STAGES})  # type: ignore[misc]


@app.command(epilog="Example: moelora retrain --inbox /exports/clinical --include '*.jsonl.gz' --batch march")
def retrain(
    inbox: Inbox = None,
    include: Include = None,
    batch: Batch = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Bring data/inbox to a judged and, where the gate passes it, published adapter."""
    _stop_on_sigterm()
    try:
        with repository.one_at_a_time():
            name = ready.make_ready(inbox, include, batch, settings)
            ready.prefect(tell=True)
            from flows.retrain import retrain as flow

            state = flow(name, return_state=True)
    except KeyboardInterrupt:
        raise Stopped("stopped: run the same command again to go on") from None
    if state.is_cancelled():
        raise Stopped(state.message)
    state.result()
    _print_outcome(state.name or "", state.message or "", as_json)


@app.command(epilog="Example: moelora prepare && dvc repro")
def prepare(
    inbox: Inbox = None, include: Include = None, batch: Batch = None, settings: Settings = None
) -> None:
    """Make what `dvc repro` needs: data in the inbox, base model, key id, the registry's server."""
    from flows import stages

    with repository.one_at_a_time():
        stages.end_leftovers()
        ready.make_ready(inbox, include, batch, settings)
        repository.track_inbox()
    next_step("all that the stages need is there", "dvc repro")


@app.command(epilog="Example: moelora stage train")
def stage(
    name: Annotated[Stage, typer.Argument(help="One of the ten stages.", show_default=False)],
    force: Annotated[bool, typer.Option(help="Run it even if nothing it depends on has changed.")] = False,
) -> None:
    """Run one stage through DVC, as the flow does, without Prefect."""
    from flows import stages

    _stop_on_sigterm()
    try:
        with repository.one_at_a_time():
            stages.end_leftovers()
            if name in ("ingest", "validate", "deidentify", "resample"):
                ready.prepare_key()
            if name in ("train", "export", "evaluate", "publish"):
                ready.prepare_base()
            if name == "publish":
                ready.prepare_s3()
            ran = stages.run(str(name), lambda line: out.print(plain(line)), lambda _: None, force)
    except KeyboardInterrupt:
        raise Stopped("stopped: run the same command again to go on") from None
    following = STAGES[STAGES.index(str(name)) + 1 :]
    what = "done" if ran else "nothing to do: nothing it depends on has changed"
    next_step(f"{name}: {what}", f"moelora stage {following[0]}" if following else "moelora releases")


@app.command("sample-data", epilog="Example: moelora sample-data --to /tmp/sample")
def sample_data(
    to: Annotated[Path | None, typer.Option(help="Folder to write into; default: data/inbox/sample.")] = None,
) -> None:
    """Write a synthetic clinical data set of uneven tasks, with planted names, dates and numbers."""
    from flows import inbox
    from pipeline import sample_data as sample

    if to is None and any(inbox.SAMPLE not in path.parents for path in inbox.files()):
        raise InputError(
            "data/inbox holds other data, which sample data must not join: name a folder by --to"
        )
    folder = to or inbox.SAMPLE
    written = sample.write(folder)
    if to is None:
        folder.chmod(0o700)
        folder.parent.chmod(0o700)
    next_step(f"{written['records']} records of {len(written['tasks'])} tasks in {folder}", "moelora retrain")


@app.command(epilog="Example: moelora base")
def base() -> None:
    """Prepare the base model that params.yaml names in models/base."""
    ready.prepare_base()
    next_step(f"the base model is in {paths.BASE}", "moelora retrain")


def _stop_on_sigterm() -> None:
    """Let SIGTERM end this process like an interrupt, everything it started included."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)


def _print_outcome(name: str, message: str, as_json: bool) -> None:
    """The verdict, the scores and the next step of a run."""
    reports = {each: _read(each) for each in ("gate", "evaluate", "publish")}
    release, verdict = reports["publish"]["release"], reports["gate"]["verdict"]
    scores = {
        task: {"base": each["base"]["score"], "adapter": each["candidate"]["score"]}
        for task, each in reports["evaluate"]["tasks"].items()
    }
    mean = reports["evaluate"]["mean"]
    scores["mean"] = {"base": mean["base"]["score"], "adapter": mean["candidate"]["score"]}
    undecided = reports["gate"]["undecided"]
    if as_json:
        print_json(
            {
                "outcome": name,
                "message": message,
                "verdict": verdict,
                "release": release,
                "undecided": undecided,
                "scores": scores,
            }
        )
        return
    table = new_table("task", "base", "adapter", "")
    for task, score in scores.items():
        values = [score["base"], score["adapter"]]
        shown = ["" if value is None else f"{value:.3f}" for value in values]
        change = "" if None in values else f"{values[1] - values[0]:+.3f}"
        table.add_row(task, *shown, change)
    out.print(table)
    colour = "green" if verdict == "pass" else "red"
    out.print(f"[bold {colour}]{name}[/] {plain(message)}", soft_wrap=True)
    champion = ready.registry().channel() if release else None
    if champion and champion.release == release:
        next_step(f"verdict: {verdict}; it is the champion", 'moelora predict --task … --text "…"')
    elif release:
        confirm = "".join(f" --confirm {task}" for task in undecided)
        next_step(f"verdict: {verdict}", f'moelora promote {release} --by NAME --reason "…"{confirm}')
    else:
        next_step(f"verdict: {verdict}", f"open {paths.EVALUATION_PAGE}")


def _read(name: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(paths.report(name).read_text(encoding="utf-8"))
    return report
