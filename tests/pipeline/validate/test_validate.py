import json
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline import paths
from pipeline.errors import DataError, ParamsError
from pipeline.params import Params
from pipeline.records import CHOICE_TASK_TYPES, INVENTORY_TASK_TYPES, TASK_TYPES
from pipeline.stage import Progress
from pipeline.validate import facts
from pipeline.validate.across import across
from tests.conftest import Checkout
from tests.pipeline.validate.conftest import NAME, found, shard, validate

NOBODY = {"target": "nobody"}
"""A second answer: a choice that is always the same is warned of."""


def test_good_records_pass_and_all_are_counted(checkout: Checkout) -> None:
    shard("aa", NOBODY, {"split": "train"})
    shard(
        "bb",
        {"task_type": "summarization", "task": "summary", "answer_choices": None},
        {"task": "summary", "task_type": "summarization"},
    )
    shard("cc")
    report = validate()
    assert report["rows"] == {"in": 4, "out": 4}
    assert report["success"]
    assert all(e["success"] for e in report["expectations"])
    assert found(report, "target_in_choices", "critical")["elements"] == 4
    assert (paths.DATA_DOCS / "index.html").is_file()
    assert json.dumps(report) == json.dumps(validate())


CRITICAL = [
    ({"task": f"{NAME} ward"}, "task_name_valid"),
    ({"task_type": NAME}, "task_type_known"),
    ({"task_type": "nli"}, "task_has_one_type"),
    ({"answer_choices": None}, "choices_fit"),
    ({"answer_choices": [f"Dr. {NAME}"]}, "choices_fit"),
    ({"target": NAME}, "target_in_choices"),
    ({"language": f"{NAME} {NAME}"}, "language_valid"),
    ({"split": NAME}, "split_known"),
    ({"sample_id": f"{NAME} aa 1"}, "sample_unique"),
    ({"group_id": f"{NAME} aa 1", "split": "test"}, "group_in_one_owner_split"),
    ({"input": " "}, "input_characters"),
    ({"target": None}, "target_characters"),
]


@pytest.mark.parametrize(("change", "column"), CRITICAL)
def test_a_critical_failure_stops_and_says_where(
    checkout: Checkout, capsys: pytest.CaptureFixture[str], change: dict[str, Any], column: str
) -> None:
    shard("aa", {"split": "train"})
    shard("bb", {}, {}, change)
    with pytest.raises(
        DataError, match=rf"critical expect_column_values_to_be_\w+\({column}.*bb:3.*: \w+"
    ) as error:
        validate()
    report = json.loads(paths.report("validate").read_text())
    assert not report["success"]
    failed = found(report, column, "critical")
    assert 3 in failed["shards"]["bb"]
    assert failed["unexpected"] == sum(map(len, failed["shards"].values()))
    said = str(error.value) + json.dumps(report) + capsys.readouterr().out
    assert NAME not in said + (paths.DATA_DOCS / "index.html").read_text()


def test_a_message_names_20_rows_of_many(checkout: Checkout) -> None:
    shard("aa", *[{"target": "none of them"}] * 50)
    with pytest.raises(DataError, match="not met by 50 of 50") as error:
        validate()
    assert str(error.value).count("aa:") == 20


def test_a_shard_of_other_columns_stops(checkout: Checkout) -> None:
    shard("aa", {})
    shard("bb", {}, drop="language")
    with pytest.raises(DataError, match=r"schema_fits.*\(bb\).*run ingest again"):
        validate()


def test_a_task_outside_the_known_ones_stops(checkout: Checkout) -> None:
    checkout.params(validate__tasks=["triage"])
    shard("aa", {}, {"task": "other"})
    with pytest.raises(DataError, match=r"task_known.*aa:2.*validate\.tasks"):
        validate()


