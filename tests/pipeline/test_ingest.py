import csv
import gzip
import io
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import zstandard
from polars.testing import assert_frame_equal

from pipeline import paths
from pipeline.errors import DataError, ParamsError
from pipeline.ingest.__main__ import run
from pipeline.ingest.rows import QUARANTINE_SCHEMA
from pipeline.params import Params
from pipeline.records import INGESTED_SCHEMA
from pipeline.stage import Progress, Report
from tests.conftest import Checkout

RECORD: dict[str, Any] = {
    "sample_id": "s1",
    "task": "triage",
    "task_type": "classification",
    "input": "Chest pain.\nWhere to?",
    "target": "cardiology",
    "answer_choices": ["cardiology", "dermatology"],
    "group_id": "p1",
    "language": "en",
    "source": "ward",
    "split": "train",
}
PROMPTCBLUE = {
    "input": "判断下面搜索词的意图：\n自然流产\n选项：治疗方案，就医建议",
    "target": "就医建议",
    "answer_choices": ["治疗方案", "就医建议"],
    "task_type": "cls",
    "task_dataset": "KUAKE-QIC",
    "sample_id": "dev-8110",
}


def record(**changes: Any) -> dict[str, Any]:
    """RECORD with changes; a field set to ... is left out."""
    return {name: value for name, value in (RECORD | changes).items() if value is not ...}


def records(count: int, **changes: Any) -> list[dict[str, Any]]:
    return [
        record(sample_id=f"s{i}", input=f"case {i}", group_id=f"p{i // 2}", **changes) for i in range(count)
    ]


