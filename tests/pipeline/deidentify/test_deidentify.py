"""The stage: ingested shards in, surrogates out, and nothing of a patient anywhere else."""

import base64
import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline import key, paths
from pipeline.deidentify import audit, findings, run
from pipeline.deidentify.findings import Document, detect_chunk, documents
from pipeline.deidentify.replace import Replaced
from pipeline.deidentify.shards import SCHEMA
from pipeline.deidentify.spans import Span
from pipeline.errors import DataError, DeidKeyError, PipelineError
from pipeline.params import Params
from pipeline.records import INGESTED_SCHEMA
from pipeline.stage import Progress
from tests.conftest import Checkout

KEY = base64.b64encode(bytes(range(32))).decode()
NOTE = (
    "Patient: Wilhelmina Featherstone, MRN 84620175, seen on 2024-03-09 and on March 16th, 2024. "
    "She is 93 years old, lives at 12 Quarry Road, Dayton, OH 45410, call 555-867-5309 or "
    "wilhelmina.featherstone@hospital.org. "
    "Known Parkinson's disease."
)
PLANTED = (
    "Wilhelmina",
    "Featherstone",
    "84620175",
    "Quarry",
    "867-5309",
    "Quillfeather",
    "2024-03-09",
    "45410",
)


def record(**values: Any) -> dict[str, Any]:
    return {
        "sample_id": "Featherstone-1",
        "task": "visit-summary",
        "task_type": "summarization",
        "input": NOTE,
        "target": "Ms. Featherstone (MRN 84620175) was seen on 2024-03-09.",
        "answer_choices": None,
        "group_id": "Featherstone, Wilhelmina (84620175)",
        "language": "en",
        "source": "ward of Dr. Thaddeus Quillfeather",
        "split": None,
        "task_label": "visit-summary",
    } | values


def signature(**values: Any) -> dict[str, Any]:
    choices = ["Dr. Thaddeus Quillfeather", "Dr. Ann Smith"]
    asked = f"Wilhelmina was examined. Signed: {choices[0]}\nWho signed?\nOptions: {', '.join(choices)}"
    return record(
        sample_id="Featherstone-2", task="note-signature", task_type="qa_choice", input=asked,
        target=choices[0], answer_choices=choices,
    ) | values  # fmt: skip


def triage(**values: Any) -> dict[str, Any]:
    return record(
        sample_id="Featherstone-3", task="triage", task_type="classification",
        input="Featherstone has chest pain.", target="emergency", answer_choices=["emergency", "routine"],
    ) | values  # fmt: skip


def ingest(shard: str, *rows: dict[str, Any]) -> None:
    paths.INGESTED.mkdir(parents=True, exist_ok=True)
    lines = [row | {"shard": shard, "line": number} for number, row in enumerate(rows, 1)]
    pl.DataFrame(lines, schema=INGESTED_SCHEMA).write_parquet(paths.INGESTED / f"{shard}.parquet")


def validated(report: dict[str, Any]) -> None:
    paths.REPORTS.mkdir(exist_ok=True)
    paths.report("validate").write_text(json.dumps(report))


def deidentify() -> tuple[dict[str, Any], dict[str, int]]:
    progress = Progress("deidentify")
    return run(Params.load(), progress), progress.state["work"]


def output() -> pl.DataFrame:
    return pl.concat([pl.read_parquet(path) for path in sorted(paths.DEIDENTIFIED.glob("*.parquet"))])


