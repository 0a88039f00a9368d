"""Progress is decoration: whatever Prefect does, the stage goes on. What the artifacts show."""

import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.exceptions import PrefectHTTPStatusError

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


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("nobody there"),
        PrefectHTTPStatusError(
            "500", request=httpx.Request("POST", "http://x"), response=httpx.Response(500)
        ),
    ],
)
def test_a_progress_that_prefect_does_not_take_is_told_once(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries = []

    def refuse(*args: object, **options: object) -> None:
        tries.append(args)
        raise error

    monkeypatch.setattr(reports, "WORTH_SHOWING", 0.0)
    monkeypatch.setattr(reports, "PAUSE", 0.0)
    monkeypatch.setattr(reports, "create_progress_artifact", refuse)
    monkeypatch.setattr(reports, "get_logger", logging.getLogger)
    progress = reports.Progress("train")
    for done in (1, 2):
        progress.show({"done": done, "total": 2, "message": "steps"})
    assert len(tries) == 2
    assert [record.getMessage() for record in caplog.records if record.name == "moelora"] == [
        f"train goes on; its progress is not shown ({type(error).__name__})"
    ]


def test_progress_tells_the_time_left_from_the_pace_of_this_run(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    now = [100.0]
    monkeypatch.setattr(reports.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(reports.Progress, "_send", lambda self, percent, text: sent.append(text))
    progress = reports.Progress("train")
    for seconds, done in ((0, 500), (60, 510), (120, 520), (600, 599), (610, 600)):
        now[0] = 100.0 + seconds
        progress.show({"done": done, "total": 600, "message": "loss 1.2"})
    assert [text.removeprefix("train: ") for text in sent] == [
        # A resumed training had 500 steps behind it: they say nothing of the pace.
        "510 of 600. loss 1.2 About 9 min left.",
        "520 of 600. loss 1.2 About 8 min left.",
        "599 of 600. loss 1.2 Less than a minute left.",
        "600 of 600. loss 1.2",
    ]


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