def jsonl(*rows: dict[str, Any]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def put(name: str, content: bytes) -> Path:
    path = paths.INBOX / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def ingest() -> tuple[Report, dict[str, int]]:
    progress = Progress("ingest")
    report = run(Params.load(), progress)
    for counts in [report["rows"], *report["shards"]]:
        parts = ("out", "quarantined", "duplicates", "sampled_away")
        assert counts["in"] == sum(counts[part] for part in parts)
    assert sum(report["quarantine"].values()) == report["rows"]["quarantined"] == quarantine().height
    assert sum(report["tasks"].values()) == report["rows"]["out"] == ingested().height
    return report, progress.state["work"]


def folder(path: Path, schema: pl.Schema) -> pl.DataFrame:
    shards = (pl.read_parquet(file) for file in sorted(path.glob("*.parquet")))
    return pl.concat([schema.to_frame(), *shards])


def ingested() -> pl.DataFrame:
    return folder(paths.INGESTED, INGESTED_SCHEMA).sort("shard", "line")


def quarantine() -> pl.DataFrame:
    return folder(paths.QUARANTINE, QUARANTINE_SCHEMA)


def faults() -> list[tuple[int, str, str]]:
    return quarantine().select("line", "field", "reason").sort("line").rows()


def outputs() -> dict[str, bytes]:
    files = [*paths.INGESTED.iterdir(), *paths.QUARANTINE.iterdir()]
    return {str(file): file.read_bytes() for file in files}


def test_a_record_arrives_as_it_is(checkout: Checkout) -> None:
    put("a.jsonl", jsonl(record(task="TriAge")))
    report, work = ingest()
    shard = report["shards"][0]["shard"]
    expected = RECORD | {"task": "triage", "task_label": "TriAge", "shard": shard, "line": 1}
    assert_frame_equal(ingested(), pl.DataFrame([expected], schema=INGESTED_SCHEMA))
    assert (paths.INGESTED / f"{shard}.parquet").is_file()
    assert paths.INGESTED.stat().st_mode & 0o777 == 0o700
    assert paths.QUARANTINE.stat().st_mode & 0o777 == 0o700
    assert report["files"] == {"read": 1, "ignored": 0}
    assert work == {"shards_parsed": 1, "shards_reused": 0}


def test_only_shards_with_bad_rows_have_a_file_in_quarantine(checkout: Checkout) -> None:
    put("good.jsonl", jsonl(record()))
    assert ingest()[0]["rows"]["quarantined"] == 0
    assert list(paths.QUARANTINE.iterdir()) == []
    put("bad.jsonl", jsonl(record(sample_id="s2", input="b"), record(input="")))
    bad = next(shard for shard in ingest()[0]["shards"] if shard["quarantined"])
    assert [path.stem for path in paths.QUARANTINE.iterdir()] == [bad["shard"]]


BAD_ROWS = [
    ({"input": ...}, "input", "missing_input"),
    ({"input": None}, "input", "missing_input"),
    ({"input": " \n"}, "input", "empty"),
    ({"target": ...}, "target", "missing_target"),
    ({"target": ""}, "target", "empty"),
    ({"task": ...}, "task", "missing_task"),
    ({"task": "x_y"}, "task", "bad_task_name"),
    ({"task": "../up"}, "task", "bad_task_name"),
    ({"task": "t\n"}, "task", "bad_task_name"),
    ({"task": "t" * 65}, "task", "bad_task_name"),
    ({"task_type": "guessing"}, "task_type", "unknown_task_type"),
    ({"task_type": ...}, "task_type", "unknown_task_type"),
    ({"answer_choices": ...}, "answer_choices", "bad_answer_choices"),
    ({"answer_choices": ["cardiology"]}, "answer_choices", "bad_answer_choices"),
    ({"answer_choices": "cardiology, dermatology"}, "answer_choices", "bad_answer_choices"),
    ({"answer_choices": {"a": 1}}, "answer_choices", "bad_answer_choices"),
    ({"answer_choices": ["cardiology", None]}, "answer_choices", "bad_answer_choices"),
    ({"answer_choices": ["cardiology", " "]}, "answer_choices", "bad_answer_choices"),
    ({"answer_choices": ["cardiology", ["x"]]}, "answer_choices", "bad_answer_choices"),
    ({"target": "neurology"}, "target", "target_not_in_choices"),
    ({"split": "holdout"}, "split", "bad_split"),
    ({"language": ...}, "language", "missing_language"),
    ({"language": "English, mostly"}, "language", "bad_language"),
    ({"language": "12"}, "language", "bad_language"),
    ({"language": "en-Okonkwo-19610312"}, "language", "bad_language"),
    ({"input": ["a"]}, "input", "not_text"),
    ({"target": {"a": 1}}, "target", "not_text"),
    ({"source": {"a": 1}}, "source", "not_text"),
    ({"input": "a\0b"}, "input", "not_text"),
    ({"group_id": ..., "doc_id": []}, "group_id", "not_text"),
]


@pytest.mark.parametrize(("changes", "field", "reason"), BAD_ROWS)
def test_a_bad_row_goes_to_quarantine_with_its_reason(
    checkout: Checkout, changes: dict[str, Any], field: str, reason: str
) -> None:
    bad = record(sample_id="bad", **changes)
    put("a.jsonl", jsonl(RECORD, bad, record(sample_id="s2", input="other")))
    report, _ = ingest()
    assert faults() == [(2, field, reason)]
    assert report["rows"]["out"] == 2
    assert json.loads(quarantine()["raw"][0]) == bad


BAD_LINES = [
    (b"{", "not_json"),
    (b"nonsense", "not_json"),
    (b'{"a": 1} {"a": 2}', "not_json"),
    (b"[" * 3000 + b"]" * 3000, "too_deep"),
    (b'{"a": ' + b"[" * 3000 + b"]" * 3000 + b"}", "too_deep"),
    (b"[1, 2]", "not_an_object"),
    (b"17", "not_an_object"),
    (b'{"input": "\xff"}', "encoding"),
]


@pytest.mark.parametrize("at", [0, 2, 5])
@pytest.mark.parametrize(("line", "reason"), BAD_LINES)
def test_a_bad_line_costs_none_of_its_neighbours(
    checkout: Checkout, line: bytes, reason: str, at: int
) -> None:
    lines = jsonl(*records(5)).splitlines()
    put("good.jsonl", b"\n".join(lines))
    ingest()
    good = ingested()
    shutil.rmtree(paths.INBOX)
    lines.insert(at, line)
    put("bad.jsonl", b"\n".join(lines))
    ingest()
    assert faults() == [(at + 1, "record", reason)]
    assert_frame_equal(ingested().drop("shard", "line"), good.drop("shard", "line"))
    assert ingested()["line"].to_list() == [number for number in range(1, 7) if number != at + 1]


def test_lone_surrogates_are_no_text_and_pairs_are(checkout: Checkout) -> None:
    row = jsonl(record(input="X")).decode()
    put("a.jsonl", (row.replace("X", r"\ud83d") + row.replace("X", r"\ud83d\ude00")).encode())
    ingest()
    assert faults() == [(1, "input", "not_text")]
    assert ingested()["input"].to_list() == ["😀"]


def test_text_that_looks_like_a_list_stays(checkout: Checkout) -> None:
    put("a.jsonl", jsonl(record(input="[doctor] how are you?"), record(input='["a"]'), record(input="{}")))
    ingest()
    assert ingested()["input"].to_list() == ["[doctor] how are you?", '["a"]', "{}"]


def test_numbers_are_text_and_blanks_are_missing(checkout: Checkout) -> None:
    row = record(
        sample_id=17, group_id=9007199254740993, target=1, answer_choices=[0, 1], source=" ", split=""
    )
    put("a.jsonl", jsonl(row))
    ingest()
    row = ingested().row(0, named=True)
    assert (row["sample_id"], row["group_id"], row["target"]) == ("17", "9007199254740993", "1")
    assert row["answer_choices"] == ["0", "1"]
    assert row["source"] == row["shard"]
    assert row["split"] is None


def test_blank_lines_and_any_line_end_keep_the_line_numbers(checkout: Checkout) -> None:
    a, b, c = jsonl(*records(3)).splitlines()
    put("a.jsonl", a + b"\r\n\r\n" + b + b"\n \n" + c + b"\r")
    ingest()
    assert ingested()["line"].to_list() == [1, 3, 5]


def test_field_names_of_others_are_known(checkout: Checkout) -> None:
    put(
        "a.jsonl",
        jsonl(record(group_id=..., doc_id="d"), record(input="b", group_id=..., patient_id="p", doc_id="d")),
    )
    ingest()
    assert ingested()["group_id"].to_list() == ["d", "p"]


def test_promptcblue_rows_are_taken_as_they_are(checkout: Checkout) -> None:
    rows = [
        PROMPTCBLUE,
        PROMPTCBLUE | {"sample_id": "2", "target": "非上述类型", "input": "谢谢"},
        {
            "input": "Which relations?",
            "target": "没有",
            "answer_choices": ["药物治疗"],
            "task_type": "spo_generation",
            "task_dataset": "CMeIE",
        },
        {
            "input": "回复：",
            "target": "好",
            "answer_choices": None,
            "task_type": "response_generation",
            "task_dataset": "MedDG",
        },
    ]
    put("a.jsonl", jsonl(*rows))
    report, _ = ingest()
    out = ingested()
    assert out["task"].to_list() == ["kuake-qic", "kuake-qic", "cmeie", "meddg"]
    assert out["task_label"].to_list() == ["KUAKE-QIC", "KUAKE-QIC", "CMeIE", "MedDG"]
    assert out["task_type"].to_list() == [
        "classification",
        "classification",
        "relation",
        "response_generation",
    ]
    assert out["language"].to_list() == ["zh", "zh", "en", "zh"]
    assert report["languages_guessed"] == 4
    # Where an offered list may lack the answer, "none of these" is among every row's choices.
    assert out["answer_choices"].to_list()[:3] == [["治疗方案", "就医建议", "非上述类型"]] * 2 + [
        ["药物治疗"]
    ]
    assert out["sample_id"].n_unique() == 4


def test_sources_map_fields_and_fill_in_defaults(checkout: Checkout) -> None:
    source = {
        "match": "lab/*.csv",
        "fields": {"input": "question", "target": "reply"},
        "defaults": {
            "task": "lab",
            "task_type": "classification",
            "language": "de",
            "answer_choices": '["ja", "nein"]',
        },
    }
    checkout.params(ingest__sources=[source])
    put("batch/lab/x.csv", b"question,reply\nFieber?,ja\nHusten?,vielleicht\n")
    put("batch/other/y.csv", b"question,reply\nFever?,ja\n")
    report, _ = ingest()
    row = ingested().row(0, named=True)
    assert (row["input"], row["target"], row["task"], row["language"]) == ("Fieber?", "ja", "lab", "de")
    assert report["quarantine"] == {"target_not_in_choices": 1, "missing_input": 1}


def test_a_typo_in_a_mapping_is_found_at_once(checkout: Checkout) -> None:
    checkout.params(ingest__sources=[{"match": "*", "fields": {"inptu": "question"}}])
    with pytest.raises(ParamsError, match="inptu"):
        Params.load()


def to_csv(rows: Sequence[dict[str, Any]], delimiter: str = ",") -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(RECORD), delimiter=delimiter)
    writer.writeheader()
    for row in rows:
        choices = row["answer_choices"]
        writer.writerow(
            row | {"answer_choices": json.dumps(choices, ensure_ascii=False) if choices else None}
        )
    return text.getvalue().encode()


