"""The registry: everything that can be done with one S3 prefix."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from pipeline.errors import (
    RegistryUnavailable,
    ReleaseCorrupt,
    ReleaseErased,
    ReleaseNotFound,
    ReleaseUntrusted,
)
from pipeline.registry.address import LOCAL, LOCAL_CONFIG, location, parse
from pipeline.registry.channel import (
    CHAMPION,
    Channel,
    Move,
    move,
    read_channel,
    read_channels,
    told_history,
)
from pipeline.registry.client import as_registry_errors, connect
from pipeline.registry.download import pull, read, read_start, verify
from pipeline.registry.history import append
from pipeline.registry.manifest import Manifest
from pipeline.registry.meter import Tell
from pipeline.registry.protection import Protection, read_protection
from pipeline.registry.publication import Receipt, publish
from pipeline.registry.release import Release, is_release_id, list_releases, object_key
from pipeline.registry.retention import Plan, Pruned, plan_prune, prune
from pipeline.registry.rollback import roll_back
from pipeline.registry.store import Store, in_parallel
from pipeline.registry.tombstone import erase, is_erased
from pipeline.registry.trust import trusted_manifest

P = ParamSpec("P")
T = TypeVar("T")


def _registry_errors(method: Callable[P, T]) -> Callable[P, T]:
    """Let nothing of botocore out of a method of Registry."""

    @functools.wraps(method)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        registry: Any = args[0]
        with as_registry_errors(registry.address):
            return method(*args, **kwargs)

    return wrapped


class Registry:
    """The releases, channels and history below one S3 prefix.

    Every method raises RegistryUnavailable where S3 does not answer, refuses access or has no
    such bucket, and RegistryError for any other answer it cannot use.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.address = store.address

    @classmethod
    def open(cls, url: str) -> "Registry":
        """The registry at ``s3://BUCKET/PREFIX``, or the ``local`` one; asks nothing of the server yet.

        Raises ParamsError for another kind of url, RegistryUnavailable for a broken AWS
        configuration or a local server that never ran.
        """
        bucket, prefix = parse(location(url))
        local = url == LOCAL
        if local and not LOCAL_CONFIG.is_file():
            raise RegistryUnavailable("the local S3 server never ran here: moelora services start")
        return cls(Store(connect(LOCAL_CONFIG if local else None), bucket, prefix))

    @_registry_errors
    def publish(self, folder: Path, facts: dict[str, Any], tell: Tell | None = None) -> Receipt:
        """Publish the files below ``folder``, and say so in the history with ``facts``.

        ``facts`` holds ``by`` and ``reason``, and what else is true of this publication but not
        of the release. ``tell`` gets the bytes that are there and all there will be. Files already
        there are not sent again, and those of the newest releases are copied inside S3; killed at
        any moment, the same call completes it. Of two publishers of the same files both succeed.

        The signature in the folder, if any, is published before the manifest.

        Raises ReleaseUntrusted, ReleaseErased; ReleaseCorrupt where a name is unsafe, the files change
        meanwhile, or the id is taken by another manifest; ReleaseNotFound while the release is being
        removed.
        """
        return publish(self.store, folder, facts, tell)

    @_registry_errors
    def releases(self) -> list[Release]:
        """All whole releases, the oldest first."""
        return list_releases(self.store)

    @_registry_errors
    def ids(self) -> list[str]:
        """Every id that has an object, of a whole release or not."""
        start = self.store.key("releases", "")
        found = {item["Key"][len(start) :].partition("/")[0] for item in self.store.list(start)}
        return sorted(filter(is_release_id, found))

    @_registry_errors
    def exists(self, release: str) -> bool:
        """Whether a release is there, whole as far as its manifest says (see ``verify``), and signed
        where that is asked for: publishing adds the signature. Raises ReleaseErased, ReleaseCorrupt."""
        try:
            self.manifest(release)
        except (ReleaseNotFound, ReleaseUntrusted):
            return False
        return True

    @_registry_errors
    def manifest(self, release: str) -> Manifest:
        """The files of a release, its names safe and its digests giving the release's id.

        Raises ReleaseNotFound, ReleaseErased, ReleaseUntrusted, ReleaseCorrupt.
        """
        return trusted_manifest(self.store, release)

    @_registry_errors
    def read(self, release: str, path: str) -> bytes:
        """One file of a release, compared with its digest. Raises what ``manifest`` does."""
        return read(self.store, release, path)

    def read_each(self, releases: list[str], path: str) -> dict[str, bytes]:
        """``read`` of the same file of many releases, several at once; without those that are
        refused, so that one of them does not hide the others."""

        def read_or_none(release: str) -> bytes | None:
            try:
                return self.read(release, path)
            except (ReleaseCorrupt, ReleaseErased, ReleaseNotFound):
                return None

        return {each: data for each, data in in_parallel(read_or_none, releases) if data is not None}

    @_registry_errors
    def read_unchecked(self, releases: list[str], path: str) -> dict[str, bytes | None]:
        """The same file of each release that is not withdrawn, as it lies there, None where it does not:
        for erasure, which may miss none that readers refuse."""

        def look(release: str) -> bytes | None:
            return self.store.get(object_key(self.store, release, path))

        kept = [each for each, gone in in_parallel(self.is_erased, releases) if not gone]
        return dict(in_parallel(look, kept))

    @_registry_errors
    def read_start(self, release: str, path: str, count: int) -> bytes:
        """The first ``count`` bytes of a file, or all it has, compared with nothing: see ``verify``."""
        return read_start(self.store, release, path, count)

    @_registry_errors
    def erase(self, release: str, by: str, reason: str) -> bool:
        """Withdraw a release for good: its tombstone makes every reader refuse it. Its files stay.

        False where it was withdrawn before.
        """
        return erase(self.store, release, by, reason)

    @_registry_errors
    def is_erased(self, release: str) -> bool:
        """Whether a release was withdrawn by ``erase``."""
        return is_erased(self.store, release)

    @_registry_errors
    def pull(
        self,
        release: str,
        folder: Path | None = None,
        tell: Tell | None = None,
        manifest_sha256: str | None = None,
    ) -> Path:
        """Copy a release to ``folder`` (``pulled(release)`` by default), whole and verified, or not
        at all; nothing is copied where it lies there already.

        ``tell`` gets the bytes that are here and all there will be. What arrived before a crash or a
        failure is not asked for again. ``manifest_sha256``: what a channel says that it was moved to.

        Raises ReleaseNotFound, ReleaseErased, ReleaseUntrusted, ReleaseCorrupt; RegistryError where
        ``folder`` holds something else.
        """
        return pull(self.store, release, folder, tell, manifest_sha256)

    @_registry_errors
    def verify(self, release: str) -> list[str]:
        """What is wrong with a published release: a line for its signature, and for each missing,
        changed or extra file.

        Reads every byte of it. Raises ReleaseNotFound, ReleaseErased.
        """
        return verify(self.store, release)

    @_registry_errors
    def channel(self, name: str = CHAMPION) -> Channel | None:
        """Where a channel points now, or None where it was never set. Raises RegistryError."""
        return read_channel(self.store, name)

    @_registry_errors
    def channels(self) -> list[Channel]:
        """All channels as they are now, by name. Raises RegistryError."""
        return read_channels(self.store)

    @_registry_errors
    def move(
        self,
        channel: str,
        release: str,
        by: str,
        reason: str,
        expected: Channel | None,
        event: str = "promoted",
        facts: dict[str, Any] | None = None,
    ) -> Channel:
        """Point a channel at a release, if it is still as ``expected``: what ``channel()`` gave
        before the decision was made, None for a channel never set.

        The release is verified first. The intention enters the history before the move, ``event``
        or ``lost`` after it, all with ``facts``, JSON-able, such as who allowed it and on what grounds.
        A crash between them leaves the intention, and ``history()`` tells what became of it.

        Raises PointerMoved, which names the winner; ReleaseNotFound, ReleaseErased, ReleaseCorrupt.
        """
        return move(self.store, Move(channel, release, by, reason, event, facts), expected)

    @_registry_errors
    def roll_back(self, channel: str, to: str | None, by: str, reason: str) -> Channel:
        """Point a channel at ``to``, where it pointed before; without it at the release before, past
        all that were rolled back from.

        That release was verified when it was promoted: only its signature and its list of files are
        looked at again.

        Raises InputError where there is nothing to go back to, ``to`` never was there or no reason
        is given; PointerMoved, ReleaseNotFound, ReleaseErased, ReleaseUntrusted, ReleaseCorrupt.
        """
        return roll_back(self.store, channel, to, by, reason)

    @_registry_errors
    def append_history(self, event: str, release: str | None, by: str, reason: str, **facts: Any) -> str:
        """Add an entry, never to be changed, and return its id: ``<UTC time>-<random>``."""
        return append(self.store, event, release, by, reason, **facts)

    @_registry_errors
    def history(self) -> list[dict[str, Any]]:
        """All entries in order of time: ``id``, ``event``, ``release``, ``by``, ``reason``, ``at`` and
        the event's own facts. An outcome that a crash kept from being written is among them, with
        ``reconciled``: true."""
        return told_history(self.store)

    @_registry_errors
    def plan_prune(self, keep: int) -> Plan:
        """What need not be kept: all but the releases of channels, those they would go back to, and
        the ``keep`` newest; and what publications left that were given up."""
        return plan_prune(self.store, keep)

    @_registry_errors
    def prune(self, plan: Plan, by: str, reason: str) -> Pruned:
        """Remove what ``plan_prune`` found, and say so in the history; a release that a channel was
        pointed at meanwhile is spared. Cut off at any moment, the next prune completes it."""
        return prune(self.store, plan, by, reason)

    def protection(self) -> Protection:
        """How the bucket protects what is in it, as far as we may ask."""
        return read_protection(self.store)
