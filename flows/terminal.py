"""What commands print: tables, JSON for machines, the next step."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def new_table(*columns: str) -> Table:
    """A table without lines whose long cells fold."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def transfer(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error that is told bytes done and bytes to do; none where nobody looks."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(plain(what), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def say(text: str) -> None:
    """A step of the preparation; on standard error, since standard output may be a machine's."""
    err.print(plain(text), soft_wrap=True)


def next_step(done: str, step: str) -> None:
    """The last lines: what was done, and what to do next."""
    out.print(f"{plain(done)}\n[bold]next:[/] {plain(step)}", soft_wrap=True)


def show_changes(pieces: Iterable[tuple[str, str, str | None]]) -> None:
    """Stretches of text (before, after, kind or None): what is replaced in red, what stands for it in
    green; between marks where there are no colours."""
    shown = Text()
    for before, after, kind in pieces:
        if kind is None:
            shown.append(before)
        elif out.color_system:
            shown.append(before, "red strike").append(after, "bold green")
        else:
            shown.append(f"[-{before}-]{{+{after}+}}")
    out.print(shown, soft_wrap=True)


def verdict(name: str) -> str:
    """A verdict or an outcome of the gate in its colour; what was blocked or overridden is red."""
    colours = {"pass": "green", "undecided": "yellow", "blocked": "bold red"}
    colours |= {"overridden": "bold red", "refused": "bold red", "erased": "bold red"}
    return f"[{colours[name]}]{name}[/]" if name in colours else plain(name)


def plain(text: str) -> str:
    """``text`` as it is, though it may look like Rich's markup."""
    return text.replace("[", r"\[")
