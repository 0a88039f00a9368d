import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from flows.cli import app
from pipeline import paths
from pipeline.errors import InputError
from pipeline.ingest.__main__ import run as ingest
from pipeline.params import Params
from pipeline.stage import Progress
from tests.conftest import Checkout
from tests.pipeline.test_incoming import NAME, good, record, write


def moelora(*arguments: str) -> Result:
    done = CliRunner().invoke(app, arguments)
    if isinstance(done.exception, Exception):
        raise done.exception
    return done


def question(**changes: Any) -> dict[str, Any]:
    row = record(**changes)
    row["question"] = row.pop("input")
    return row


def test_validate_ends_with_0_for_good_files_and_2_for_others(checkout: Checkout) -> None:
    good()
    done = moelora("validate", "good.jsonl")
    assert done.exit_code == 0
    assert "rows: 2 in, 2 out" in done.stdout
    assert "next: send them" in done.stdout
    write("bad.jsonl", record(), record(input=""), *(record(target=NAME, input=str(n)) for n in range(9)))
    done = moelora("validate", "good.jsonl", "bad.jsonl")
    assert done.exit_code == 2
    assert "target_not_in_choices" in done.stdout
    assert "bad.jsonl:3, 4, 5, 6, 7 and 4 more" in " ".join(done.stdout.split())
    assert NAME not in done.output
    assert not Path("data").exists()
    assert not Path("scratch").exists()


def test_validate_of_a_folder_answers_a_machine(checkout: Checkout) -> None:
    good("batch/good.jsonl")
    write("batch/bad.jsonl", record(input=""))
    done = moelora("validate", "batch", "--json")
    assert done.exit_code == 2
    found = json.loads(done.stdout)
    assert found["quarantine"][0]["places"] == ["batch/bad.jsonl:1"]
    assert found["fits"] is False
    with pytest.raises(InputError, match="nowhere is neither"):
        moelora("validate", "nowhere")


def test_validate_says_what_a_mapping_may_mend_and_finds_it_by_the_path_of_a_link(checkout: Checkout) -> None:
    write("a.jsonl", question(), question(input="b", target="later"))
    Path("b.parquet").write_text(NAME)
    done = moelora("validate", "a.jsonl", "b.parquet")
    assert (done.exit_code, "as ingest.sources in params.yaml says" in done.stdout) == (2, True)
    assert "b.parquet" in done.stdout
    assert "b.parquet:" not in done.stdout  # as a whole, so no line
    checkout.params(ingest__sources=[{"match": "lab/*.jsonl", "fields": {"input": "question"}}])
    assert moelora("validate", "a.jsonl").exit_code == 2
    Path("lab").mkdir()
    Path("lab/visits.jsonl").symlink_to(Path("a.jsonl").resolve())
    assert moelora("validate", "lab").exit_code == 0


def test_quarantine_shows_reasons_and_places(checkout: Checkout) -> None:
    with pytest.raises(InputError, match="moelora stage ingest"):
        moelora("quarantine")
    good("data/inbox/good.jsonl")
    write("data/inbox/bad.jsonl", record(input=""), record(input="b", target=NAME))
    ingest(Params.load(), Progress("ingest"))
    done = moelora("quarantine")
    assert done.exit_code == 0
    assert "2 rows in quarantine" in done.stdout
    assert NAME not in done.output
    groups = json.loads(moelora("quarantine", "--json").stdout)
    assert {(each["reason"], each["field"], each["task"], each["rows"]) for each in groups} == {
        ("empty", "input", "triage", 1),
        ("target_not_in_choices", "target", "triage", 1),
    }
    (shard,) = {each["places"][0].split(":")[0] for each in groups}
    assert (paths.QUARANTINE / f"{shard}.parquet").is_file()


def test_retry_says_what_a_corrected_mapping_saves_and_ingest_does_it(checkout: Checkout) -> None:
    good("data/inbox/good.jsonl")
    write("data/inbox/lab/a.jsonl", question(input="a"), question(input="b"), question(input=""))
    first = ingest(Params.load(), Progress("ingest"))
    assert first["rows"]["quarantined"] == 3
    said = json.loads(moelora("quarantine", "--retry", "--json").stdout)
    assert (said["quarantined"], said["read_now"]) == (3, 0)
    checkout.params(ingest__sources=[{"match": "lab/*.jsonl", "fields": {"input": "question"}}])
    done = moelora("quarantine", "--retry")
    assert "2 of 3 quarantined rows would be read now" in done.stdout
    assert "next: moelora retrain" in done.stdout
    said = json.loads(moelora("quarantine", "--retry", "--json").stdout)
    assert [(each["reason"], each["rows"]) for each in said["still"]] == [("empty", 1)]
    progress = Progress("ingest")
    second = ingest(Params.load(), progress)
    assert second["rows"]["out"] == first["rows"]["out"] + said["read_now"]
    assert progress.state["work"]["shards_parsed"] == 1


def test_retry_tells_of_files_that_are_gone(checkout: Checkout) -> None:
    good("data/inbox/good.jsonl")
    write("data/inbox/a.jsonl", record(input=""))
    write("data/inbox/b.jsonl", record(input="", target="later"))
    ingest(Params.load(), Progress("ingest"))
    Path("data/inbox/b.jsonl").unlink()
    assert json.loads(moelora("quarantine", "--retry", "--json").stdout)["files_gone"] == 1
    shutil.rmtree("data/inbox")
    with pytest.raises(InputError, match="no file of the inbox"):
        moelora("quarantine", "--retry")
