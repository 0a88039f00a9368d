"""Everything that was made from one group's records: found, planned, removed.

    inbox        rows leave the raw files; a file of nothing else goes
    checkout     what the stages made of it; caches, checkpoints, pulled releases, clones, pages
    DVC          objects of the cache and of every remote, found by their content, and everything that a
                 dvc.lock of any commit, or DVC's run cache, says was made of them
    registry     a tombstone for each release whose lineage names a file that held the group

The order is that of safety: nobody can take up a release before its data goes, and what the rest is
found by goes last. A killed run is completed by the same command. Raw files are named by their shard,
and the group by nothing.
"""

import json
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from flows import repository
from flows.stores import Store, stores
from pipeline import STAGES, paths
from pipeline.erase import SHARD_DIGITS, Finder, RawFile, derived_folders, raw_files
from pipeline.errors import InputError, PipelineError
from pipeline.files import write_atomically
from pipeline.params import Params
from pipeline.registry import Lock, Registry

BY_SHARD = (str(paths.INGESTED), str(paths.QUARANTINE), str(paths.DEIDENTIFIED))
"""Folders of a file for each shard: one of them says nothing about the others."""

MADE = ("data/", "models/")
"""Outputs that hold data, or what was learnt from it; reports hold counts alone."""

JOURNAL = paths.SCRATCH / "erasing.json"
"""MD5s of the objects that are being deleted."""

PAGES = (paths.EVALUATION_PAGE, paths.TRENDS_PAGE)


@dataclass
class Plan:
    """What is to be removed; ``objects``: MD5s by store, those found by content last."""

    raw: list[RawFile]
    unreadable: list[str]
    shards: list[str]
    paths: list[Path]
    stores: list[Store]
    objects: dict[str, list[str]]
    locked: list[Lock]
    other_remotes: list[str]
    releases: list[str]
    champion: str | None
    untold: list[str] = field(default_factory=list)

    @property
    def is_needed(self) -> bool:
        """Whether the group was found anywhere."""
        return bool(self.raw or self.releases or any(self.objects.values()))

    def facts(self) -> dict[str, Any]:
        """The plan for machines; JSON-able."""
        return {
            "inbox": [
                {
                    "shard": each.shard,
                    "rows": each.rewritten.rows,
                    "removed": each.rewritten.data is None,
                    "others": each.rewritten.others,
                    "damaged": each.rewritten.damaged,
                }
                for each in self.raw
            ],
            "unreadable": self.unreadable,
            "shards": self.shards,
            "paths": [str(path) for path in self.paths],
            "objects": {name: len(each) for name, each in self.objects.items()},
            "locked": [lock._asdict() for lock in self.locked],
            "other_remotes": self.other_remotes,
            "releases": self.releases,
            "champion": self.champion,
            "untold": self.untold,
        }

    def told(self) -> list[str]:
        """The plan for people, a line each."""
        lines = []
        for each in self.raw:
            how = "the file is removed" if each.rewritten.data is None else "the file is rewritten"
            lines.append(f"inbox: shard {each.shard}: {each.rewritten.rows} rows go, {how}")
            if each.rewritten.others:
                lines.append(
                    f"inbox: shard {each.shard} is damaged: {each.rewritten.others} rows that are not the "
                    "group's go with them"
                )
        for shard in self.unreadable:
            lines.append(
                f"by hand: shard {shard} of the inbox cannot be read, or has no fields, and may hold it"
            )
        lines += [f"checkout: {path} is removed" for path in self.paths]
        lines += [f"DVC {name}: {len(each)} objects" for name, each in self.objects.items() if each]
        lines += [told_lock(lock) for lock in self.locked]
        lines += [f"by hand: {each} cannot be reached by this command" for each in self.other_remotes]
        for release in self.releases:
            lines.append(f"registry: release {release} is withdrawn: promote and pull refuse it")
            if release == self.champion:
                lines.append(
                    f"registry: {release} is the champion: promote another after the next retraining"
                )
        for release in self.untold:
            lines.append(f"registry: release {release} was made of files that are nowhere to be looked into")
        if not lines:
            return ["nothing of this group is here, in DVC's remotes or in the registry"]
        return [
            *lines,
            "not reached: other clones, where this is to be run too, backups, exports, and the folders that "
            "files came from: `retrain --inbox` would bring them back; nor the homes of the service's "
            "workers (scratch/service, MOELORA_HOME): stop it, take the group's files out of their inbox and "
            "quarantine, and remove their dvc, cache and clones",
        ]


