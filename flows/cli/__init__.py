"""``moelora``: the command for people, each a thin door to one function or flow.

    running      retrain, prepare, stage, sample-data, base
    incoming     validate, quarantine
    privacy      deidentify, audit-phi
    releases     releases, promote, rollback, verify, pull, predict, history, prune
    serving      serve, merge
    origin       lineage, reproduce, erase, signing-key
    evaluation   report, trends, compare
    service      up, deploy, work
    machine      doctor, ui, services

Everything heavy is imported where it is used, so that ``--help`` answers at once.
"""

import sys
from typing import NoReturn

# Importing a room registers its commands; help lists them in the order of these lines.
# isort: off
from flows.cli import running, incoming, privacy, releases, serving, origin, evaluation, service, machine

# isort: on
from flows.cli.app import app
from flows.terminal import err, plain
from pipeline.errors import PipelineError

__all__ = [
    "app",
    "evaluation",
    "incoming",
    "machine",
    "main",
    "origin",
    "privacy",
    "releases",
    "running",
    "service",
    "serving",
]


def main() -> NoReturn:
    """Run the command line; an error raised on purpose ends it with one line and its exit code."""
    try:
        app(prog_name="moelora")
    except PipelineError as error:
        err.print(f"[bold red]error[/] {plain(str(error))}", soft_wrap=True)
        sys.exit(error.exit_code)
    sys.exit(0)