def to_parquet(rows: Sequence[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    pl.DataFrame(list(rows), infer_schema_length=None).write_parquet(file)
    return file.getvalue()


ROWS = [
    record(input='quoted "text", 医生：你好，这个年的检查对我没有问题\nsecond line', sample_id="1"),
    record(task_type="summarization", answer_choices=None, target="a summary", task="summary", sample_id="2"),
    record(split=None, group_id=None, input="é", sample_id="3"),
]
SAME_FILES = {
    "a.jsonl.gz": gzip.compress(jsonl(*ROWS)),
    "members.jsonl.gz": gzip.compress(jsonl(*ROWS[:1])) + gzip.compress(jsonl(*ROWS[1:])),
    "a.jsonl.zst": zstandard.compress(jsonl(*ROWS)),
    "bom.jsonl": b"\xef\xbb\xbf" + jsonl(*ROWS),
    "utf16.jsonl": jsonl(*ROWS).decode().encode("utf-16"),
    "gb.jsonl": jsonl(*ROWS).decode().encode("gb18030"),
    "a.csv": to_csv(ROWS),
    "semicolon.csv": to_csv(ROWS, ";"),
    "tab.csv": to_csv(ROWS, "\t"),
    "a.csv.gz": gzip.compress(to_csv(ROWS)),
    "a.csv.zst": zstandard.compress(to_csv(ROWS)),
    "a.parquet": to_parquet(ROWS),
}


@pytest.mark.parametrize("name", SAME_FILES)
def test_every_file_type_gives_the_same_records(checkout: Checkout, name: str) -> None:
    checkout.params(ingest__include=["*"])
    put(name, SAME_FILES[name])
    ingest()
    expected = pl.DataFrame(ROWS, schema={name: INGESTED_SCHEMA[name] for name in RECORD})
    assert_frame_equal(ingested().select(list(RECORD)), expected)


def test_of_a_file_without_a_provable_encoding_the_plain_lines_stay(checkout: Checkout) -> None:
    foreign = jsonl(record(input="Пациент жалуется")).decode().encode("koi8-r")
    put("a.jsonl", jsonl(record()) + foreign)
    put("a.csv", to_csv([record(input="plain"), record(input="X")]).replace(b"X", "Пациент".encode("koi8-r")))
    report, _ = ingest()
    assert report["quarantine"] == {"encoding": 2}
    assert report["rows"]["out"] == 2
    assert report["encodings"] == {"unknown": 2}
    put("b.jsonl", jsonl(record(input="né à Besançon, opéré")).decode().encode("cp1252"))
    report, _ = ingest()
    assert report["encodings"] == {"unknown": 2, "cp1252": 1}
    assert report["encodings_guessed"] == {"cp1252": 1.0}


def test_csv_rows_that_do_not_fit_are_kept_apart(checkout: Checkout) -> None:
    head, first, second, third = to_csv(records(3)).splitlines(keepends=True)
    put("a.csv", head + first + b"too,few\r\n" + second + b"\r\n" + third.replace(b"case 2", b'"case" 2'))
    ingest()
    assert faults() == [(3, "record", "wrong_columns"), (6, "record", "not_csv")]
    assert ingested()["line"].to_list() == [2, 4]
    assert quarantine().sort("line")["raw"][0] == "too,few\r\n"


def test_each_line_behind_an_open_quote_is_counted(checkout: Checkout) -> None:
    rows = records(3, task_type="summarization", answer_choices=None)
    head, first, second, third = to_csv(rows).splitlines(keepends=True)
    put("a.csv", head + first + second.replace(b"case 1", b'"case 1') + third)
    report, _ = ingest()
    assert report["rows"] == {"in": 3, "out": 1, "quarantined": 2, "duplicates": 0, "sampled_away": 0}
    assert faults() == [(3, "record", "not_csv"), (4, "record", "not_csv")]


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_of_a_truncated_file_the_whole_lines_stay(checkout: Checkout, suffix: str) -> None:
    rng = random.Random(5)
    rows = [record(sample_id=f"{i}", input="".join(rng.choices("abcdefghij ", k=40_000))) for i in range(8)]
    content = gzip.compress(jsonl(*rows)) if suffix == ".gz" else zstandard.compress(jsonl(*rows))
    put(f"a.jsonl{suffix}", content[: len(content) * 7 // 10])
    report, _ = ingest()
    out = ingested()
    assert 0 < out.height < 8
    assert out["input"].to_list() == [row["input"] for row in rows[: out.height]]
    assert faults() == [(out.height + 1, "record", "unreadable_file")]
    assert report["rows"]["in"] == out.height + 1


DAMAGED_FILES = {
    "a.jsonl.gz": gzip.compress(jsonl(RECORD))[:-8] + b"\0" * 8,
    "b.jsonl.gz": b"no gzip",
    "c.jsonl.zst": b"no zstd",
    "d.parquet": b"no parquet",
    "e.parquet": to_parquet(ROWS)[:-20],
}


@pytest.mark.parametrize("name", DAMAGED_FILES)
def test_an_unreadable_file_is_one_row_in_quarantine(checkout: Checkout, name: str) -> None:
    put(name, DAMAGED_FILES[name])
    put("good.jsonl", jsonl(RECORD))
    report, _ = ingest()
    assert faults() == [(0, "record", "unreadable_file")]
    assert report["rows"]["out"] == 1


def test_parquet_columns_of_other_types(checkout: Checkout) -> None:
    rows = pl.DataFrame([record(sample_id=1, group_id=2), record(sample_id=2, group_id=3, input="b")])
    nested = rows.with_columns(pl.Series("input", [["nested"], ["b"]]))
    nul = rows.with_columns(input=pl.lit("a\0b"))
    others = rows.select(other="sample_id")
    for name, content in {"a": rows, "b": nested, "c": nul, "d": others}.items():
        file = io.BytesIO()
        content.write_parquet(file)
        put(f"{name}.parquet", file.getvalue())
    report, _ = ingest()
    assert report["quarantine"] == {"not_text": 4, "missing_input": 2}
    assert ingested()["sample_id"].to_list() == ["1", "2"]


def test_the_smallest_content_stays_of_duplicates_in_any_order(checkout: Checkout) -> None:
    rng = random.Random(3)
    rows = records(12) + records(6, source="other") + records(3, split="test") + records(2)
    seen = set()
    for _ in range(4):
        shutil.rmtree(paths.INBOX, ignore_errors=True)
        shuffled = rng.sample(rows, len(rows))
        for at in range(0, len(rows), 8):
            put(f"{rng.random()}/{at}.jsonl", jsonl(*shuffled[at : at + 8]))
        report, _ = ingest()
        assert report["rows"]["duplicates"] == 8
        seen.add(tuple(sorted(map(str, ingested().drop("shard", "line").rows()))))
    assert len(seen) == 1


def test_neither_names_nor_order_nor_what_lay_there_before_change_a_byte(checkout: Checkout) -> None:
    checkout.params(ingest__max_records_per_task=10)
    contents = [jsonl(*records(9, source=f"w{i}", task=f"t{i % 2}")) for i in range(4)] + [b"broken\n"]
    seen = set()
    reports = set()
    for seed in range(4):
        shutil.rmtree(paths.INBOX, ignore_errors=True)
        if seed == 2:
            shutil.rmtree("scratch")
        put("old.jsonl", jsonl(record(input="soon to leave")))
        ingest()
        (paths.INBOX / "old.jsonl").unlink()
        for number, content in enumerate(random.Random(seed).sample(contents, len(contents))):
            put(f"{seed}/{number}.jsonl", content)
        report, _ = ingest()
        seen.add(tuple(sorted(outputs().items())))
        reports.add(json.dumps(report, sort_keys=True))
    assert len(seen) == len(reports) == 1


def test_the_same_bytes_twice_are_one_shard_and_duplicates(checkout: Checkout) -> None:
    put("a.jsonl", jsonl(*records(3)) + b"broken\n")
    put("b/c.jsonl", jsonl(*records(3)) + b"broken\n")
    report, work = ingest()
    assert report["rows"] == {"in": 8, "out": 3, "quarantined": 1, "duplicates": 4, "sampled_away": 0}
    assert len(report["shards"]) == 1
    assert report["files"]["read"] == 2
    assert work["shards_parsed"] == 1


def test_a_shard_of_duplicates_only_is_written_empty(checkout: Checkout) -> None:
    put("a.jsonl", jsonl(*records(3)))
    put("b.jsonl", jsonl(*records(2)))
    report, _ = ingest()
    assert len(list(paths.INGESTED.iterdir())) == 2
    assert sorted(shard["out"] for shard in report["shards"]) in ([0, 3], [1, 2])
    assert report["rows"]["duplicates"] == 2


def test_sampling_draws_whole_groups_of_each_task_and_split(checkout: Checkout) -> None:
    rows = records(20) + records(8, task="other", split=None)
    big = [record(task="big", sample_id=f"b{i}", input=f"big {i}", group_id="one") for i in range(9)]
    put("a.jsonl", jsonl(*rows, *big))
    ingest()
    everything = ingested()
    checkout.params(ingest__max_records_per_task=5)
    report, _ = ingest()
    assert report["tasks"] == {"triage": 4, "other": 4, "big": 9}
    for group, kept in ingested().group_by("task", "group_id"):
        whole = everything.filter(task=group[0], group_id=group[1])
        assert kept.height == whole.height
    # More data of other groups never brings back what a larger cap would not have kept.
    small = set(ingested()["sample_id"])
    checkout.params(ingest__max_records_per_task=12)
    ingest()
    assert small <= set(ingested()["sample_id"])


def test_records_without_a_group_are_drawn_one_by_one(checkout: Checkout) -> None:
    checkout.params(ingest__max_records_per_task=7)
    put("a.jsonl", jsonl(*(row | {"group_id": None} for row in records(20))))
    report, _ = ingest()
    assert report["rows"]["out"] == 7


def test_two_spellings_of_one_task_are_an_error(checkout: Checkout) -> None:
    put("a.jsonl", jsonl(record(task="NER"), record(task="ner", input="b")))
    with pytest.raises(DataError, match=r"2 spellings become one task ner .*:1, .*:2"):
        ingest()


def test_one_changed_line_costs_its_file_only(checkout: Checkout) -> None:
    for number in range(4):
        put(f"{number}.jsonl", jsonl(*records(5, source=f"w{number}", task=f"t{number}")))
    assert ingest()[1] == {"shards_parsed": 4, "shards_reused": 0}
    assert ingest()[1] == {"shards_parsed": 0, "shards_reused": 4}
    put("2.jsonl", jsonl(*records(4, source="w2", task="t2"), record(task="t2", input="changed")))
    assert ingest()[1] == {"shards_parsed": 1, "shards_reused": 3}
    assert ingested().filter(pl.col("input") == "changed").height == 1
    checkout.params(ingest__sources=[{"match": "3.jsonl", "defaults": {"split": "test"}}])
    assert ingest()[1] == {"shards_parsed": 1, "shards_reused": 3}


def test_what_did_not_change_is_linked_and_not_written_again(checkout: Checkout) -> None:
    for number in range(3):
        put(f"{number}.jsonl", jsonl(*records(3, source=f"w{number}", task=f"t{number}"), RECORD))
    ingest()
    before = {path.name: path.stat().st_ino for path in paths.INGESTED.iterdir()}
    put("new.jsonl", jsonl(*records(3, task="new")))
    ingest()
    after = {path.name: path.stat().st_ino for path in paths.INGESTED.iterdir()}
    assert before.items() < after.items()


def test_who_leaves_the_inbox_is_in_nothing_that_is_made_or_read(checkout: Checkout) -> None:
    """A patient whose file goes, and whose row goes from another: searched for in all that is left."""
    name = "Featherstone"
    own = [record(input=f"{name} {i}", sample_id=f"{name}{i}", group_id=name) for i in range(3)]
    others = records(4, task="other")
    put(f"{name}.jsonl", jsonl(*own) + f"broken {name}\n".encode())
    put("ward.jsonl", jsonl(*others, own[0], record(input=f"{name} 9", task=f"{name}-9")))
    put("rest.jsonl", jsonl(*records(4)))
    ingest()
    assert name in "".join(ingested()["input"]) and name in "".join(quarantine()["raw"])
    assert entries_with(name)
    (paths.INBOX / f"{name}.jsonl").unlink()
    put("ward.jsonl", jsonl(*others))
    report, work = ingest()
    assert work == {"shards_parsed": 1, "shards_reused": 1}
    assert (
        name.lower() not in str(ingested().rows() + quarantine().rows()).lower() + json.dumps(report).lower()
    )
    # Without the entries that still know the patient the stage makes the same and reads nothing anew.
    made = outputs()
    for entry in entries_with(name):
        shutil.rmtree(entry)
    again, work = ingest()
    assert (again, outputs()) == (report, made)
    assert work == {"shards_parsed": 0, "shards_reused": 2}
    left = [path for path in Path("scratch/raw").rglob("*") if path.is_file()]
    assert left and not any(name.lower() in str(contents(path)).lower() for path in left)


def entries_with(name: str) -> list[Path]:
    """Entries of the stage's cache that hold a word."""
    return [
        entry
        for entry in Path("scratch/raw/ingest").iterdir()
        if entry.is_dir() and any(name.lower() in str(contents(path)).lower() for path in entry.iterdir())
    ]


def contents(path: Path) -> Any:
    return pl.read_parquet(path).rows() if path.suffix == ".parquet" else path.read_bytes()


def test_other_code_never_reuses_a_shard(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    put("a.jsonl", jsonl(RECORD))
    ingest()
    monkeypatch.setattr("pipeline.ingest.__main__.code_digest", lambda files: "changed")
    assert ingest()[1] == {"shards_parsed": 1, "shards_reused": 0}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "moelora sample-data"),
        ({"notes.txt": b"x"}, r"1 ignored.*moelora sample-data"),
        ({"a.jsonl": b""}, "no record left of 0 rows .*empty"),
        ({"a.csv": b"input,target\n"}, "no record left of 0 rows"),
        ({"a.jsonl": b"{}\n{}\n"}, "no record left of 2 rows .*missing_input 2.*ingest.sources"),
        ({"a.parquet": b"?"}, "no record left of 1 rows .*unreadable_file 1"),
    ],
)
def test_an_inbox_without_a_record_says_what_to_do(
    checkout: Checkout, files: dict[str, bytes], said: str
) -> None:
    for name, content in files.items():
        put(name, content)
    with pytest.raises(DataError, match=said):
        ingest()
    assert not paths.INGESTED.exists()


def test_a_failed_run_leaves_the_last_results(checkout: Checkout) -> None:
    put("a.jsonl", jsonl(RECORD))
    ingest()
    before = outputs()
    put("a.jsonl", b"broken\n")
    with pytest.raises(DataError):
        run(Params.load(), Progress("ingest"))
    assert outputs() == before


def test_an_unknown_ending_that_include_lets_in_is_an_error(checkout: Checkout) -> None:
    checkout.params(ingest__include=["*.pdf"])
    put("Featherstone.pdf", b"x")
    with pytest.raises(DataError, match=r"ingest\.include") as error:
        ingest()
    assert "Featherstone" not in str(error.value)


def test_nothing_of_a_record_or_a_file_name_is_said(checkout: Checkout) -> None:
    """The stage as its users run it, with a name planted in every field and in broken rows."""
    name = "Featherstone"
    planted = [
        record(**{field: f"{name} {field}"}, sample_id=f"{name}{field}")
        for field in RECORD
        if field != "sample_id"
    ]
    good = record(input=f"{name} came in", group_id=name, source=name, sample_id=name)
    files = {
        f"{name}.jsonl": jsonl(good, *planted, record(target=[name])) + f'{{"input": "{name}\n'.encode(),
        f"{name}.csv": to_csv([good | {"input": f"{name} in CSV"}]) + f'{name},"{name}\n'.encode(),
        f"{name}.parquet": to_parquet(ROWS)[:-9] + name.encode(),
        f"{name}.jsonl.gz": gzip.compress(jsonl(good))[:-5],
    }
    for path, content in files.items():
        put(f"{name}/{path}", content)

    def said(exit_code: int) -> str:
        done = subprocess.run([sys.executable, "-m", "pipeline.ingest"], capture_output=True, text=True)
        assert done.returncode == exit_code, done.stderr
        open_files = [
            path for path in Path().rglob("*") if path.suffix == ".json" and "raw" not in path.parts
        ]
        return done.stdout + done.stderr + "".join(path.read_text() for path in open_files)

    assert name not in said(0)
    assert name in "".join(quarantine()["raw"])
    put(f"{name}/b.jsonl", jsonl(record(task="TRIAGE", input=name)))
    assert "spellings" in (text := said(2))
    assert name not in text


def test_the_real_english_data(checkout: Checkout, shared_data: Path) -> None:
    paths.INBOX.mkdir(parents=True)
    for file in shared_data.glob("*.jsonl.gz"):
        shutil.copy(file, paths.INBOX)
    checkout.params(ingest__include=["en.*.jsonl.gz"])
    report, _ = ingest()
    assert report["rows"] == {"in": 38986, "out": 38986, "quarantined": 0, "duplicates": 0, "sampled_away": 0}
    assert len(report["tasks"]) == 14
    checkout.params(ingest__include=["en.*.jsonl.gz"], ingest__max_records_per_task=150)
    report, work = ingest()
    assert work == {"shards_parsed": 0, "shards_reused": 3}
    assert len(report["tasks"]) == 14
    assert max(report["tasks"].values()) <= 450


def test_the_real_chinese_data(checkout: Checkout, shared_data: Path) -> None:
    paths.INBOX.mkdir(parents=True)
    for file in shared_data.glob("zh.*.jsonl.gz"):
        shutil.copy(file, paths.INBOX)
    report, _ = ingest()
    assert report["rows"]["in"] == report["rows"]["out"] == 7438
    assert set(ingested()["language"]) == {"zh"}