def plan(finder: Finder, registry: Registry | None) -> Plan:
    """Look everywhere, change nothing. Raises RegistryError, PipelineError, DeidKeyError; InputError in
    a clone without its inbox, where other patients' rows would go with the files."""
    params = Params.load()
    if repository.INBOX_TRACKING.is_file() and not any(path.is_file() for path in paths.INBOX.rglob("*")):
        raise InputError(f"{paths.INBOX} is not here: dvc pull {paths.INBOX}")
    raw, unreadable = raw_files(finder, params)
    found, other_remotes = stores()
    contents = _Contents(found, finder)
    shards = sorted({each.shard for each in raw} | contents.shards)
    concerned = contents.closure(set(shards), list(_locks(found)))
    begun = _journal()
    objects = {
        store.name: sorted(
            contents.of[store.name] & (concerned | begun), key=lambda md5: (md5 in contents.held, md5)
        )
        for store in found
    }
    locked = [lock for store in found for md5 in objects[store.name] if (lock := store.lock(md5))]
    releases, untold = _releases(registry, set(shards), contents.known) if registry else ([], [])
    anything = bool(shards or concerned or releases) or _is_here(finder)
    champion = registry.channel() if registry else None
    return Plan(
        raw,
        unreadable,
        shards,
        (_paths() if anything else []) + _pulled(releases, registry),
        found,
        objects,
        locked,
        other_remotes,
        releases,
        champion.release if champion else None,
        untold,
    )


def apply(planned: Plan, registry: Registry | None, by: str, reason: str) -> dict[str, Any]:
    """Do what the plan says: ``objects`` deleted by store, ``locked`` (see Lock), ``withdrawn``."""
    withdrawn = [each for each in planned.releases if registry and registry.erase(each, by, reason)]
    for each in planned.raw:
        if each.rewritten.data is None:
            each.path.unlink()
        else:
            # Renamed into place: a hard link of somebody else's file must keep its content.
            write_atomically(each.path, each.rewritten.data)
            each.path.chmod(0o600)
    if planned.raw:
        repository.track_inbox()
        if any(store.name.startswith("remote ") for store in planned.stores):
            # Before what it replaces goes: a run that fails must not leave a remote without an inbox.
            repository.dvc("push", str(repository.INBOX_TRACKING))
    for path in planned.paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    locked, deleted = [], {}
    # What is left to do cannot be found again once a part is gone.
    _write_journal({md5 for each in planned.objects.values() for md5 in each})
    for store in planned.stores:
        refused = [lock for md5 in planned.objects[store.name] if (lock := store.delete(md5))]
        deleted[store.name] = len(planned.objects[store.name]) - len(refused)
        locked += refused
    _write_journal(set())
    return {
        "objects": deleted,
        "locked": [lock._asdict() for lock in locked],
        "withdrawn": withdrawn,
    }


def told(done: dict[str, Any]) -> list[str]:
    """What ``apply`` did, a line each."""
    lines = [f"DVC {name}: {count} objects deleted" for name, count in done["objects"].items() if count]
    return lines + [told_lock(Lock(**lock)) for lock in done["locked"]]


def told_lock(lock: Lock) -> str:
    """What a lock forbids, and until when."""
    until = f"until {lock.until}" if lock.until else "without a date: ask the bucket's owner"
    return f"locked: {lock.key} may not be deleted ({lock.mode}) {until}; run the same command again then"


