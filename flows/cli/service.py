"""Commands of the service: retraining when data arrives, watched and approved in Prefect's page."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flows import home, repository
from flows.cli import ready
from flows.cli.app import app
from flows.terminal import next_step, out, plain, say
from pipeline.errors import InputError, PipelineError

DEPLOYED = ("params.yaml", "dvc.yaml", "pipeline", "flows", "infra")
"""What runs take from git."""

Pool = StrEnum("Pool", {pool: pool for pool in home.POOLS})  # type: ignore[misc]
Watch = Annotated[
    list[str] | None,
    typer.Option(
        help="Folder or s3://BUCKET/PREFIX where data arrives; may be repeated.", show_default=False
    ),
]
Notify = Annotated[
    str | None,
    typer.Option(help="Webhook that gets {text: …} when people should know.", show_default=False),
]


@app.command(epilog="Example: moelora up --watch /exports/clinical")
def up(watch: Watch = None, notify: Notify = None) -> None:
    """Bring the whole service up on this machine: servers, deployments, a worker for each pool.

    Call it again after a restart of the machine, or when a part has died: what runs stays as it is.
    """
    from flows import local_workers
    from flows.deployment import keep_watching

    for named in watch or ():
        if not named.startswith("s3://") and not Path(named).is_dir():
            raise InputError(f"--watch {named}: no such folder, and no s3://BUCKET/PREFIX")
    for line in repository.git("status", "--porcelain", "--", *DEPLOYED).splitlines():
        say(f"not committed, so runs will not have it: {line}")
    ready.prepare_s3()
    _seed_inbox()
    page = ready.prefect()
    _deploy(watch, notify)
    started = [pool for pool in home.POOLS if local_workers.start(pool)]
    watcher = asyncio.run(keep_watching()) if started else False
    if watcher:
        say("the watcher was started again")
    say(f"workers: {', '.join(started)} started" if started else "workers: all run already")
    next_step(f"the service runs: {page}", "drop files where it watches, or run retrain in the page")


@app.command(
    epilog="Example: moelora deploy --watch s3://exports/clinical --notify https://chat.example.org/hook"
)
def deploy(
    watch: Watch = None,
    notify: Notify = None,
    keep_sources: Annotated[
        bool, typer.Option("--keep-sources", help="--watch only where no source is set yet.")
    ] = False,
) -> None:
    """Set up deployments, pools, queues, limits, sources and automations; may be repeated."""
    ready.prefect()
    _deploy(watch, notify, keep_sources)
    next_step("the server is set up", "moelora work cpu, moelora work gpu, moelora work promote")


@app.command(epilog="Example: moelora work gpu")
def work(pool: Annotated[Pool, typer.Argument(help="The role of this worker.", show_default=False)]) -> None:
    """Serve a work pool until stopped, with the credentials in this environment.

    cpu reads raw data and needs MOELORA_DEID_KEY; gpu needs neither that nor the private remote;
    promote is the one that may move a channel. Secrets of the other roles are not passed on.
    """
    ready.prefect()
    from flows import life, local_workers

    with _refusals_told():
        life.bury(home.of_pool(str(pool)))
    environment = local_workers.environment_of(str(pool))
    arguments = local_workers.command(str(pool))
    say(f"serving {pool}: {home.POOLS[str(pool)]}; its folder is {environment[home.HOME]}")
    os.execve(arguments[0], arguments, environment)  # noqa: S606  # our own interpreter


def _deploy(watch: list[str] | None, notify: str | None, keep_sources: bool = False) -> None:
    sources = None if watch is None else [_source(each) for each in watch]
    from flows.deployment import deploy as set_up

    with _refusals_told():
        told = asyncio.run(set_up(sources, notify, keep_sources))
    for line in told:
        say(line)


@contextmanager
def _refusals_told() -> Iterator[None]:
    """Raise PipelineError with the remedy where Prefect's server refuses."""
    import httpx

    try:
        yield
    except httpx.HTTPStatusError as error:
        code = error.response.status_code
        remedy = ": set PREFECT_API_AUTH_STRING to its user:password" if code in (401, 403) else ""
        raise PipelineError(f"Prefect's server refuses with {code}{remedy}") from None


def _source(named: str) -> str:
    if named.startswith("s3://"):
        return named
    # Whether it is there, the worker of the pool cpu finds out: it may be on another machine.
    return str(Path(named).absolute())


def _seed_inbox() -> None:
    """Begin with what this checkout's inbox holds, or with sample data."""
    from flows import inbox

    folder = home.of_pool("cpu") / "inbox"
    if any(folder.rglob("*")):
        return
    if not any(inbox.files()):
        from pipeline import sample_data as sample

        sample.write(inbox.SAMPLE)
    count = inbox.copy_to(folder)
    out.print(plain(f"inbox: {count} files from this checkout to begin with"))
