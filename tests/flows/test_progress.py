"""Progress is decoration: whatever Prefect does, the stage goes on."""

import logging

import httpx
import pytest
from prefect.exceptions import PrefectHTTPStatusError

from flows import progress as progress_of


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

    monkeypatch.setattr(progress_of, "WORTH_SHOWING", 0.0)
    monkeypatch.setattr(progress_of, "PAUSE", 0.0)
    monkeypatch.setattr(progress_of, "create_progress_artifact", refuse)
    monkeypatch.setattr(progress_of, "get_logger", logging.getLogger)
    progress = progress_of.Progress("train")
    for done in (1, 2):
        progress.show({"done": done, "total": 2, "message": "steps"})
    assert len(tries) == 2
    assert [record.getMessage() for record in caplog.records if record.name == "moelora"] == [
        f"train goes on; its progress is not shown ({type(error).__name__})"
    ]


def test_progress_tells_the_time_left_from_the_pace_of_this_run(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    now = [100.0]
    monkeypatch.setattr(progress_of.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress_of.Progress, "_send", lambda self, percent, text: sent.append(text))
    progress = progress_of.Progress("train")
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
