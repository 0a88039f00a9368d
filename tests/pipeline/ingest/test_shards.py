"""Files read by one process or several, block by block."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline import paths
from pipeline.cache import Cache
from pipeline.errors import PipelineError
from pipeline.ingest import __main__ as stage
from pipeline.ingest import inbox, shards
from pipeline.ingest.formats.block import BLOCK_BYTES
from pipeline.params import Params
from pipeline.stage import Progress
from pipeline.workers import Workers
from tests.conftest import Checkout


def lines(count: int, characters: int, **changes: Any) -> bytes:
    row = {
        "task": "summary",
        "task_type": "summarization",
        "target": "t",
        "language": "en",
        "input": "word " * (characters // 5),
    }
    rows = (row | {"sample_id": f"s{n}", "input": f"{n} {row['input']}"} | changes for n in range(count))
    return "".join(json.dumps(each) + "\n" for each in rows).encode()


def put(name: str, content: bytes) -> None:
    paths.INBOX.mkdir(parents=True, exist_ok=True)
    (paths.INBOX / name).write_bytes(content)


def work() -> shards.Work:
    params = Params.load().ingest
    (file,) = inbox.look(params).files
    return shards.Work(file, "0" * 32, params.limits)


def test_how_many_read_it_changes_no_byte(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    put("large.jsonl", lines(300, 80_000) + b"broken\n" + lines(50, 1_000, split="test"))
    put("small.jsonl", lines(40, 100, source="other") + b"{}\n")
    put("small.csv", b"input,target,task,task_type,language\nx,y,t,summarization,en\n")
    seen = []
    for shared, many in ((2**40, 100), (2**20, 100), (2**40, 1)):
        monkeypatch.setattr(stage, "START_BYTES", shared)
        monkeypatch.setattr(stage, "SHARED_BYTES", shared)
        monkeypatch.setattr(stage, "START_FILES", many)
        monkeypatch.setattr(stage, "BATCH_FILES", many)
        monkeypatch.setattr(stage, "cores", lambda: 2)
        monkeypatch.setenv("MOELORA_CACHE", str(checkout.root / f"cache-{shared}-{many}"))
        report = stage.run(Params.load(), Progress("ingest"))
        files = sorted([*paths.INGESTED.iterdir(), *paths.QUARANTINE.iterdir()])
        seen.append((report, {path: path.read_bytes() for path in files}))
    assert seen[0] == seen[1] == seen[2]
    assert seen[0][0]["rows"] == {
        "in": 393,
        "out": 391,
        "quarantined": 2,
        "duplicates": 0,
        "sampled_away": 0,
    }


def test_row_groups_are_of_bounded_size(checkout: Checkout) -> None:
    put("large.jsonl", lines(300, 80_000) + b"broken\n" * 3)
    of_file = work()
    with Workers(1) as alone:
        done = list(shards.read(of_file, alone))
    assert done[-1] == 303
    entry = Cache("ingest").folder / of_file.key
    with pq.ParquetFile(entry / shards.RECORDS) as file:
        sizes = [file.metadata.row_group(at).total_byte_size for at in range(file.num_row_groups)]
    assert len(sizes) >= 3
    assert max(sizes) < 1.1 * BLOCK_BYTES
    shard = shards.Shard(of_file.file, of_file.key, entry)
    assert sum(len(keys) for keys in shard.read_keys()) == shard.facts["out"] == 300
    assert shard.facts["quarantine"] == {"not_json": 3}


def test_a_file_that_changes_while_it_is_read_is_no_shard(checkout: Checkout) -> None:
    put("a.jsonl", lines(3, 10))
    before = work()
    stale = before._replace(file=replace(before.file, stamp=before.file.stamp._replace(size=1)))
    with pytest.raises(PipelineError, match="changed while it was read"):
        shards.read_all([stale])
    assert [path.name for path in Path(Cache("ingest").folder).glob("[0-9a-f]" * 32)] == []
