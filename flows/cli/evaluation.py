"""Commands that show how good adapters are, and compare them."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli import ready
from flows.cli.app import Json, app
from flows.terminal import err, new_table, next_step, out, plain, print_json, verdict
from pipeline import paths
from pipeline.errors import InputError, RegistryUnavailable

LEAST_RELEVANT = 0.05
"""p of a comparison, over all tasks, above which nothing is called worse."""


@app.command(epilog="Example: moelora report --examples 3")
def report(
    examples: Annotated[
        int, typer.Option(min=0, help="Test rows a task to show with their answers: text of records.")
    ] = 0,
) -> None:
    """Write the page of the evaluation, reports/evaluation.html, from the reports of the last run."""
    from pipeline.pages import evaluation
    from pipeline.pages import examples as rows
    from pipeline.params import Params

    reports = evaluation.read()
    systems = [name for name in evaluation.SYSTEMS if name in reports["evaluate"]["systems"]]
    chosen = rows.read(systems, examples) if examples else []
    os.umask(0o077)  # text of records is for its owner alone
    evaluation.write(reports, chosen, Params.load().gate.margin)
    if chosen:
        err.print("[bold red]The page holds text of records: keep it on this machine.[/]")
    next_step(f"verdict: {reports['gate']['verdict']}", f"open {paths.EVALUATION_PAGE}")


@app.command(epilog="Example: moelora trends --last 20")
def trends(
    last: Annotated[int, typer.Option(min=1, help="Releases to show, the newest.")] = 10,
    as_json: Json = False,
) -> None:
    """Show scores, identifiers found and data volume over the last releases; write reports/trends.html."""
    from pipeline import trends as releases
    from pipeline.pages import trends as page

    entries = releases.collect(ready.registry(), last)
    if as_json:
        print_json(entries)
        return
    if not entries:
        raise InputError("nothing is published yet: moelora retrain")
    page.write(entries)
    table = new_table("", *(each["release"][:8] for each in entries))
    table.add_row("verdict", *(verdict(each["verdict"]) for each in entries))
    table.add_row("", *("champion" if each["champion"] else "" for each in entries))
    for task in sorted({task for each in entries for task in each["tasks"]}):
        table.add_row(task, *(_figure(each["tasks"].get(task, {}).get("score")) for each in entries))
    table.add_row("[bold]mean[/]", *(_figure(each["mean"]["score"]) for each in entries))
    shown = {
        "recall": "identifiers: recall",
        "worst_recall": "of the worst kind",
        "per_1000_records": "found in 1,000 records",
        "residual_rate": "left over, share of records",
    }
    for field, name in shown.items():
        table.add_row(name, *(_figure(each["identifiers"][field]) for each in entries))
    table.add_row("records", *(_figure(each["rows"]) for each in entries))
    out.print(table)
    step = f"open {paths.TRENDS_PAGE}"
    if len(entries) > 1:
        step += f", or moelora compare {entries[-2]['release']} {entries[-1]['release']}"
    next_step(f"{len(entries)} releases", step)


@app.command(epilog="Example: moelora compare 0123456789abcdef models/release")
def compare(
    a: Annotated[
        str, typer.Argument(help="Release id, or folder of a release or adapter.", show_default=False)
    ],
    b: Annotated[str, typer.Argument(help="What is compared with it.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Compare two releases or adapters, row by row, on the test split of this checkout."""
    from rich.progress import Progress

    from pipeline import compare as comparison
    from pipeline.params import Params

    params = Params.load()
    first, second = (comparison.adapter(_here(name)) for name in (a, b))
    ready.prepare_base()
    with Progress(console=err, transient=True) as progress:
        bars: dict[str, Any] = {}

        def watch(name: str, done: int, total: int) -> None:
            if name not in bars:
                bars[name] = progress.add_task(f"{name} answers", total=total)
            progress.update(bars[name], completed=done)

        found = comparison.compare(first, second, params, watch)
    if as_json:
        print_json(found)
        return
    table = new_table("task", "metric", "rows", "A", "B", "B - A", "95 %", "p (B worse)", "")
    for task, each in found["tasks"].items():
        table.add_row(
            task,
            each["metric"],
            str(each["rows"]),
            _interval(each["a"]),
            _interval(each["b"]),
            *_difference(each),
            f"{each['p_adjusted']:.4f}",
            _said(each),
        )
    for name in ("mean", "worst"):
        each = found[name]
        scores = _interval(each["a"]), _interval(each["b"])
        table.add_row(f"[bold]{name}[/]", "", "", *scores, *_difference(each), f"{each['p_worse']:.4f}", "")
    out.print(table)
    out.print(f"A: {plain(found['a'])}   B: {plain(found['b'])}   p: for all tasks together", soft_wrap=True)
    for side in ("a", "b"):
        if alone := found[f"only_{side}"]:
            out.print(f"only {side.upper()} knows: {', '.join(alone)}", soft_wrap=True)
    new = sum(found["answered"].values())
    next_step(f"{new} rows answered now, the others were kept", "moelora trends")


def _here(name: str) -> str:
    """``name``; a release that lies neither here nor in a folder of that name is pulled first."""
    from pipeline.registry import is_release_id, pulled

    if Path(name).is_dir() or not is_release_id(name):
        return name
    try:
        ready.registry().pull(name)  # asks whether it was withdrawn, and copies nothing that is here
    except RegistryUnavailable:
        if not pulled(name).is_dir():
            raise
    return name


def _figure(value: float | int | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}"


def _interval(system: dict[str, Any]) -> str:
    return f"{system['score']:.3f} ({system['low']:.2f} to {system['high']:.2f})"


def _difference(entry: dict[str, Any]) -> tuple[str, str]:
    return f"{entry['difference']:+.3f}", f"{entry['low']:+.2f} to {entry['high']:+.2f}"


def _said(entry: dict[str, Any]) -> str:
    if entry["p_adjusted"] < LEAST_RELEVANT:
        return "[bold red]worse[/]"
    return "[green]better[/]" if entry["low"] > 0 else ""