def test_what_is_only_doubtful_is_a_warning(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    checkout.params(validate__max_input_characters=100, validate__max_target_characters=50)
    long = f"Dr. {NAME} " * 9
    shard("aa", {}, {}, {"input": long}, {"target": long, "answer_choices": [long, "b"]})
    family = {"task": "family", "group_id": "g"}
    shard("bb", {"task": "lonely"}, family, family | NOBODY)
    report = validate()
    assert report["success"]
    assert found(report, "input_characters", "warning")["shards"] == {"aa": [3]}
    assert found(report, "target_characters", "warning")["shards"] == {"aa": [4]}
    assert found(report, "records", "warning")["names"] == ["lonely"]
    assert found(report, "several_groups", "warning")["names"] == ["family", "lonely"]
    assert found(report, "several_answers", "warning")["names"] == ["lonely"]
    out = capsys.readouterr().out
    assert out.count("validate: warning ") == 5
    assert "at most 100" in out
    assert NAME not in out


def test_the_page_is_read_without_fetching_anything(checkout: Checkout, browser: Any) -> None:
    shard("aa", NOBODY, {"target": "neither"})
    with suppress(DataError):
        validate()
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((paths.DATA_DOCS / "index.html").resolve().as_uri())
    text = page.inner_text("body")
    page.close()
    assert len(asked) == 1
    assert "the target of a choice is one of its answer_choices (critical)" in text
    assert "Where: aa:2" in text
    assert "a language is a BCP 47 tag" in text


def test_the_page_tells_a_warning_from_what_stops_a_run(checkout: Checkout, browser: Any) -> None:
    def marks() -> list[str]:
        with suppress(DataError):
            validate()
        page = browser.new_page()
        page.goto((paths.DATA_DOCS / "index.html").resolve().as_uri())
        said = "i => getComputedStyle(i, '::before').content"
        found = [icon.evaluate(said).strip('"') for icon in page.query_selector_all("i")]
        page.close()
        return found[:1] + sorted({*found[1:]} - {"met"})

    shard("aa", NOBODY, {"input": "x" * 100_001})
    assert marks() == ["met", "missed"]
    shard("bb", {"target": "neither"})
    assert marks() == ["MISSED", "MISSED", "missed"]


def test_blocks_of_shards_give_the_same_report(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    for digest in ("aa", "bb", "cc", "dd", "ee"):
        shard(digest, {}, {"input": "x" * 100_001}, {})
    whole = validate()
    monkeypatch.setattr(facts, "READ_ROWS", 2)
    monkeypatch.setattr(facts, "BLOCK_ROWS", 4)
    shutil.rmtree(paths.cache_root())
    assert validate() == whole
    assert found(whole, "input_characters", "warning")["unexpected"] == 5


FORMS = [
    ("ner", f"Drug: {NAME}; aspirin\nProblem: none", True),
    ("ner", f"Drugs: {NAME}", False),
    ("relation", f"Treats: {NAME} | pain; aspirin | fever", False),
    ("relation", f"Drug: {NAME} | pain; aspirin | fever", True),
    ("relation", f"Drug: {NAME}", False),
    ("event", f"Problem: name = {NAME}; place = here, there", True),
    ("event", f"Problem: {NAME}", False),
    ("summarization", f"{NAME}: well", True),
]


WRONG = (
    dict.fromkeys(CHOICE_TASK_TYPES, ("target_in_choices", "neither"))
    | dict.fromkeys(INVENTORY_TASK_TYPES, ("target_in_form", f"{NAME} is well"))
    | {"summarization": ("summary_is_shorter", f"{NAME} has chest pain, and a cold")}
)


@pytest.mark.parametrize("kind", TASK_TYPES)
def test_every_task_kind_has_an_expectation_of_its_answers(checkout: Checkout, kind: str) -> None:
    column, target = WRONG.get(kind, ("target_differs_from_input", f"{NAME} has chest pain"))
    shard("aa", {"task_type": kind, "target": target, "answer_choices": ["a", "b"]})
    try:
        report = validate()
    except DataError:
        report = json.loads(paths.report("validate").read_text())
    (missed,) = [each for each in report["expectations"] if each["column"] == column]
    assert missed["shards"] == {"aa": [1]}


def test_a_target_of_another_form_than_its_task_kinds_is_a_warning(checkout: Checkout) -> None:
    inventory = {"answer_choices": ["Drug", "Problem"]}
    shard("aa", *({"task": kind, "task_type": kind, "target": text} | inventory for kind, text, _ in FORMS))
    report = validate()
    assert report["success"]
    wrong = [line for line, (*_, fits) in enumerate(FORMS, 1) if not fits]
    assert found(report, "target_in_form", "warning")["shards"] == {"aa": wrong}


def test_the_metric_of_a_task_says_what_its_form_is(checkout: Checkout) -> None:
    triple = "具有治疗关系的头尾实体对如下：头实体为阿司匹林，尾实体为发热。"
    chinese = {"task_type": "relation", "target": triple, "answer_choices": ["治疗"]}
    shard("aa", chinese | {"task": "cmeie"}, chinese | {"task": "own"})
    assert found(validate(), "target_in_form", "warning")["shards"] == {"aa": [2]}
    checkout.params(evaluate__tasks={"own": {"metric": "promptcblue_relation_micro_f1"}})
    assert found(validate(), "target_in_form", "warning")["success"]
    checkout.params(evaluate__tasks={"own": {"metric": "none_such"}})
    with pytest.raises(ParamsError, match=r"evaluate\.tasks\.own"):
        validate()


def test_fields_that_were_exchanged_or_taken_twice_are_a_warning(checkout: Checkout) -> None:
    free = {"task": "summary", "task_type": "summarization", "answer_choices": None}
    twice = {"task": "answer", "task_type": "qa_generation", "target": f"{NAME} has chest pain"}
    shard(
        "aa", free | {"target": f"{NAME} has chest pain and a cold"}, free, twice | {"answer_choices": None}
    )
    report = validate()
    assert found(report, "summary_is_shorter", "warning")["shards"] == {"aa": [1]}
    assert found(report, "target_differs_from_input", "warning")["shards"] == {"aa": [3]}


def test_only_new_shards_are_read_and_those_they_are_at_odds_with(checkout: Checkout) -> None:
    def read() -> int:
        progress = Progress("validate")
        with suppress(DataError):
            validate(progress)
        return int(progress.state["work"]["shards_read"])

    for digest in ("aa", "bb", "cc"):
        shard(digest, {}, NOBODY)
    assert (read(), read()) == (3, 0)
    shard("dd", {}, NOBODY)
    assert read() == 1
    shard("dd", {}, {"sample_id": f"{NAME} bb 2"})
    assert read() == 2
    found_now = json.loads(paths.report("validate").read_text())
    shutil.rmtree(paths.cache_root())
    assert read() == 4
    assert json.loads(paths.report("validate").read_text()) == found_now
    assert found(found_now, "sample_unique", "critical")["shards"] == {"bb": [2], "dd": [2]}
    shard("dd", {}, NOBODY)
    assert read() == 4 - 2
    checkout.params(validate__max_input_characters=5)
    assert read() == 4


def test_nothing_ingested_says_what_to_run(checkout: Checkout) -> None:
    with pytest.raises(DataError, match=r"pipeline\.ingest"):
        validate()


def test_the_stage_as_a_program_says_nothing_of_a_record(checkout: Checkout) -> None:
    shard("aa", {}, {"target": NAME})
    shard("bb", {"sample_id": f"{NAME} aa 1"})
    done = subprocess.run([sys.executable, "-m", "pipeline.validate"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "aa:2" in done.stderr
    assert "sample_unique" in done.stderr
    written = [path for path in Path().rglob("*") if path.is_file() and path.suffix != ".parquet"]
    assert {path.name for path in written} >= {"validate.json", "index.html"}
    assert NAME not in done.stdout + done.stderr + "".join(path.read_text() for path in written)


def test_great_expectations_sees_numbers_and_booleans_only(checkout: Checkout) -> None:
    shard("aa", {})
    shards = [paths.INGESTED / "aa.parquet"]
    (derived,) = facts.record_facts(shards, across(shards), Params.load())
    assert {name for name, kind in derived.schema.items() if kind == pl.String} == {"shard"}


def test_the_real_english_data_passes(checkout: Checkout, shared_data: Path) -> None:
    from pipeline.ingest.__main__ import run as ingest

    paths.INBOX.mkdir(parents=True)
    for file in shared_data.glob("en.*.jsonl.gz"):
        shutil.copy(file, paths.INBOX)
    ingested = ingest(Params.load(), Progress("ingest"))
    report = validate()
    assert report["rows"]["in"] == ingested["rows"]["out"]
    assert report["success"]
