"""Progress is decoration: whatever Prefect does, the stage goes on."""

import logging

import httpx
import pytest
from prefect.exceptions import PrefectHTTPStatusError

from flows import reports


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
