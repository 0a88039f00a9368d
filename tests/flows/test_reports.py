"""What the artifacts show."""

from pathlib import Path
from typing import Any

import pytest

from flows import reports
from pipeline import paths

TRAIN: dict[str, Any] = {
    "steps": 20,
    "best_step": 10,
    "curve": [{"step": step, "loss": 3.0 / step} for step in range(1, 21)],
    "validation": [
        {"step": 10, "mean": 0.75, "tasks": {"rqe": 0.5, "summary": 1.0}},
        {"step": 20, "mean": 0.8, "tasks": {"rqe": 0.4, "summary": 1.2}},
    ],
}


def test_training_names_the_saved_the_lowest_and_the_last_loss_of_each_task() -> None:
    losses = "validation loss as saved, step 10"
    assert reports.validation_losses(TRAIN) == [
        {"task": "rqe", losses: "0.500", "lowest": "0.400 at step 20", "last": "0.400"},
        {"task": "summary", losses: "1.000", "lowest": "1.000 at step 10", "last": "1.200"},
        {"task": "mean over tasks", losses: "0.750", "lowest": "0.750 at step 10", "last": "0.800"},
    ]
    assert reports.validation_losses(TRAIN | {"validation": []}) == []


def test_training_shows_the_pictures_that_the_stage_drew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "![" not in reports.training(TRAIN)
    folder = paths.PLOTS / "train"
    folder.mkdir(parents=True)
    (folder / "losses.png").write_bytes(b"\x89PNG")
    assert reports.training(TRAIN).endswith(
        "![training and validation loss of each task over the steps](data:image/png;base64,iVBORw==)"
    )


def test_what_drifted_is_told_with_both_shares() -> None:
    moved = {"soon": {"before": 0.5, "after": 0.25}}
    drift = [
        {"figure": "labels", "task": "triage", "moved": moved},
        {"figure": "tasks", "task": None, "moved": {}},
    ]
    _, told = reports.validate_table({"expectations": [], "drift": drift})
    assert told.endswith("now:\n- labels of triage: soon 50.0 % → 25.0 %")
    assert reports.validate_table({"expectations": [], "drift": None})[1] == "0 expectations, 0 missed."
    found = {"found": {}, "recall": {}, "residual": {}, "replaced": {}, "recall_overall": 0.9}
    found |= {"residual_records": 0, "rows": {"in": 2, "out": 2}}
    _, told = reports.deidentify_table(found | {"drift": {"NAME": {"before": 0.1, "after": 0.3}}})
    assert "in the baseline and now: NAME 10.0 % → 30.0 %." in told
    assert "baseline" not in reports.deidentify_table(found | {"drift": None})[1]
