"""Commands about where a release came from, and whom it is trusted by."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli import ready
from flows.cli.app import By, Json, ReleaseId, app
from flows.terminal import next_step, out, plain, print_json
from pipeline import paths
from pipeline.errors import InputError


@app.command("signing-key", epilog="Example: moelora signing-key hospital --to ~/.config/moelora/signing.pem")
def signing_key(
    name: Annotated[str, typer.Argument(help="Name of the public key's file.", show_default=False)],
    to: Annotated[Path, typer.Option(help="New file for the private key, outside of this checkout.")],
) -> None:
    """Make a pair of keys: the private one to sign with, the public one for infra/trusted-keys."""
    from pipeline import signing
    from pipeline.records import is_task_name

    if not is_task_name(name):
        raise InputError(f"{name!r} is no name for a key: use lower-case letters, digits and hyphens")
    private, public = to.expanduser(), paths.TRUSTED_KEYS / f"{name}.pub"
    signing.make_pair(private, public)
    next_step(
        f"{public} is trusted: releases that are not signed by it, or another key there, are refused",
        f"git add {public}, and export {signing.VARIABLE}={private}",
    )


@app.command(epilog="Example: moelora lineage 0123456789abcdef --json")
def lineage(release: ReleaseId, as_json: Json = False) -> None:
    """Show what a release was made of: git commit, DVC's stages, shards, parameters, base model."""
    from pipeline.lineage import trace

    found = trace(ready.registry(), release)
    if as_json:
        print_json(found)
        return
    out.print(f"release {release}")
    for line in _drawn(_tree(found)):
        out.print(plain(line), soft_wrap=True)
    next_step(f"{len(found['inputs'])} input shards", f"moelora reproduce {release}")


Node = tuple[str, list["Node"]]
"""A line of a tree and what hangs below it."""


def _tree(found: dict[str, Any]) -> list[Node]:
    commit, base = found["commit"], found["base"]
    made = [
        f"{each['at'][:19]} {each['event']} by {each['by']}: {each['reason']}" for each in found["history"]
    ]
    return [
        (f"git commit {commit['git_commit'] if commit else 'unknown'}", _leaves(made)),
        (
            f"stages of {paths.DVC_LOCK}" + ("" if found["stages"] else ": DVC did not run"),
            [
                (
                    stage,
                    _leaves(f"{mark} {item['path']} {item.get('md5', '')}" for mark, item in _items(entry)),
                )
                for stage, entry in found["stages"].items()
            ],
        ),
        (f"{len(found['inputs'])} input shards, by SHA-256", _leaves(found["inputs"])),
        (
            str(paths.PARAMS),
            [
                (section, _leaves(f"{name}: {value}" for name, value in values.items()))
                for section, values in found["params"].items()
            ],
        ),
        (f"de-identification key {found['key_id']}", []),
        (f"base {base['model']} {base['revision'] or ''} sha256 {base['digest']}", []),
        ("packages", _leaves(f"{name} {version}" for name, version in sorted(found["packages"].items()))),
    ]


def _items(entry: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for kind, mark in (("deps", "reads"), ("outs", "writes")):
        yield from ((mark, item) for item in entry.get(kind, []))


def _leaves(lines: Iterable[str]) -> list[Node]:
    return [(line, []) for line in lines]


def _drawn(nodes: list[Node], before: str = "") -> Iterator[str]:
    """The lines of a tree; Rich's own cuts them at the terminal's width, and digests are to be copied."""
    for number, (line, below) in enumerate(nodes, 1):
        last = number == len(nodes)
        yield f"{before}{'└── ' if last else '├── '}{line}"
        yield from _drawn(below, before + ("    " if last else "│   "))


@app.command(epilog="Example: moelora reproduce 0123456789abcdef --to /tmp/again")
def reproduce(
    release: ReleaseId,
    to: Annotated[
        Path | None, typer.Option(help="New folder for the clone; default: scratch/reproduce.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a release anew in a clone of its own, and compare the adapter byte for byte."""
    from flows import reproduce as making
    from pipeline.lineage import trace

    registry = ready.registry()
    found = trace(registry, release)
    digests = {file["path"]: file["sha256"] for file in registry.manifest(release)["files"]}
    folder = to or paths.SCRATCH / "reproduce" / release
    result = making.reproduce(
        found, digests, folder, lambda line: out.print(plain(line)) if not as_json else None
    )
    if result["differs"]:
        original = registry.pull(release) / paths.RELEASE_NATIVE.name
        result["adapter"] = making.adapter_difference(original, folder / paths.RELEASE_NATIVE)
    if as_json:
        print_json(result)
    else:
        for line in making.told(result):
            out.print(plain(line), soft_wrap=True)
        next_step(result["verdict"], f"rm -r {folder}, when it is looked at")
    raise typer.Exit(1 if result["differs"] else 0)


@app.command(epilog="Example: moelora erase --group 4711, look at the plan, then add --apply")
def erase(
    group: Annotated[str, typer.Option(help="group_id of the records; `-` reads standard input.")],
    apply: Annotated[
        bool, typer.Option("--apply", help="Do what the plan says; it cannot be undone.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why; stays in the registry's history.")] = "erasure request",
    by: By = None,
    as_json: Json = False,
) -> None:
    """Remove everything that was made from one patient's records; without --apply, say what that is."""
    from flows import erasure, repository
    from pipeline.erase import Finder
    from pipeline.params import Params

    with repository.one_at_a_time():
        params = Params.load()
        registry = None if params.publish.registry is None else ready.registry()
        wanted = sys.stdin.readline().rstrip("\r\n") if group == "-" else group
        plan = erasure.plan(Finder.of(wanted, params), registry)
        done = erasure.apply(plan, registry, by or repository.actor(), reason) if apply else None
    if as_json:
        print_json(plan.facts() | {"applied": done})
        return
    for line in plan.told():
        out.print(plain(line), soft_wrap=True)
    if done is None:
        next_step("nothing was changed", "the same command with --apply" if plan.is_needed else "none")
        return
    for line in erasure.told(done):
        out.print(plain(line), soft_wrap=True)
    next_step("erased, as far as said above", "moelora retrain")