class _Contents:
    """The objects of all stores, each looked into once, whatever stores have it."""

    def __init__(self, found: list[Store], finder: Finder) -> None:
        self.of: dict[str, set[str]] = {}
        self.held: set[str] = set()
        self.shards: set[str] = set()
        self.known: set[str] = set()
        self.shard_of: dict[str, str] = {}
        self.folders: dict[str, list[dict[str, str]]] = {}
        seen: set[str] = set()
        for store in found:
            self.of[store.name] = set(store.objects())
            for md5 in sorted(self.of[store.name] - seen):
                self._look(md5, store.read(md5), finder)
            seen |= self.of[store.name]

    def _look(self, md5: str, data: bytes, finder: Finder) -> None:
        if md5.endswith(".dir"):
            try:
                self.folders[md5] = json.loads(data)
            except ValueError:
                raise PipelineError(f"DVC object {md5} is damaged: run dvc status, then dvc fetch") from None
            return
        shard = sha256(data).hexdigest()[:SHARD_DIGITS]
        self.known.add(shard)
        self.shard_of[md5] = shard
        if finder.holds(data):
            self.held.add(md5)
            self.shards.add(shard)

    def closure(self, shards: set[str], locks: list[dict[str, Any]]) -> set[str]:
        """The objects that hold the group, or were made of some that did.

        What was made with another key is known by the name of its shard.
        """
        # A raw file of the inbox that is read by its name there may not be known by its content.
        self.held.update(md5 for md5, shard in self.shard_of.items() if shard in shards)
        concerned, whole = set(self.held), set[str]()
        for entries in self.folders.values():
            concerned.update(each["md5"] for each in entries if Path(each["relpath"]).stem in shards)
        before = -1
        while len(concerned) != before:
            before = len(concerned)
            for md5, entries in self.folders.items():
                if not concerned.isdisjoint(each["md5"] for each in entries):
                    concerned.add(md5)
            for lock in locks:
                if not concerned.isdisjoint(dep.get("md5") for dep in lock.get("deps", [])):
                    made = [o for o in lock.get("outs", []) if o["path"].startswith(MADE) and "md5" in o]
                    concerned.update(out["md5"] for out in made)
                    whole.update(out["md5"] for out in made if out["path"] not in BY_SHARD)
        # A file that some other run made as well, such as an adapter's settings, tells of nobody.
        return concerned | (self._files_of(whole) - self._files_of(self.folders.keys() - concerned))

    def _files_of(self, folders: Iterable[str]) -> set[str]:
        return {each["md5"] for folder in folders for each in self.folders.get(folder, [])}


def _locks(found: list[Store]) -> Iterator[dict[str, Any]]:
    """Every stage's entry in the dvc.lock of this checkout and of all commits, and in DVC's run caches."""
    texts = {paths.DVC_LOCK.read_text()} if paths.DVC_LOCK.is_file() else set()
    for commit in repository.git("log", "--all", "--format=%H", "--", str(paths.DVC_LOCK)).split():
        try:
            texts.add(repository.git("show", f"{commit}:{paths.DVC_LOCK}"))
        except PipelineError:  # the commit that removed it
            continue
    for text in texts:
        stages = (yaml.safe_load(text) or {}).get("stages") or {}
        yield from (stages[stage] for stage in STAGES if stage in stages)
    for store in found:
        yield from (yaml.safe_load(entry) for entry in store.runs())


def _releases(registry: Registry, shards: set[str], known: set[str]) -> tuple[list[str], list[str]]:
    """Releases made of one of ``shards``, and those made of files that nobody could look into."""
    lineages = registry.read_unchecked(registry.ids(), "lineage.json")
    inputs = {release: _inputs(data) for release, data in lineages.items()}
    concerned = sorted(release for release, each in inputs.items() if each and each & shards)
    untold = sorted(r for r, each in inputs.items() if each is None or not (each & shards or each <= known))
    return concerned, untold


def _inputs(lineage: bytes | None) -> set[str] | None:
    """The shards that a release was made of; None where that cannot be read."""
    try:
        return set(json.loads(lineage or b"")["inputs"])
    except (ValueError, LookupError, TypeError):
        return None


def _is_here(finder: Finder) -> bool:
    """Whether a file that the stages made here holds the group."""
    files = (path for folder in _paths() for path in ([folder] if folder.is_file() else folder.rglob("*")))
    return any(finder.holds(path.read_bytes()) for path in files if path.is_file())


def _pulled(releases: list[str], registry: Registry | None) -> list[Path]:
    """Copies of releases that are withdrawn, or will be, whole or not."""
    found = []
    for path in sorted((paths.cache_root() / "open/releases").glob("*")):
        named = re.search(r"[0-9a-f]{16}", path.name)
        if named and (named[0] in releases or (registry and registry.is_erased(named[0]))):
            found.append(path)
    return found


def _journal() -> set[str]:
    """MD5s that a run which was cut short had still to delete."""
    return set(json.loads(JOURNAL.read_text())) if JOURNAL.is_file() else set()


def _write_journal(objects: set[str]) -> None:
    if objects:
        write_atomically(JOURNAL, json.dumps(sorted(objects)).encode())
    else:
        JOURNAL.unlink(missing_ok=True)


def _paths() -> list[Path]:
    """What of this checkout and its cache is made of the inbox, or may be, as far as it is there."""
    cache = paths.cache_root()
    found = derived_folders() + [page for page in PAGES if page.exists()]
    opened = [path for path in (cache / "open").glob("*") if path.name not in ("base", "releases")]
    found += [path for path in (cache / "raw", *sorted(opened)) if path.exists()]
    # DVC's list of what a remote holds would keep it from sending anything again.
    others = (paths.SCRATCH / "reproduce", paths.SCRATCH / "dvc")
    return found + [path for path in others if path.exists()]
