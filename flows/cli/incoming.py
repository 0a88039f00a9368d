"""Commands about data on its way in: would it be taken, and what was not."""

import os
import signal
import sys
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.app import Json, app
from flows.terminal import err, new_table, next_step, out, plain, print_json
from pipeline import paths
from pipeline.errors import InputError

SHOWN_PLACES = 5
"""Places in a cell of a table; --json has more."""

UNMAPPED = ("missing_", "no_mapping")
"""How reasons begin that a mapping may be the remedy of."""


@app.command(epilog="Example: moelora validate visits.jsonl")
def validate(
    files: Annotated[list[Path], typer.Argument(help="Files, or folders of them.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Check files before they are sent: what would be quarantined or stop a run, and where.

    Ends with 2 where rows would be lost, or a run would stop. Shows no text, and leaves nothing behind.

    ingest.sources of params.yaml match the end of a file's path here; that of a link counts as well.
    """
    from pipeline import incoming
    from pipeline.params import Params

    params = Params.load()
    given = _below_root(files)
    _prepare_to_leave_nothing()
    with err.status("reading the files"):
        found = incoming.check(given, params)
    if as_json:
        print_json(found)
    else:
        _show(found)
    raise typer.Exit(0 if found["fits"] else 2)


@app.command(epilog="Example: moelora quarantine --retry")
def quarantine(
    retry: Annotated[
        bool, typer.Option("--retry", help="Read the quarantined files again, by params.yaml as it is now.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show why rows were quarantined, how many, and where; --retry says what would be read now.

    Files go by the start of their SHA-256, since names are private: `sha256sum data/inbox/*/*` tells them.
    """
    from pipeline.ingest import quarantine as rows

    if not paths.QUARANTINE.is_dir():
        raise InputError(f"{paths.QUARANTINE} is not there, since nothing was ingested: moelora stage ingest")
    found = rows.read()
    if retry:
        _retry(found, as_json)
        return
    groups = rows.grouped(found)
    if as_json:
        print_json(groups)
        return
    if groups:
        out.print(_reasons(groups))
    step = "correct the files or ingest.sources in params.yaml, then moelora quarantine --retry"
    next_step(f"{found.height} rows in quarantine", step if groups else "moelora retrain")


def _retry(found: Any, as_json: bool) -> None:
    """What the present mapping makes of the files that have rows in quarantine."""
    from pipeline import incoming
    from pipeline.ingest import quarantine as rows
    from pipeline.params import Params

    params = Params.load()
    files = _in_inbox(set(found["shard"]))
    if not files:
        raise InputError("no file of the inbox has rows in quarantine: nothing to read again")
    _prepare_to_leave_nothing()
    with err.status("reading the files again"):
        now = incoming.quarantined({path: path.relative_to(paths.INBOX) for path in files.values()}, params)
    before = found.filter(found["shard"].is_in(list(files)))
    still = before.join(now, on=["shard", "line"], how="semi")
    said = {
        "quarantined": found.height,
        "files_gone": found["shard"].n_unique() - len(files),
        "read_now": before.height - still.height,
        "still": rows.grouped(now),
    }
    if as_json:
        print_json(said)
        return
    if said["still"]:
        out.print(_reasons(said["still"]))
    if said["files_gone"]:
        out.print(f"files with rows in quarantine that left the inbox: {said['files_gone']}")
    done = f"{said['read_now']} of {before.height} quarantined rows would be read now"
    again = "moelora retrain: ingest reads a file again when its mapping has changed"
    next_step(done, again if said["read_now"] else "correct the files or ingest.sources in params.yaml")


def _below_root(files: list[Path]) -> dict[Path, Path]:
    """The files named, or in the folders named, and their paths as ingest.sources would match them."""
    given: dict[Path, Path] = {}
    for named in files:
        if not named.exists():
            raise InputError(f"{named} is neither a file nor a folder")
        for file in sorted(named.rglob("*")) if named.is_dir() else [named]:
            if file.is_file():
                given[file] = file.absolute().relative_to("/")
    if not given:
        raise InputError(f"{', '.join(map(str, files))}: no file there")
    return given


def _in_inbox(shards: set[str]) -> dict[str, Path]:
    """The first file of each of these shards that the inbox holds."""
    from pipeline.digests import file_digest

    found: dict[str, Path] = {}
    for path in sorted(paths.INBOX.rglob("*")):
        if len(found) < len(shards) and path.is_file() and (shard := file_digest(path)[:16]) in shards:
            found.setdefault(shard, path)
    return found


def _prepare_to_leave_nothing() -> None:
    """What is written on the way is for its owner alone, and is removed on SIGTERM too."""
    os.umask(0o077)
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))


def _show(found: dict[str, Any]) -> None:
    if found["quarantine"]:
        out.print(_reasons(found["quarantine"]))
    if found["expectations"]:
        table = new_table("level", "expected", "missed", "where", "remedy")
        for each in found["expectations"]:
            table.add_row(
                "[bold red]critical[/]" if each["level"] == "critical" else "[yellow]warning[/]",
                plain(each["meaning"]),
                f"{each['unexpected']} of {each['elements']}",
                _places(each["places"], each["unexpected"]),
                plain(each["remedy"]),
            )
        out.print(table)
    for file in found["empty"]:
        out.print(plain(f"{file} holds no row"), soft_wrap=True)
    if found["ignored"]:
        told = "files left out, since ingest.include in params.yaml names none like them"
        out.print(f"{told}: {found['ignored']}", soft_wrap=True)
    if any(each["reason"].startswith(UNMAPPED) for each in found["quarantine"]):
        told = "fields of other names, XML and FHIR are read as ingest.sources in params.yaml says"
        out.print(told, soft_wrap=True)
    if found["error"]:
        out.print(plain(found["error"]), soft_wrap=True)
    rows = found["rows"]
    counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in rows.items() if count) or "0"
    done = f"rows: {counts}" if rows else "nothing would be taken"
    next_step(done, "send them" if found["fits"] else "correct what is named above, and run this again")


def _reasons(groups: list[dict[str, Any]]) -> Any:
    table = new_table("quarantined because", "field", "task", "rows", "where")
    for each in groups:
        where = _places(each["places"], each["rows"])
        table.add_row(each["reason"], each["field"], each["task"] or "", str(each["rows"]), where)
    return table


def _places(places: list[str], total: int) -> str:
    by_file = groupby((place.rpartition(":") for place in places[:SHOWN_PLACES]), key=lambda parts: parts[0])
    in_file = ((file, ", ".join(line for *_, line in parts if line != "0")) for file, parts in by_file)
    shown = ", ".join(f"{file}:{lines}" if lines else file for file, lines in in_file)
    return plain(shown + (f" and {total - SHOWN_PLACES} more" if total > SHOWN_PLACES else ""))
