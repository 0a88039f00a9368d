"""Commands about this machine and its servers."""

from enum import StrEnum
from typing import Annotated

import typer

from flows.cli import ready
from flows.cli.app import Json, app
from flows.terminal import new_table, next_step, out, plain, print_json

Action = StrEnum("Action", {action: action for action in ("start", "stop", "status")})  # type: ignore[misc]


@app.command(epilog="Example: moelora doctor")
def doctor(as_json: Json = False) -> None:
    """Say what is missing on this machine and how to mend it; exit code 1 if something is."""
    from flows.doctor import checks

    found = checks(ready.key_id)
    missing = [each for each in found if each.state == "missing"]
    if as_json:
        print_json([each._asdict() for each in found])
    else:
        table = new_table("", "what", "found", "to do")
        colours = {"ok": "[green]ok[/]", "later": "[yellow]later[/]", "missing": "[red]missing[/]"}
        for each in found:
            table.add_row(colours[each.state], each.what, plain(each.found), plain(each.remedy))
        out.print(table)
        next_step(f"{len(missing)} missing", missing[0].remedy if missing else "moelora retrain")
    raise typer.Exit(1 if missing else 0)


@app.command(epilog="Example: moelora ui")
def ui() -> None:
    """Make sure that Prefect's page is there, and print its address."""
    url = ready.prefect()
    next_step(f"Prefect's page: {url}", "moelora retrain")


@app.command(epilog="Example: moelora services stop")
def services(action: Annotated[Action, typer.Argument(help="What to do.", show_default=False)]) -> None:
    """Start, stop or look at the Prefect and S3 servers of this checkout; workers stop with them."""
    from flows import local_prefect, local_s3, local_workers

    if action == "start":
        ready.prepare_s3()
        ready.prefect()
    elif action == "stop":
        local_workers.stop()
        local_prefect.stop()
        local_s3.stop()
    prefect = local_prefect.address()
    out.print(f"Prefect: {local_prefect.page(prefect) if prefect else 'not running'}")
    out.print(f"S3: {_local_s3_address()}")
    out.print(f"Workers: {', '.join(local_workers.running()) or 'none running'}")
    next_step(f"services {action}", "moelora retrain" if action == "stop" else "moelora services stop")


def _local_s3_address() -> str:
    from flows import local_s3

    if not local_s3.running():
        return "not running"
    lines = local_s3.config_file().read_text().splitlines()
    return next(line.partition("= ")[2] for line in lines if line.startswith("endpoint_url"))
