"""The registry that params.yaml names, and the releases that a run compares with, on this disk."""

from prefect import get_run_logger

from pipeline.errors import ReleaseErased
from pipeline.params import Params
from pipeline.registry import Registry


def open_registry() -> Registry | None:
    """The registry that params.yaml names, or None."""
    url = Params.load().publish.registry
    return None if url is None else Registry.open(url)


def pull_champion(registry: Registry | None) -> str | None:
    """The id of the release in use, its verified files on this disk; None where there is none."""
    channel = registry.channel() if registry else None
    if registry is None or channel is None:
        return None
    try:
        registry.pull(channel.release, manifest_sha256=channel.manifest_sha256)
    except ReleaseErased as error:
        get_run_logger().warning("There is no champion to compare with: %s", error)
        return None
    return channel.release


def pull_compared() -> None:
    """Bring the releases that params.yaml pins for the comparison. Raises RegistryError."""
    registry, pinned = open_registry(), Params.load().evaluate
    for release in {pinned.champion, pinned.reference} - {None}:
        if registry is not None:
            registry.pull(str(release))
