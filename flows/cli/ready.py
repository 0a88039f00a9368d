"""What a command needs before it starts: inbox, base model, key, servers, registry."""

import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from flows import repository
from flows.terminal import say
from pipeline import paths
from pipeline.errors import InputError, ParamsError


def make_ready(
    inbox: Path | None, include: list[str] | None, batch: str | None, settings: list[str] | None
) -> str:
    """All that a run needs but Prefect; the batch's name."""
    name = _fill_inbox(inbox, include, batch, settings or [])
    prepare_base()
    prepare_key()
    prepare_s3()
    return name


def _fill_inbox(
    folder: Path | None, include: list[str] | None, batch: str | None, settings: list[str]
) -> str:
    """Set the parameters, link what arrives, or make sample data where there is nothing: the batch."""
    from flows import inbox
    from pipeline.params import Params

    repository.set_params(dict(_setting(text) for text in settings))
    own = Params.load().ingest.include
    patterns = include or own
    if batch is not None:
        inbox.check_batch(batch)
    if folder is not None:
        unread = [
            path
            for path in folder.rglob("*")
            if path.is_file() and paths.matches(path, patterns) and not paths.matches(path, own)
        ]
        if unread:
            raise InputError(
                f"--include names {len(unread)} files that ingest.include in params.yaml does not let in: "
                "add a pattern there"
            )
        had_sample = inbox.SAMPLE.is_dir()
        arrival = inbox.link(folder, patterns, batch)
        say(
            f"inbox: batch {arrival.batch}: {arrival.linked} files linked, {arrival.already} there already, "
            f"{arrival.ignored} ignored" + (", sample data removed" if had_sample else "")
        )
        return arrival.batch
    if include:
        raise InputError("--include chooses among the files of --inbox: name a folder by --inbox")
    if inbox.drop_sample():
        say("inbox: sample data removed, since other data has come")
    if not any(inbox.files()):
        from pipeline import sample_data as sample

        written = sample.write(inbox.SAMPLE)
        for each in (inbox.SAMPLE, paths.INBOX):
            each.chmod(0o700)
        say(f"inbox: empty, so {written['records']} records of sample data are used")
    return batch or "manual"


def _setting(text: str) -> tuple[str, Any]:
    import yaml

    name, equals, value = text.partition("=")
    try:
        if not equals:
            raise ValueError
        return name.strip(), yaml.safe_load(value)
    except (ValueError, yaml.YAMLError):
        raise ParamsError(f"--set {text}: write it as section.key=value, the value in YAML") from None


def prepare_base() -> None:
    from pipeline import base as model
    from pipeline.params import Params

    if not paths.BASE.is_dir():
        say("base: preparing the base model, once")
    with redirect_stdout(sys.stderr):
        model.prepare(Params.load().base)


def prepare_key() -> None:
    """Write the id of the key in use, where stages depend on it."""
    from flows import inbox
    from pipeline import key
    from pipeline.params import Params

    shards = inbox.shards(Params.load().ingest.include)
    key_id(shards)
    with redirect_stdout(sys.stderr):
        key.write_key_id(shards)


def key_id(shards: set[str]) -> str:
    """The id of the key in use; DeidKeyError where the data here was made with another own one."""
    from pipeline import key

    with redirect_stdout(StringIO()):  # its note is for whoever runs, and told there
        loaded = key.load(shards)
    identity = key.key_id(loaded)
    demo = key.key_id(key.DEMO_KEY)
    # Whoever goes from sample data to their own changes from the demo key to theirs.
    if paths.KEY_ID.is_file() and paths.KEY_ID.read_text(encoding="ascii").strip() not in (identity, demo):
        key.check_key_id(loaded)
    return identity


def prepare_s3() -> None:
    """Start the local S3 server where it is the registry."""
    from flows import local_s3
    from pipeline import registry
    from pipeline.params import Params

    if Params.load().publish.registry == registry.LOCAL:
        local_s3.start()


def prefect(tell: bool = False) -> str:
    """Settle the Prefect server of this process; the address of its page."""
    from flows import local_prefect

    if tell and local_prefect.address() is None:
        say("prefect: starting a server, it stays")
    page = local_prefect.page(local_prefect.ensure())
    if tell:
        say(f"watch it at {page}/runs")
    return page


def registry() -> Any:
    from pipeline.params import Params
    from pipeline.registry import Registry

    prepare_s3()
    url = Params.load().publish.registry
    if url is None:
        raise ParamsError("publish.registry is null: set local or s3://BUCKET/PREFIX in params.yaml")
    return Registry.open(url)


def named_or_champion(release: str | None) -> tuple[str, str | None]:
    """``release``, or the champion and the SHA-256 of the manifest that it was promoted with.

    Raises InputError where neither is there.
    """
    if release is not None:
        return release, None
    champion = registry().channel()
    if champion is None:
        raise InputError("there is no champion: moelora promote sets one, or name a --release")
    return champion.release, champion.manifest_sha256


def pull(release: str, manifest_sha256: str | None, tell: Any = None) -> Path:
    """The verified folder of a release, its manifest the promoted one where that is given."""
    folder: Path = registry().pull(release, tell=tell, manifest_sha256=manifest_sha256)
    return folder
