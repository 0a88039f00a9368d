import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import Checkout

SECRET = "Wilhelmina Featherstone"


def run_program(stage: str, body: str) -> subprocess.CompletedProcess[str]:
    """Run ``body`` as the ``run`` of a stage in a process of its own."""
    return subprocess.run([sys.executable, "-c", program(stage, body)], capture_output=True, text=True)


def program(stage: str, body: str, end: str = "") -> str:
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return (
        "import time\nfrom pathlib import Path\nfrom pipeline.errors import *\nfrom pipeline.stage import main\n"
        f"def run(params, progress):\n{lines}\nmain({stage!r}, run{end})\n"
    )


def status(stage: str) -> dict[str, object]:
    return json.loads(Path(f"scratch/status/{stage}.json").read_text())


def test_the_report_and_the_outcome_are_written(checkout: Checkout) -> None:
    done = run_program("split", "progress.count(shards=2)\nreturn {'rows': {'in': 3, 'out': 3}}")
    assert done.returncode == 0
    assert json.loads(Path("reports/split.json").read_text()) == {"rows": {"in": 3, "out": 3}}
    assert status("split")["state"] == "done"
    assert status("split")["work"] == {"shards": 2}


def test_bad_input_ends_with_2_and_its_message(checkout: Checkout) -> None:
    done = run_program("split", "raise DataError('shard 0123: field input: mend it')")
    assert done.returncode == 2
    assert "shard 0123: field input: mend it" in done.stderr
    assert "Traceback" not in done.stderr
    assert status("split")["exit_code"] == 2
    assert not Path("reports/split.json").exists()


def test_a_typo_in_params_names_the_key(checkout: Checkout) -> None:
    checkout.params(train__rnak=8)
    done = run_program("split", "return {}")
    assert done.returncode == 2
    assert "train.rnak" in done.stderr


@pytest.mark.parametrize("stage", ["ingest", "split", "evaluate"])
def test_a_crash_is_told_by_type_and_place_without_a_value(checkout: Checkout, stage: str) -> None:
    body = f"patient = {SECRET!r}\nraise ValueError(patient)"
    done = run_program(stage, body)
    assert done.returncode == 1
    assert "ValueError" in done.stderr
    assert "<string>:7" in done.stderr
    assert SECRET not in done.stdout + done.stderr + Path(f"scratch/status/{stage}.json").read_text()


def test_a_missing_file_in_a_raw_stage_prints_no_name(checkout: Checkout) -> None:
    done = run_program("ingest", f"Path({SECRET!r}).read_text()")
    assert done.returncode == 1
    assert "No such file" in done.stderr
    assert SECRET not in done.stderr


def test_logs_and_warnings_of_libraries_are_off_in_a_raw_stage(checkout: Checkout) -> None:
    body = f"import logging, warnings\nlogging.error({SECRET!r})\nwarnings.warn({SECRET!r})\nreturn {{}}"
    done = run_program("deidentify", body)
    assert done.returncode == 0
    assert SECRET not in done.stdout + done.stderr


def start(stage: str, body: str, end: str = "") -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", program(stage, body, end)], text=True)
    while not Path("started").exists():
        time.sleep(0.02)
    return process


def test_a_signal_ends_a_stage_with_75(checkout: Checkout) -> None:
    process = start("split", "Path('started').touch()\ntime.sleep(60)\nreturn {}")
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(10) == 75
    assert status("split")["state"] == "stopped"


def test_a_stage_that_saves_is_told_and_ends_where_it_is_safe(checkout: Checkout) -> None:
    body = (
        "Path('started').touch()\nwhile not progress.stop_requested:\n    time.sleep(0.01)\n"
        "Path('saved').touch()\nprogress.check_stop()"
    )
    process = start("train", body, ", saves_on_stop=True")
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(10) == 75
    assert Path("saved").exists()
