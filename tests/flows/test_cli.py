import json
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from flows.cli import app, ready
from tests.conftest import ROOT, Checkout

COMMANDS = [
    command.name or command.callback.__name__ for command in app.registered_commands if command.callback
]


def moelora(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "flows.cli", *arguments], capture_output=True, text=True)


def test_help_answers_in_half_a_second() -> None:
    took = []
    for _ in range(5):
        started = time.monotonic()
        done = moelora("--help")
        took.append(time.monotonic() - started)
        assert done.returncode == 0
    print(f"moelora --help: {min(took):.2f} s")
    assert min(took) < 0.5


def test_the_commands_of_the_design_are_there() -> None:
    wanted = "retrain prepare stage sample-data validate quarantine deidentify audit-phi releases promote rollback verify pull predict prune serve merge lineage reproduce erase signing-key report trends compare history base up deploy work doctor ui services"
    assert set(COMMANDS) == set(wanted.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_shows_an_example(command: str) -> None:
    assert f"Example: moelora {command}" in " ".join(moelora(command, "--help").stdout.split())


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    heavy = ["prefect", "torch", "boto3", "polars", "pydantic", "dvc", "yaml"]
    code = f"import sys, flows.cli; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_a_bad_setting_ends_with_2_and_one_line(checkout: Checkout) -> None:
    done = moelora("retrain", "--set", "train.rnak=8")
    assert done.returncode == 2
    assert done.stderr.startswith("error params.yaml: train.rnak: ")
    assert done.stderr.count("\n") == 1
    assert moelora("retrain", "--set", "nonsense").returncode == 2


def test_a_missing_inbox_ends_with_2(checkout: Checkout) -> None:
    done = moelora("retrain", "--inbox", "nowhere")
    assert done.returncode == 2
    assert "nowhere is no folder" in done.stderr
    assert moelora("retrain", "--include", "*.csv").returncode == 2
    Path("notes").mkdir()
    Path("notes/a.txt").write_text("A note")
    done = moelora("retrain", "--inbox", "notes", "--include", "*.txt")
    assert done.returncode == 2
    assert "1 files that ingest.include" in done.stderr
    assert not Path("data/inbox").exists()


def test_own_data_without_a_key_ends_with_2_and_the_command_that_makes_one(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MOELORA_DEID_KEY", raising=False)
    Path("own").mkdir()
    Path("own/Featherstone.jsonl").write_text("{}\n")
    from flows import inbox
    from pipeline.errors import DeidKeyError

    inbox.link(Path("own"), ["*.jsonl"])
    with pytest.raises(DeidKeyError, match="openssl rand -base64 32"):
        ready.prepare_key()


def test_sample_data_is_written_privately_and_never_beside_other_data(checkout: Checkout) -> None:
    done = moelora("sample-data")
    assert done.returncode == 0, done.stderr
    assert "next: moelora retrain" in done.stdout
    assert list(Path("data/inbox/sample").iterdir())
    Path("data/inbox/own").mkdir()
    Path("data/inbox/own/a.jsonl").write_text("{}\n")
    refused = moelora("sample-data")
    assert refused.returncode == 2
    assert "--to" in refused.stderr
    assert moelora("sample-data", "--to", "elsewhere").returncode == 0


def test_doctor_says_what_is_missing_and_how_to_mend_it(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    done = moelora("doctor", "--json")
    assert done.returncode == 1
    found = {check["what"]: check for check in json.loads(done.stdout)}
    assert found["git"]["state"] == "missing"
    assert "git init" in found["git"]["remedy"]
    assert found["Prefect"]["state"] == "missing"
    assert found["inbox"]["state"] == "later"
    assert found["params.yaml"]["state"] == "ok"
    assert (found["registry"]["state"], found["registry"]["remedy"]) == ("later", "moelora services start")
    assert moelora("doctor").returncode == 1


@pytest.mark.parametrize(("arguments", "wanted"), [([], None), (["--task-fallback", "mean"], "mean")])
def test_predict_hands_the_fallback_on(
    arguments: list[str], wanted: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline import predict

    asked = []
    registry = SimpleNamespace(pull=lambda release, tell, manifest_sha256: Path(release))
    monkeypatch.setattr(ready, "registry", lambda: registry)
    monkeypatch.setattr(ready, "prepare_base", lambda: None)
    monkeypatch.setattr(predict, "predict", lambda *given: asked.append(given) or "yes")
    line = ["predict", "--task", "gout", "--text", "A?", "--release", "0" * 16, *arguments]
    done = CliRunner().invoke(app, line)
    assert (done.exit_code, done.stdout) == (0, "yes\n"), done.output
    assert asked == [(Path("0" * 16), "gout", "A?", None, wanted)]
    assert CliRunner().invoke(app, [*line, "--task-fallback", "median"]).exit_code == 2


def test_make_run_calls_a_command_that_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    used = {line.split()[1] for line in makefile.splitlines() if line.startswith("\tmoelora ")}
    assert used <= set(COMMANDS)


def test_deidentify_shows_what_would_be_replaced(checkout: Checkout) -> None:
    Path("note.txt").write_text("Seen by Dr. Ada Lopez on 3/9/2024 for a sharp pain.\n")
    done = moelora("deidentify", "note.txt")
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"Seen by \[-Dr\. Ada Lopez-\]\{\+Dr\. \w+ \w+\+\} on \[-3/9/2024-\]\{\+\S+\+\} for a sharp",
        done.stdout,
    )
    assert "found: DATE 1, NAME 1" in done.stdout


def test_audit_phi_measures_and_writes_what_was_found(checkout: Checkout) -> None:
    text = "Seen by Dr. Ada Lopez on 3/9/2024, MRN 1234567."
    spans = [(12, 21, "NAME"), (25, 33, "DATE"), (0, 4, "ID")]
    rows = [
        {
            "doc_id": "notes/1",
            "text": text,
            "spans": [{"start": start, "end": end, "category": kind} for start, end, kind in spans],
        },
        {"doc_id": "notes/2", "text": "Visto por Ana", "spans": [], "language": "es"},
    ]
    Path("gold.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = moelora("audit-phi", "gold.jsonl", "--spans", "found.jsonl")
    assert done.returncode == 0, done.stderr
    cells = [line.split() for line in done.stdout.splitlines()]
    assert ["notes", "PHI", "2/3", "0.6667"] in [row[:4] for row in cells]
    assert "1 documents; 1 of other languages were left out" in done.stdout
    (found,) = map(json.loads, Path("found.jsonl").read_text().splitlines())
    assert found["doc_id"] == "notes/1"
    assert {text[span["start"] : span["end"]] for span in found["spans"]} == {
        "Dr. Ada Lopez",
        "3/9/2024",
        "1234567",
    }
    as_json = json.loads(moelora("audit-phi", "gold.jsonl", "--json").stdout)
    assert [row["category"] for row in as_json] == ["PHI", "NAME", "DATE", "ID"]
    assert moelora("audit-phi", "missing.jsonl").returncode == 2
