"""One messy export: every kind of defect we know, each among good rows, each classified as it is."""

import gzip
import json
from typing import Any, NamedTuple

import polars as pl

from pipeline import paths
from pipeline.ingest.__main__ import run
from pipeline.params import Params
from pipeline.stage import Progress
from tests.conftest import Checkout

GOOD = {"task": "triage", "task_type": "summarization", "language": "en"}


class Defect(NamedTuple):
    line: bytes
    field: str | None  # None: read all the same, as ``value``
    said: str  # the reason, or the text that ``input`` becomes


def record(number: int, **changes: Any) -> dict[str, Any]:
    values = GOOD | {"sample_id": f"d{number}", "input": f"text {number}", "target": "t"} | changes
    return {name: value for name, value in values.items() if value is not ...}


def line(number: int, **changes: Any) -> bytes:
    return json.dumps(record(number, **changes), ensure_ascii=False).encode("utf-8", "surrogatepass")


def edited(number: int, old: str, new: str) -> bytes:
    return line(number, input="X").replace(old.encode(), new.encode("latin-1"), 1)


DEFECTS = [
    # refused
    Defect(line(1)[:-20], "record", "not_json"),  # cut
    Defect(b"%PDF-1.4", "record", "not_json"),
    Defect(edited(3, "}", "} trailing"), "record", "not_json"),
    Defect(line(4) + b" " + line(5), "record", "not_json"),  # a line end lost
    Defect(line(6).replace(b'"', b"'"), "record", "not_json"),
    Defect(edited(7, "}", ",}"), "record", "not_json"),
    Defect(b"[1, 2]", "record", "not_an_object"),
    Defect(b"null", "record", "not_an_object"),
    Defect(edited(8, '"X"', '"\xff\xfe"'), "record", "encoding"),
    Defect(edited(9, '"X"', '"caf\xe9"'), "record", "encoding"),  # another encoding within UTF-8
    Defect(edited(10, '"X"', "[" * 80 + "]" * 80), "record", "too_deep"),
    Defect(edited(11, '"X"', "[" * 9000 + "]" * 9000), "record", "too_deep"),
    Defect(line(12, input="x" * 40_000), "record", "row_too_large"),
    Defect(edited(13, '"X"', '"a", "input": "b"'), "input", "duplicate_key"),
    Defect(line(14, input=["a"]), "input", "not_text"),
    Defect(line(15, target={"a": 1}), "target", "not_text"),
    Defect(edited(16, '"X"', r'"a\u0000b"'), "input", "not_text"),
    Defect(edited(17, '"X"', r'"\ud83d"'), "input", "not_text"),
    Defect(line(18, input=...), "input", "missing_input"),
    Defect(edited(19, '"X"', "NaN"), "input", "missing_input"),
    Defect(line(20, input=" \n "), "input", "empty"),
    Defect(line(21, target=None), "target", "missing_target"),
    Defect(line(22, task=""), "task", "missing_task"),
    Defect(line(23, task="../x"), "task", "bad_task_name"),
    Defect(line(24, task_type="guess"), "task_type", "unknown_task_type"),
    Defect(line(25, language=...), "language", "missing_language"),
    Defect(line(26, language="English, mostly"), "language", "bad_language"),
    Defect(line(27, split="holdout"), "split", "bad_split"),
    Defect(line(28, task_type="nli"), "answer_choices", "bad_answer_choices"),
    Defect(line(29, task_type="nli", answer_choices=["a", "b"]), "target", "target_not_in_choices"),
    # read all the same
    Defect(edited(30, "}", ', "score": NaN, "other": -Infinity}'), None, "X"),
    Defect(edited(31, '"X"', "9" * 50), None, "9" * 50),
    Defect(edited(32, '"X"', '"a\tb"'), None, "a\tb"),  # a raw tab within a string
    Defect(edited(33, '"X"', r'"a\u001b[0mb"'), None, "a[0mb"),
    Defect(line(34, input="FiÃ¨vre Ã©levÃ©e"), None, "Fièvre élevée"),
    Defect(line(35, input="Fie\u0300vre"), None, "Fièvre"),
    Defect(line(36, input="BP &amp;lt; 120"), None, "BP < 120"),
    Defect(b"\xef\xbb\xbf" + line(37, input="marked"), None, "marked"),  # files put together
    Defect(b"  " + line(38, input="spaces") + b" \r", None, "spaces"),
    Defect(edited(39, '"X"', '"same", "input": "same"'), None, "same"),
    Defect(line(40, input="😀 𝒳 \u2028 中"), None, "😀 𝒳 \u2028 中"),
    Defect(edited(41, '"X"', r'"\ud83d\ude00"'), None, "😀"),
    Defect(line(42, input=17), None, "17"),
]


def test_every_defect_is_classified_and_every_good_row_kept(checkout: Checkout) -> None:
    assert len(DEFECTS) >= 30
    checkout.params(
        ingest__limits={"file_bytes": 2**30, "ratio": 250, "row_bytes": 30_000, "depth": 64, "columns": 100}
    )
    lines = []
    for number, defect in enumerate(DEFECTS):
        lines += [line(1000 + number, input=f"good {number}"), defect.line, b""]
    paths.INBOX.mkdir(parents=True)
    members = b"\n".join(lines) + b"\n", b'{"cut": "'  # two gzip members, the last without its end
    (paths.INBOX / "messy.jsonl.gz").write_bytes(gzip.compress(members[0]) + gzip.compress(members[1])[:-9])
    report = run(Params.load(), Progress("ingest"))

    end = 3 * len(DEFECTS) + 1
    refused = [(3 * at + 2, one.field, one.said) for at, one in enumerate(DEFECTS) if one.field]
    quarantine = pl.concat(pl.read_parquet(path) for path in paths.QUARANTINE.iterdir()).sort("line")
    found = quarantine.select("line", "field", "reason").rows()
    assert found == [*refused, (end, "record", "unreadable_file")]

    records = pl.concat(pl.read_parquet(path) for path in paths.INGESTED.iterdir())
    inputs = dict(records.select("line", "input").iter_rows())
    good = {3 * at + 1: f"good {at}" for at in range(len(DEFECTS))}
    read = {3 * at + 2: one.said for at, one in enumerate(DEFECTS) if not one.field}
    assert inputs == good | read
    assert report["rows"]["in"] == 2 * len(DEFECTS) + 1
    assert report["repaired"] == {"json": 4, "control": 1, "mojibake": 1, "nfc": 1, "html": 1}
    assert report["encodings"] == {"unknown": 1}
