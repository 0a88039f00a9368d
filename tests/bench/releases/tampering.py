"""200 random tamperings with a signed release in a real S3: each is refused, and what it touched is named."""

import random
import tempfile
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

from flows import local_s3
from pipeline import signing
from pipeline.errors import PipelineError
from pipeline.registry import Registry, connect, verify_folder
from pipeline.registry.store import Store
from pipeline.verify import problems
from tests.bench.table import Row
from tests.signed import make_release, trust
from tests.tampering import KINDS, Files, tamper

COUNT = 200
BUCKET = "moelora"


def rows(count: int = COUNT) -> list[Row]:
    """Tamperings refused and named, in the registry and in a pulled folder alike; starts an S3 server
    of its own."""
    with tempfile.TemporaryDirectory() as secrets, tempfile.TemporaryDirectory() as root, chdir(root):
        services = Path(root, "services/s3")
        local_s3.start(services, BUCKET)
        try:
            outcomes = list(_outcomes(services, Path(secrets), count))
        finally:
            local_s3.stop(services)
    said = ", ".join(f"{kind} {sum(each[0] == kind for each in outcomes)}" for kind in KINDS)
    return [
        Row(
            f"tamperings refused and named, of {count}",
            sum(each[1] for each in outcomes),
            None,
            ">=",
            count,
            said,
        )
    ]


def _outcomes(services: Path, secrets: Path, count: int) -> Iterator[tuple[str, bool]]:
    key = trust("bench", secrets)
    made = make_release(Path("made"))
    signing.sign(made, key)
    store = Store(connect(local_s3.config_file(services)), BUCKET, "bench")
    registry = Registry(store)
    release = registry.publish(made, {"by": "bench", "reason": "bench"}).release
    folder = registry.pull(release, Path("pulled"))
    before = {
        path: (made / path).read_bytes() for path in (f["path"] for f in registry.manifest(release)["files"])
    }
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        after, concerned = tamper(before, kind, random.Random(number))
        _put(store, release, folder, before, after)
        yield kind, _named(registry, release, folder, concerned)
        _put(store, release, folder, after, before)
    if problems(registry, release):
        raise AssertionError("the release was not restored: the figures above mean nothing")


def _put(store: Store, release: str, folder: Path, before: Files, after: Files) -> None:
    for name in before.keys() - after.keys():
        store.client.delete_object(Bucket=store.bucket, Key=store.key("releases", release, name))
        (folder / name).unlink()
    for name, data in after.items():
        if before.get(name) != data:
            store.put(store.key("releases", release, name), data)
            (folder / name).write_bytes(data)


def _named(registry: Registry, release: str, folder: Path, concerned: set[str]) -> bool:
    remote = "; ".join(problems(registry, release))
    try:
        verify_folder(folder, release)
        local = ""
    except PipelineError as error:
        local = str(error)
    return all(name in remote and name in local for name in concerned)
