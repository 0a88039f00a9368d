import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline import paths
from pipeline.errors import DataError, InputError
from pipeline.params import Params
from pipeline.records import INGESTED_SCHEMA
from pipeline.stage import Progress, Report
from pipeline.validate import facts
from pipeline.validate.__main__ import run
from tests.conftest import Checkout

NAME = "Featherstone"
RELEASE = "0123456789abcdef"


def shard(digest: str, *changes: dict[str, Any], drop: str | None = None) -> None:
    """Write a shard with one record for each dict of changes; every text field holds NAME."""
    rows = [
        {
            "sample_id": f"{NAME} {digest} {line}",
            "task": "triage",
            "task_type": "classification",
            "input": f"{NAME} has chest pain",
            "target": f"Dr. {NAME}",
            "answer_choices": [f"Dr. {NAME}", "nobody"],
            "group_id": f"{NAME} {digest} {line}",
            "language": "en",
            "source": NAME,
            "split": None,
            "task_label": "triage",
            "shard": digest,
            "line": line,
        }
        | change
        for line, change in enumerate(changes, 1)
    ]
    paths.INGESTED.mkdir(parents=True, exist_ok=True)
    frame = pl.DataFrame(rows, schema=INGESTED_SCHEMA)
    (frame.drop(drop) if drop else frame).write_parquet(paths.INGESTED / f"{digest}.parquet")


def validate() -> Report:
    return run(Params.load(), Progress("validate"))


def found(report: Report, column: str, level: str) -> dict[str, Any]:
    return next(e for e in report["expectations"] if (e["column"], e["level"]) == (column, level))


def test_good_records_pass_and_all_are_counted(checkout: Checkout) -> None:
    shard("aa", {}, {"split": "train"})
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
    shard("bb", {"task": "lonely"}, {"task": "family", "group_id": "g"}, {"task": "family", "group_id": "g"})
    report = validate()
    assert report["success"]
    assert found(report, "input_characters", "warning")["shards"] == {"aa": [3]}
    assert found(report, "target_characters", "warning")["shards"] == {"aa": [4]}
    assert found(report, "records", "warning")["tasks"] == ["lonely"]
    assert found(report, "groups", "warning")["tasks"] == ["family", "lonely"]
    out = capsys.readouterr().out
    assert out.count("validate: warning ") == 4
    assert "at most 100" in out
    assert NAME not in out


def test_blocks_of_shards_give_the_same_report(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    for digest in ("aa", "bb", "cc", "dd", "ee"):
        shard(digest, {}, {"input": "x" * 100_001}, {})
    whole = validate()
    monkeypatch.setattr(facts, "BLOCK_ROWS", 4)
    assert validate() == whole
    assert found(whole, "input_characters", "warning")["unexpected"] == 5


def test_nothing_ingested_says_what_to_run(checkout: Checkout) -> None:
    with pytest.raises(DataError, match=r"pipeline\.ingest"):
        validate()


def test_a_missing_baseline_says_how_to_get_it(checkout: Checkout) -> None:
    checkout.params(validate__baseline=RELEASE)
    shard("aa", {})
    with pytest.raises(InputError, match=f"moelora pull {RELEASE}"):
        validate()


def baseline(**tasks: int) -> None:
    profile = {
        "languages": {"en": sum(tasks.values())},
        "length_edges": [0, 50, 100],
        "tasks": {task: {"rows": rows, "input_lengths": [rows, 0, 0]} for task, rows in tasks.items()},
    }
    folder = paths.cache_root() / "open/releases" / RELEASE
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "profile.json").write_text(json.dumps(profile))


def test_drift_from_the_baseline_is_a_warning(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    checkout.params(validate__baseline=RELEASE)
    shard("aa", *[{}] * 5, *[{"task": "other"}] * 5)
    baseline(triage=50, other=50)
    assert all(
        found(validate(), c, "warning")["success"] for c in ("task_mix_distance", "input_length_distance")
    )
    baseline(triage=90, gone=10)
    assert not found(validate(), "task_mix_distance", "warning")["success"]
    shard("aa", *[{"input": "x" * 60, "language": "de"}] * 3)
    report = validate()
    assert not found(report, "input_length_distance", "warning")["success"]
    assert not found(report, "language_mix_distance", "warning")["success"]
    assert "task_mix_distance at most 0.2" in capsys.readouterr().out
    baseline()
    (paths.cache_root() / "open/releases" / RELEASE / "profile.json").write_text("[]")
    with pytest.raises(InputError, match=r"validate\.baseline"):
        validate()


def test_distances_are_total_variation(checkout: Checkout) -> None:
    shard("aa", *[{}] * 3, {"task": "other", "input": "x" * 120})
    baseline(triage=1, other=1)
    profile = json.loads((paths.cache_root() / "open/releases" / RELEASE / "profile.json").read_text())
    across = facts.across_shards([paths.INGESTED / "aa.parquet"])
    assert facts.drift(profile, across).row(0, named=True) == {
        "task_mix_distance": 0.25,
        "language_mix_distance": 0.0,
        "input_length_distance": 0.25,
    }


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
    across = facts.across_shards([paths.INGESTED / "aa.parquet"])
    derived = facts.record_facts(paths.INGESTED / "aa.parquet", across, Params.load().validate_)
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
