import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline import sample_data
from pipeline.digests import file_digest
from pipeline.records import CHOICE_TASK_TYPES, RECORD_SCHEMA, TASK_TYPES, is_task_name
from pipeline.sample_data.markup import mark, unmark
from tests.conftest import ROOT

Record = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sample")
    sample_data.write(root / "inbox", labels=root / "labels.jsonl")
    return root


@pytest.fixture(scope="module")
def records(folder: Path) -> list[Record]:
    return [
        json.loads(line)
        for path in sorted((folder / "inbox").iterdir())
        for line in path.read_text(encoding="utf-8").splitlines()
    ]


@pytest.fixture(scope="module")
def labels(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "labels.jsonl").read_text().splitlines()]


def test_the_bytes_of_the_default_seed_never_change() -> None:
    # Whoever changes the generator on purpose writes the new digests here.
    assert sorted(sample_data.shards()) == DIGESTS


def test_shards_are_the_digests_of_the_written_files(folder: Path) -> None:
    written = {file_digest(path)[:16] for path in (folder / "inbox").iterdir()}
    assert written == sample_data.shards()


def test_another_process_and_hash_seed_give_the_same_bytes() -> None:
    code = "from pipeline.sample_data import shards; print(sorted(shards()))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert done.stdout.decode().strip() == str(sorted(sample_data.shards()))


def test_another_seed_gives_other_files(tmp_path: Path) -> None:
    sample_data.write(tmp_path, seed=18)
    assert not {file_digest(path)[:16] for path in tmp_path.iterdir()} & sample_data.shards()


def test_shards_are_fast() -> None:
    sample_data.shards.cache_clear()
    start = time.perf_counter()
    sample_data.shards()
    assert time.perf_counter() - start < 0.5


def test_writing_again_leaves_other_files_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    sample_data.write(tmp_path)
    sample_data.write(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "kept"
    assert len(list(tmp_path.iterdir())) == 5


def test_records_are_valid(records: list[Record]) -> None:
    assert len({(record["source"], record["sample_id"]) for record in records}) == len(records)
    for record in records:
        assert list(record) == list(RECORD_SCHEMA)
        assert is_task_name(record["task"])
        assert record["task_type"] in TASK_TYPES
        assert record["input"].strip()
        assert record["target"].strip()
        assert record["split"] is None
        assert "⟦" not in json.dumps(record, ensure_ascii=False)
        if record["task_type"] in CHOICE_TASK_TYPES:
            assert record["target"] in record["answer_choices"]
            assert len(set(record["answer_choices"])) == len(record["answer_choices"])
            assert f"Options: {', '.join(record['answer_choices'])}\nAnswer:" in record["input"]


def test_tasks_are_at_least_eight_and_very_uneven(records: list[Record]) -> None:
    sizes = sorted(Counter(record["task"] for record in records).values())
    assert len(sizes) >= 8
    assert sizes[-1] == 100 * sizes[0]
    assert len({record["task_type"] for record in records}) == len(sizes)


def test_labels_of_choice_tasks_are_balanced(records: list[Record]) -> None:
    for task in ("message-triage", "finding-status"):
        counts = Counter(record["target"] for record in records if record["task"] == task)
        assert min(counts.values()) > 0.8 * counts.total() / len(counts)


def test_patients_span_tasks_and_files(records: list[Record]) -> None:
    tasks: dict[str, set[str]] = {}
    sources: dict[str, set[str]] = {}
    for record in records:
        tasks.setdefault(record["group_id"], set()).add(record["task"])
        sources.setdefault(record["group_id"], set()).add(record["source"])
    assert sum(len(names) > 1 for names in tasks.values()) > len(tasks) / 2
    assert sum(len(names) > 1 for names in sources.values()) > len(sources) / 2


def test_inputs_are_short(records: list[Record]) -> None:
    words = sorted(len(record["input"].split()) for record in records)
    assert words[len(words) // 2] < 50
    assert words[-1] < 90


def test_phi_is_planted_in_every_field_that_can_hold_it(labels: list[dict[str, Any]]) -> None:
    fields = {label["field"].split(".")[0] for label in labels}
    assert fields == {"sample_id", "input", "target", "answer_choices", "group_id", "source"}
    kinds = Counter(label["kind"] for label in labels if label["field"] == "input")
    assert set(kinds) == set(sample_data.KINDS)
    assert min(kinds.values()) >= 20


def test_labels_point_at_what_they_name(records: list[Record], labels: list[dict[str, Any]]) -> None:
    by_id = {record["sample_id"]: record for record in records}
    for label in labels:
        field, _, number = label["field"].partition(".")
        value = by_id[label["sample_id"]][field]
        text = (value[int(number)] if number else value)[label["start"] : label["end"]]
        if label["kind"] == "AGE":
            assert int(text) >= 90
        elif label["kind"] in ("ID", "DATE"):
            assert any(character.isdigit() for character in text)
        elif label["kind"] == "NAME":
            assert text[0].isupper()


def test_the_summary_counts_what_was_written(tmp_path: Path, records: list[Record]) -> None:
    summary = sample_data.write(tmp_path / "again", labels=tmp_path / "labels.jsonl")
    assert summary["records"] == len(records) == sum(summary["tasks"].values())
    assert summary["files"] == len(list((tmp_path / "again").iterdir()))
    lines = (tmp_path / "labels.jsonl").read_text().splitlines()
    assert sum(summary["phi"].values()) == len(lines)


def test_documents_have_every_kind_and_exact_spans() -> None:
    found = sample_data.labelled_documents(300)
    assert len(found) == len({document["doc_id"] for document in found}) == 300
    kinds = Counter(span["kind"] for document in found for span in document["spans"])
    assert set(kinds) == set(sample_data.KINDS)
    assert min(kinds.values()) >= 10
    assert any(not document["spans"] for document in found)
    for document in found:
        ends = [0]
        for span in document["spans"]:
            assert ends[-1] <= span["start"] < span["end"] <= len(document["text"])
            ends.append(span["end"])


def test_documents_are_reproducible_and_the_first_ones_stay() -> None:
    assert sample_data.labelled_documents(40, 3) == sample_data.labelled_documents(60, 3)[:40]
    assert sample_data.labelled_documents(40, 3) != sample_data.labelled_documents(40, 4)


def test_documents_name_other_people_than_the_records(
    labels: list[dict[str, Any]], records: list[Record]
) -> None:
    by_id = {record["sample_id"]: record for record in records}
    known = {
        by_id[label["sample_id"]]["input"][label["start"] : label["end"]]
        for label in labels
        if label["kind"] == "NAME" and label["field"] == "input"
    }
    others = {
        document["text"][span["start"] : span["end"]]
        for document in sample_data.labelled_documents(100)
        for span in document["spans"]
        if span["kind"] == "NAME"
    }
    assert not known & others


def test_marks_come_off_with_their_spans() -> None:
    text, spans = unmark(f"Seen by {mark('NAME', 'Zoë Moss')} on {mark('DATE', '3/4')}.")
    assert text == "Seen by Zoë Moss on 3/4."
    assert [(text[span["start"] : span["end"]], span["kind"]) for span in spans] == [
        ("Zoë Moss", "NAME"),
        ("3/4", "DATE"),
    ]
    assert unmark("nothing") == ("nothing", [])


DIGESTS = ["83aba1d494700a65", "860407a500415e6b", "edf3fe0e3447b376", "f531c9452819bd08"]
