"""dvc.lock by stage."""

import json
import shutil
from pathlib import Path

import pytest

from flows import dvc_lock
from pipeline.errors import PipelineError
from tests.conftest import ROOT, Checkout


def test_what_another_worker_noted_stands_as_dvc_wrote_it(checkout: Checkout) -> None:
    shutil.copy(ROOT / "dvc.lock", checkout.root)
    before = Path("dvc.lock").read_bytes()
    made = dvc_lock.entry("train")
    dvc_lock.adopt({"train": made | {"cmd": "something else"}})
    assert Path("dvc.lock").read_bytes() != before
    dvc_lock.adopt({"train": dvc_lock.read_handed_back(f"```json\n{json.dumps(made, indent=1)}\n```")})
    assert Path("dvc.lock").read_bytes() == before


def test_a_stage_that_was_never_run_has_no_entry(checkout: Checkout) -> None:
    with pytest.raises(PipelineError, match="nothing of train: run it first"):
        dvc_lock.entry("train")


@pytest.mark.parametrize("text", ["", "```json\n[]\n```", "```json\n{\n```", "train is done"])
def test_what_is_no_entry_is_refused(text: str) -> None:
    with pytest.raises(PipelineError, match="handed back"):
        dvc_lock.read_handed_back(text)
