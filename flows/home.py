"""The folder that a worker of the service owns, and what it is told by its environment.

    MOELORA_HOME            the folder; `moelora work POOL` sets it to <MOELORA_HOME or scratch/service>/POOL
        inbox/<batch>/…     what has arrived, cumulative; the watcher adds, people remove
        quarantine/         files that are no data, each with its reason
        arrivals.json       what the watcher has seen and said
        clones/<flow>/      the checkout that the runs of a flow work in, one after the other
        dvc/                DVC's cache of all clones
        cache/              MOELORA_CACHE, unless that names another folder: checkpoints, shards
    MOELORA_REPOSITORY      what clones are made of, and branches are pushed to: a folder or git URL

Workers of different pools have folders of their own, so that the GPU worker finds no raw text.
"""

import os
import secrets
from pathlib import Path

from pipeline import paths
from pipeline.errors import InputError

HOME = "MOELORA_HOME"
REPOSITORY = "MOELORA_REPOSITORY"
CACHE = "MOELORA_CACHE"

INBOX_OF = "moelora_inbox_of"
"""Prefect variable: the id of the home whose inbox is read."""

POOLS = {"cpu": "data stages, gate, publish; watching", "gpu": "train, export, evaluate", "promote": "people"}
"""Work pool: what runs on it. A worker serves one, with the credentials of that one."""


def folder() -> Path:
    """This worker's folder, absolute, closed to others. Raises InputError where none is named."""
    named = os.environ.get(HOME)
    if not named:
        raise InputError(f"{HOME} is not set: it names the worker's folder; `moelora work POOL` sets it")
    path = Path(named).absolute()
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.chmod(0o700)
    return path


def of_pool(pool: str) -> Path:
    """The folder that `moelora work` gives the worker of a pool: below MOELORA_HOME where that is set."""
    return Path(os.environ.get(HOME) or paths.SCRATCH / "service", pool).absolute()


def inbox() -> Path:
    """What has arrived so far."""
    return folder() / "inbox"


def claim_inbox() -> None:
    """Make this home the one whose inbox is filled and read. Raises InputError where another one is: two
    workers of the pool ``cpu`` would each see a part of what arrives."""
    from prefect.variables import Variable

    mine = folder() / "id"
    if not mine.is_file():
        mine.write_text(secrets.token_hex(8))
    known = Variable.get(INBOX_OF)
    if known is None:
        Variable.set(INBOX_OF, mine.read_text())
    elif known != mine.read_text():
        raise InputError(
            f"another worker's home holds what has arrived: serve the pool cpu with that one, share it by "
            f"{HOME}, or, where it is lost, delete Prefect's variable {INBOX_OF}"
        )


def clone(name: str) -> Path:
    """The checkout that the runs of a flow work in."""
    return folder() / "clones" / name


def repository() -> str:
    """What clones are made of. Raises InputError where nothing is named."""
    named = os.environ.get(REPOSITORY)
    if not named:
        raise InputError(f"{REPOSITORY} is not set: the folder or URL of the git repository to work on")
    return named