@pytest.fixture
def stage(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """A checkout with a key, that detects in this process."""
    monkeypatch.setenv(key.VARIABLE, KEY)
    monkeypatch.setattr("pipeline.deidentify.LABELLED_DOCUMENTS", 10)
    checkout.params(deidentify__workers=1)
    key.write_key_id({"a"})
    validated({"success": True})
    return checkout


def test_nothing_planted_leaves_the_private_area(stage: Checkout) -> None:
    ingest("00000000000000aa", record(), signature())
    ingest("00000000000000bb", triage())
    done = subprocess.run([sys.executable, "-m", "pipeline.deidentify"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = done.stdout + done.stderr
    for path in Path().rglob("*"):
        if (
            path.is_file()
            and not path.is_relative_to(paths.INGESTED)
            and not path.is_relative_to("scratch/raw")
        ):
            written += path.read_bytes().decode(errors="replace") + path.name
    written += output().write_ndjson()
    for planted in PLANTED:
        assert planted.lower() not in written.lower(), planted
    assert Path("scratch/raw").stat().st_mode & 0o777 == 0o700
    for path in filter(Path.is_file, Path("scratch/raw").rglob("*")):
        held = pl.read_parquet(path).write_ndjson() if path.suffix == ".parquet" else path.read_text()
        assert "Featherstone" not in held


def test_a_crash_names_shard_line_and_type_only(stage: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(texts: list[str]) -> list[list[Span]]:
        if any("84620175" in text for text in texts):
            raise ValueError(texts)
        return [[] for _ in texts]

    class Crashing:
        detect = staticmethod(crash)

    monkeypatch.setattr("pipeline.deidentify.detect.detector", lambda min_score: Crashing)
    ingest("00000000000000aa", triage(), record())
    with pytest.raises(PipelineError) as raised:
        deidentify()
    assert str(raised.value).startswith(
        "deidentify: shard 00000000000000aa, line 2: detection failed with ValueError"
    )
    assert not paths.DEIDENTIFIED.exists()


def test_records_come_out_whole_and_pseudonymised(stage: Checkout) -> None:
    ingest("00000000000000aa", record(), signature(split="test"), record(sample_id="x", group_id=None))
    report, _ = deidentify()
    out = output()
    assert report["rows"] == {"in": 3, "out": 3, "quarantined": 0}
    assert report["quarantine"] == {"choices_coincide": 0, "target_not_a_choice": 0}
    assert out.schema == SCHEMA
    assert out["sample_id"].is_sorted()
    assert out["sample_id"].n_unique() == 3
    assert out["group_id"].n_unique() == 2
    assert out["source"].n_unique() == 1
    assert all(
        set(value) <= set("0123456789abcdef")
        for name in ("sample_id", "group_id", "source")
        for value in out[name]
    )
    assert sorted(out["split"].to_list(), key=str) == [None, None, "test"]
    for row in out.iter_rows(named=True):
        for field in ("input", "target"):
            for span in row[f"{field}_spans"]:
                assert row[field][span["start"] : span["end"]].strip()
        assert "Parkinson's disease" in row["input"] or row["task"] == "note-signature"


def test_a_group_has_the_same_surrogates_in_all_fields_and_shards(stage: Checkout) -> None:
    ingest("00000000000000aa", record())
    ingest(
        "00000000000000bb",
        triage(),
        triage(sample_id="other", group_id="another", input="Featherstone has Featherstone."),
    )
    deidentify()
    rows = {
        row["task"]: row
        for row in output().iter_rows(named=True)
        if "chest pain" in row["input"] or "MRN" in row["input"]
    }
    surname = rows["triage"]["input"].split(" ")[0]
    assert surname != "Featherstone"
    assert f"Ms. {surname}" in rows["visit-summary"]["target"]
    assert f" {surname}, MRN" in rows["visit-summary"]["input"]
    for span in rows["visit-summary"]["target_spans"]:
        target = rows["visit-summary"]["target"]
        value = target[span["start"] : span["end"]].removeprefix("Ms. ")
        assert value in rows["visit-summary"]["input"]
    assert rows["triage"]["answer_choices"] == ["emergency", "routine"]
    assert rows["triage"]["target"] == "emergency"


def test_a_target_stays_among_its_choices_and_in_its_input(stage: Checkout) -> None:
    ingest("00000000000000aa", signature(), signature(sample_id="2", target="Dr. Ann Smith"))
    deidentify()
    for row in output().iter_rows(named=True):
        assert row["target"] in row["answer_choices"]
        assert len(set(row["answer_choices"])) == 2
        assert all(choice in row["input"] for choice in row["answer_choices"])
        assert not set(row["answer_choices"]) & set(signature()["answer_choices"])


@pytest.mark.parametrize(
    ("choices", "dates"),
    [
        (["93", "95"], "shift"),
        (["ZIP 60614", "ZIP 60615"], "shift"),
        (["March 9, 2024", "May 2, 2024"], "year"),
    ],
)
def test_a_record_whose_choices_become_one_is_left_out(
    stage: Checkout, choices: list[str], dates: str
) -> None:
    stage.params(deidentify__dates=dates)
    text = f"Aged {choices[0]}, or aged {choices[1]} years" if choices[0].isdigit() else " or ".join(choices)
    ingest("00000000000000aa", record(), signature(input=text, target=choices[0], answer_choices=choices))
    report, _ = deidentify()
    assert report["rows"] == {"in": 2, "out": 1, "quarantined": 1}
    assert report["quarantine"] == {"choices_coincide": 1, "target_not_a_choice": 0}
    assert output()["task"].to_list() == ["visit-summary"]
    assert sum(report["replaced"].values()) == sum(
        len(row["input_spans"]) + len(row["target_spans"]) for row in output().iter_rows(named=True)
    )


def test_months_among_choices_stay_apart(stage: Checkout) -> None:
    choices = [f"{month} 2023" for month in ("January", "February", "March", "April", "May", "June")]
    ingest(
        "00000000000000aa",
        signature(input=f"Since when? {choices}", target=choices[1], answer_choices=choices),
    )
    report, _ = deidentify()
    assert report["rows"]["quarantined"] == 0
    row = output().row(0, named=True)
    assert len(set(row["answer_choices"])) == len(choices)
    assert row["target"] == row["answer_choices"][1]


def entities(**values: Any) -> dict[str, Any]:
    return record(
        task="relations", task_type="relation", input="Mr. Amara Okonkwo takes aspirin, 123-45-6789.",
        target="takes", answer_choices=["Mr. Amara Okonkwo", "123-45-6789", "takes", "Mr. Label"],
    ) | values  # fmt: skip


def test_a_label_hides_no_phi(stage: Checkout) -> None:
    others = ["123-45-6789", "takes", "Mr. Label"]
    ingest(
        "00000000000000aa",
        entities(),
        *(entities(sample_id=f"other {n}", group_id=str(n), answer_choices=others) for n in range(2)),
    )
    deidentify()
    text = output().write_ndjson()
    assert "Okonkwo" not in text
    assert "123-45-6789" not in text
    for row in output().iter_rows(named=True):
        assert row["answer_choices"][-2:] == ["takes", "Mr. Label"]


def test_labels_of_one_group_are_no_labels(stage: Checkout) -> None:
    ingest("00000000000000aa", entities())
    deidentify()
    assert "Okonkwo" not in output().write_ndjson()


def test_a_record_without_group_keeps_its_group_as_its_file_grows(stage: Checkout) -> None:
    alone = {"group_id": None, "input": "No pain.", "target": "None."}
    ingest("00000000000000aa", record(source="00000000000000aa", **alone))
    deidentify()
    before = output()["group_id"][0]
    ingest(
        "00000000000000bb", record(source="00000000000000bb", **alone), record(sample_id="2", group_id=None)
    )
    (paths.INGESTED / "00000000000000aa.parquet").unlink()
    deidentify()
    after = output()
    assert after.filter(pl.col("input") == "No pain.")["group_id"].to_list() == [before]
    assert after["group_id"].n_unique() == 2


def test_the_language_is_written_without_script_and_region(stage: Checkout) -> None:
    ingest("00000000000000aa", record(language="en-Jane"), record(sample_id="2", language="EN-US"))
    deidentify()
    assert output()["language"].to_list() == ["en", "en"]


@pytest.mark.parametrize("report", [None, {"success": False}, {"rows": {}}])
def test_data_that_is_not_validated_is_refused(stage: Checkout, report: dict[str, Any] | None) -> None:
    ingest("00000000000000aa", record())
    if report is None:
        paths.report("validate").unlink()
    else:
        validated(report)
    with pytest.raises(DataError, match="run validate") as raised:
        deidentify()
    assert raised.value.exit_code == 2
    assert not paths.DEIDENTIFIED.exists()


def test_what_decides_a_finding_is_in_the_key_of_the_cache() -> None:
    names = {path.relative_to(Path(findings.__file__).parents[1]).as_posix() for path in findings.CODE}
    assert {"records.py", "deidentify/__init__.py", "deidentify/vocabulary.py"} <= names
    assert all(path.is_file() for path in findings.CODE)


def test_intervals_between_dates_stay(stage: Checkout) -> None:
    import re
    from datetime import datetime, timedelta

    ingest("00000000000000aa", record())
    deidentify()
    text = output()["input"][0]
    first = datetime.fromisoformat(re.findall(r"\d{4}-\d\d-\d\d", text)[0])
    second = datetime.strptime(
        re.findall(r"and on (\w+ \d+)\w\w, (\d{4})", text)[0][0]
        + " "
        + re.findall(r"\w\w, (\d{4})", text)[0],
        "%B %d %Y",
    )
    assert second - first == timedelta(days=7)
    assert first != datetime(2024, 3, 9)


def test_another_key_changes_every_surrogate(stage: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    ingest("00000000000000aa", record())
    first_report, _ = deidentify()
    first = output().row(0, named=True)
    monkeypatch.setenv(key.VARIABLE, base64.b64encode(bytes(32)).decode())
    with pytest.raises(DeidKeyError, match=r"data/key\.id"):
        deidentify()
    key.write_key_id({"a"})
    second_report, _ = deidentify()
    second = output().row(0, named=True)
    assert first_report["key_id"] != second_report["key_id"]
    for field in ("sample_id", "group_id", "source"):
        assert first[field] != second[field]
    spans = [[row["input"][s["start"] : s["end"]] for s in row["input_spans"]] for row in (first, second)]
    assert len(spans[0]) == len(spans[1])
    # An age class and three digits of a ZIP code are no secrets of a key.
    assert all(a != b for a, b in zip(*spans, strict=True) if a != "90+")


def test_only_a_changed_shard_is_searched_again(stage: Checkout) -> None:
    ingest("00000000000000aa", record(), signature())
    ingest("00000000000000bb", triage(), triage(sample_id="4", group_id="z", input="No pain."))
    _, first = deidentify()
    report, again = deidentify()
    bytes_again = {path.name: path.read_bytes() for path in paths.DEIDENTIFIED.iterdir()}
    assert first["documents_reused"] == 0
    assert again == {"documents_detected": 0, "documents_reused": first["documents_detected"]}
    ingest("00000000000000bb", triage(), triage(sample_id="4", group_id="z", input="No pain at all."))
    _, changed = deidentify()
    assert changed == {"documents_detected": 4, "documents_reused": first["documents_detected"] - 4}
    ingest("00000000000000bb", triage(), triage(sample_id="4", group_id="z", input="No pain."))
    assert deidentify()[0] == report
    assert {path.name: path.read_bytes() for path in paths.DEIDENTIFIED.iterdir()} == bytes_again


def test_the_number_of_processes_changes_no_byte(stage: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    ingest("00000000000000aa", *(record(sample_id=str(n), input=f"{NOTE} Visit {n}.") for n in range(12)))
    monkeypatch.setattr(findings, "CHUNK_CHARACTERS", 700)
    report, _ = deidentify()
    alone = {path.name: path.read_bytes() for path in paths.DEIDENTIFIED.iterdir()}
    stage.params(deidentify__workers=2)
    monkeypatch.setenv("MOELORA_CACHE", "other")
    assert deidentify()[0] == report
    assert {path.name: path.read_bytes() for path in paths.DEIDENTIFIED.iterdir()} == alone


@pytest.mark.slow
def test_ray_changes_no_byte(stage: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    ingest("00000000000000aa", *(record(sample_id=str(n), input=f"{NOTE} Visit {n}.") for n in range(6)))
    monkeypatch.setattr(findings, "CHUNK_CHARACTERS", 700)
    report, _ = deidentify()
    alone = {path.name: path.read_bytes() for path in paths.DEIDENTIFIED.iterdir()}
    stage.params(deidentify__workers=2, deidentify__executor="ray")
    monkeypatch.setenv("MOELORA_CACHE", "other")
    again, work = deidentify()
    assert again == report
    assert work["documents_detected"] > 0
    assert {path.name: path.read_bytes() for path in paths.DEIDENTIFIED.iterdir()} == alone


@pytest.mark.parametrize("seed", range(3))
def test_any_order_of_arrival_growth_and_deletion_gives_the_bytes_of_one_run(
    stage: Checkout, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    draw = random.Random(seed)
    shards = {
        f"{number:016x}": [
            record(
                sample_id=f"{number}-{line}",
                group_id=group,
                input=f"{name} came on 2024-03-0{line + 1}. Call {name}.",
            )
            for line, (group, name) in enumerate(
                [
                    ("a", "Wilhelmina Featherstone"),
                    ("b", f"Thaddeus Quillfeather{'x' * number}"),
                    (None, "Ada Moss"),
                ]
            )
        ]
        for number in range(4)
    }
    for shard, rows in shards.items():
        ingest(shard, *rows)
    report, _ = deidentify()
    whole = {path.name: path.read_bytes() for path in paths.DEIDENTIFIED.iterdir()}
    for path in paths.INGESTED.iterdir():
        path.unlink()
    monkeypatch.setenv("MOELORA_CACHE", f"cache-{seed}")
    order = draw.sample(sorted(shards), len(shards))
    for place, shard in enumerate(order):
        # A shard comes with some of its rows, and grows; another one comes and goes.
        ingest(shard, *shards[shard][: draw.randint(1, 2)])
        if place:
            ingest("ffffffffffffffff", record(sample_id="passing", group_id="a"))
        deidentify()
        (paths.INGESTED / "ffffffffffffffff.parquet").unlink(missing_ok=True)
        ingest(shard, *shards[shard])
    assert deidentify()[0] == report
    assert {path.name: path.read_bytes() for path in paths.DEIDENTIFIED.iterdir()} == whole


def test_other_languages_are_refused_or_passed_and_never_silently(stage: Checkout) -> None:
    spanish = record(sample_id="es", language="es", input="Paciente Ana", target="sí", group_id=None)
    ingest("00000000000000aa", record(), spanish)
    with pytest.raises(
        DataError, match=r"shard 00000000000000aa has 1 in es.*deidentify\.other_languages: pass"
    ) as raised:
        deidentify()
    assert raised.value.exit_code == 2
    stage.params(deidentify__other_languages="pass")
    report, _ = deidentify()
    assert report["rows"] == {"in": 2, "out": 2, "quarantined": 0}
    assert report["passed_undetected"] == {"es": 1}
    kept = output().filter(pl.col("language") == "es").row(0, named=True)
    assert (kept["input"], kept["target"], kept["input_spans"]) == ("Paciente Ana", "sí", [])
    assert kept["sample_id"] != "es"


def test_chinese_records_are_searched_by_their_own_detector(stage: Checkout) -> None:
    note = "患者姓名：李小明，男，92岁，电话13812345678，2023年5月6日入院。李小明诉胸痛。"
    ingest("00000000000000aa", record(language="zh-Hans", input=note, target="李小明，胸痛"))
    report, _ = deidentify()
    row = output().row(0, named=True)
    assert report["passed_undetected"] == {}
    assert report["found"]["NAME"] == 1
    assert row["language"] == "zh"
    for planted in ("李小明", "92岁", "13812345678", "5月6日"):
        assert planted not in row["input"] + row["target"]
    name = re.search("姓名：(.{3})，", row["input"])
    assert name is not None
    assert row["input"].count(name[1]) == 2
    assert row["target"] == f"{name[1]}，胸痛"


@pytest.mark.parametrize(
    ("value", "message"), [(None, "MOELORA_DEID_KEY is not set"), ("c2hvcnQ=", "5 bytes instead of 32")]
)
def test_a_missing_or_malformed_key_ends_with_2(
    stage: Checkout, monkeypatch: pytest.MonkeyPatch, value: str | None, message: str
) -> None:
    ingest("00000000000000aa", record())
    monkeypatch.delenv(key.VARIABLE)
    if value:
        monkeypatch.setenv(key.VARIABLE, value)
    done = subprocess.run([sys.executable, "-m", "pipeline.deidentify"], capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr
    assert "openssl rand -base64 32" in done.stderr


def test_nothing_ingested_and_unreadable_shards_are_input_errors(stage: Checkout) -> None:
    with pytest.raises(DataError, match="run ingest first"):
        deidentify()
    paths.INGESTED.mkdir(parents=True)
    (paths.INGESTED / "00000000000000aa.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="00000000000000aa cannot be read"):
        deidentify()


def test_two_records_with_one_id_are_named_by_place(stage: Checkout) -> None:
    ingest("00000000000000aa", record(), record())
    with pytest.raises(DataError, match="shard 00000000000000aa, line 1 and shard 00000000000000aa, line 2"):
        deidentify()


def test_the_report_measures_recall_and_what_is_left(stage: Checkout) -> None:
    ingest("00000000000000aa", record())
    report, _ = deidentify()
    assert set(report["recall"]) == {"NAME", "DATE", "LOCATION", "CONTACT", "ID", "AGE"}
    for kind in report["recall"].values():
        assert kind["recall"] == pytest.approx(kind["found"] / kind["labelled"], abs=1e-4)
    assert report["recall_overall"] > 0.9
    assert report["residual_records"] == 0
    assert report["found"]["NAME"] >= 2
    assert json.loads(json.dumps(report)) == report


def test_the_audit_finds_what_detection_left() -> None:
    patterns = audit.originals(
        [("NAME", "Mary Featherstone"), ("PHONE", "555-867-5309"), ("ID", "AB-84620175")]
    )
    left = audit.left_over(patterns, ["FEATHERSTONE called from (555) 867 5309", "nothing", "id ab-84620175"])
    assert left == {"NAME": 1, "PHONE": 1, "ID": 1}
    replaced = Replaced("mail a@b.org, ann@example.org, 03/04/2024, MRN 12345", [Span(14, 29, "EMAIL")], [])
    shapes = audit.shapes(pl.Series([audit.uncovered(replaced)]))
    assert shapes.row(0, named=True) == {"EMAIL": 1, "PHONE": 0, "ID": 1, "DATE": 1}


def test_labels_are_no_documents_for_the_entity_recogniser() -> None:
    fields = documents(signature())
    assert [document.label for field in fields.values() for document in field] == [False, True, True, True]
    assert detect_chunk([Document("Problem", True)], 0.4) == [[]]


def test_more_patients_with_identifiers_than_in_the_baselines_data_are_told(
    stage: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    release = "0123456789abcdef"
    profile = paths.cache_root() / "open/releases" / release / "profile.json"
    profile.parent.mkdir(parents=True)

    def compared(**found: Any) -> Any:
        profile.write_text(json.dumps({"tasks": {}, "length_edges": [], "deidentification": found}))
        return run(Params.load(), Progress("deidentify"))["drift"]

    ingest("00000000000000aa", *(record(sample_id=str(n), group_id=f"G{n}") for n in range(40)))
    report = run(Params.load(), Progress("deidentify"))
    assert report["drift"] is None
    assert report["independent"]["groups"] == report["independent"]["kinds"]["NAME"] == 40
    stage.params(validate__baseline=release)
    assert compared(independent=report["independent"]) == {}
    assert compared() is None  # of a release that did not count patients
    moved = compared(independent=report["independent"] | {"groups": 400})
    assert moved["NAME"] == {"before": 0.1, "after": 1.0}
    assert "deidentify: records with NAME: 10.0% -> 100.0%" in capsys.readouterr().out
