"""What is taken to be made of a group's records, on a real DVC cache."""

import json
from hashlib import md5
from pathlib import Path
from typing import Any

from flows.erasure import _Contents
from flows.stores import FILES, FolderStore
from pipeline.erase import Finder

FINDER = Finder("MRN-4711", "p" * 20, (None,))


class Cache:
    def __init__(self, root: Path) -> None:
        self.root = root

    def file(self, data: bytes, end: str = "") -> str:
        name = md5(data).hexdigest() + end
        path = self.root / FILES / name[:2] / name[2:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return name

    def folder(self, **files: str) -> str:
        entries = [{"md5": content, "relpath": name} for name, content in files.items()]
        return self.file(json.dumps(entries).encode(), ".dir")

    def contents(self) -> _Contents:
        return _Contents([FolderStore("cache", self.root)], FINDER)


def stage(deps: list[str], path: str, out: str) -> dict[str, Any]:
    return {"deps": [{"path": "d", "md5": dep} for dep in deps], "outs": [{"path": path, "md5": out}]}


def test_what_runs_without_the_group_made_as_well_stays(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    settings, old, new = (cache.file(data) for data in (b"settings", b"old weights", b"new weights"))
    before, patient = (
        cache.file(json.dumps({"input": "x", "group_id": group}).encode()) for group in ("other", "MRN-4711")
    )
    clean, split = cache.folder(a=before), cache.folder(a=before, b=patient)
    earlier, adapter = cache.folder(settings=settings, w=old), cache.folder(settings=settings, w=new)
    locks = [stage([clean], "models/adapter", earlier), stage([split], "models/adapter", adapter)]
    concerned = cache.contents().closure(set(), locks)
    assert concerned == {patient, split, adapter, new}


def test_a_raw_file_that_only_its_name_explains_is_found_by_its_digest(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    raw = cache.file(b"\0 of no kind that its content tells")
    inbox = cache.folder(**{"a.jsonl": raw})
    contents = cache.contents()
    assert contents.closure(set(), []) == set()
    assert contents.closure({contents.shard_of[raw]}, []) == {raw, inbox}
