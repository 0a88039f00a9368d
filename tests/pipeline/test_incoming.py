import json
import logging
import os
import tempfile
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from pipeline import incoming
from pipeline.errors import InputError, PipelineError
from pipeline.params import Params
from tests.conftest import Checkout

NAME = "Featherstone"


def record(**changes: Any) -> dict[str, Any]:
    return {
        "sample_id": None,
        "task": "triage",
        "task_type": "classification",
        "input": f"{NAME} has chest pain",
        "target": "urgent",
        "answer_choices": ["urgent", "later"],
        "language": "en",
    } | changes


def write(name: str, *rows: dict[str, Any] | str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def check(*files: Path) -> dict[str, Any]:
    return incoming.check({file: file for file in files}, Params.load())


def good(name: str = "good.jsonl") -> Path:
    return write(name, record(input="a cough"), record(input="a cold", target="later"))


def test_good_files_fit(checkout: Checkout) -> None:
    found = check(good())
    assert found["fits"]
    assert found["rows"]["in"] == found["rows"]["out"] == 2
    assert [(each["file"], each["out"]) for each in found["files"]] == [("good.jsonl", 2)]
    assert (found["quarantine"], found["expectations"], found["error"]) == ([], [], None)


def test_faulty_rows_are_counted_by_reason_and_placed(checkout: Checkout) -> None:
    bad = write(
        "ward/bad.jsonl",
        record(),
        record(input=""),
        f"{NAME} is no JSON",
        record(input="", task="Other"),
        *[record(target=NAME, input=str(n)) for n in range(30)],
        record(input="cold", target="later"),
    )
    found = check(good(), bad)
    assert not found["fits"]
    groups = {(each["reason"], each["task"]): each for each in found["quarantine"]}
    assert groups["empty", "triage"]["places"] == ["ward/bad.jsonl:2"]
    assert groups["empty", "other"]["places"] == ["ward/bad.jsonl:4"]
    assert groups["not_json", None]["rows"] == 1
    assert groups["target_not_in_choices", "triage"]["rows"] == 30
    assert len(groups["target_not_in_choices", "triage"]["places"]) == 20
    assert found["rows"]["quarantined"] == 33
    assert NAME not in json.dumps(found)


def test_what_validate_expects_is_said_too(checkout: Checkout) -> None:
    torn = [{"group_id": "g", "split": split, "sample_id": split} for split in ("train", "test")]
    path = write("a.jsonl", *(record(**each) for each in torn), record(input="a cold", target="later"))
    found = check(path)
    assert not found["fits"]
    (critical,) = [each for each in found["expectations"] if each["level"] == "critical"]
    assert critical["column"] == "group_in_one_owner_split"
    assert critical["places"] == ["a.jsonl:1", "a.jsonl:2"]
    assert critical["remedy"]
    doubtful = record(
        task="note", task_type="qa_generation", answer_choices=None, target="a cough", input="a cough"
    )
    found = check(write("b.jsonl", record(), doubtful))
    assert found["fits"]
    assert [(each["level"], each["places"]) for each in found["expectations"]] == [("warning", ["b.jsonl:2"])]


def test_files_without_any_good_row_are_explained_all_the_same(checkout: Checkout) -> None:
    found = check(write("a.jsonl", record(input=""), record(input=" ")))
    assert not found["fits"]
    assert (found["rows"]["in"], found["rows"]["out"]) == (2, 0)
    assert [(each["reason"], each["rows"]) for each in found["quarantine"]] == [("empty", 2)]
    assert len(found["files"]) == 1


def test_where_ingest_stops_its_reason_is_said(checkout: Checkout) -> None:
    found = check(write("a.jsonl", record(task="Triage")), write("b.jsonl", record(task="triage")))
    assert not found["fits"]
    assert "triage" in found["error"]
    assert found["rows"] == {}


def test_files_that_are_left_out_do_not_fit(checkout: Checkout) -> None:
    found = check(good(), write("notes.docx", "x"))
    assert (found["ignored"], found["fits"]) == (1, False)


def test_a_file_without_a_row_does_not_fit(checkout: Checkout) -> None:
    found = check(good(), write("empty.jsonl"))
    assert (found["empty"], found["fits"]) == (["empty.jsonl"], False)


def test_what_fhir_has_beside_the_records_is_no_fault(checkout: Checkout) -> None:
    note = {"resourceType": "DiagnosticReport", "id": "r", "status": "final", "conclusion": "A cold."}
    form = [{"contentType": "text/plain", "data": b64encode(b"Nose, throat").decode()}]
    wrong = note | {"id": "w", "status": "entered-in-error"}
    path = write(
        "a.ndjson", *map(json.dumps, (note | {"presentedForm": form}, wrong, {"resourceType": "Patient"}))
    )
    defaults = {"task": "report", "task_type": "summarization", "language": "en"}
    checkout.params(ingest__sources=[{"match": "a.ndjson", "format": "fhir", "defaults": defaults}])
    found = check(path)
    assert {each["reason"] for each in found["quarantine"]} == {"other_resource", "entered_in_error"}
    assert found["fits"]


def test_a_file_that_cannot_be_read_is_named(checkout: Checkout) -> None:
    with pytest.raises(InputError, match="ward cannot be read: "):
        check(good(), Path("ward"))


def test_what_a_library_says_is_not_passed_on(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.ingest import __main__ as stage

    def fail(*_: object) -> None:
        raise ValueError(NAME)

    path = good()
    monkeypatch.setattr(stage, "run", fail)
    with pytest.raises(PipelineError, match=r"ValueError at .*incoming\.py:\d+") as told:
        check(path)
    assert NAME not in str(told.value) + repr(told.value.__cause__)
    assert logging.root.manager.disable == 0


def test_the_mapping_of_params_is_used(checkout: Checkout) -> None:
    row = record()
    row["question"] = row.pop("input")
    path = write("lab/a.jsonl", row, record(input="a cold", target="later"))
    assert check(path)["rows"]["quarantined"] == 1
    checkout.params(ingest__sources=[{"match": "lab/*.jsonl", "fields": {"input": "question"}}])
    assert check(path)["fits"]


def test_nothing_stays_and_nothing_here_is_touched(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = Path("temporary").resolve()
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("MOELORA_CACHE", "cache")
    path = good()
    before = sorted(Path().rglob("*"))
    check(path)
    assert sorted(Path().rglob("*")) == before
    assert os.environ["MOELORA_CACHE"] == "cache"
    assert Path.cwd() == temporary.parent
