"""Approval, rejection, a form that nobody answers, a gate that blocks; and who may read what in S3."""

import json
from typing import Any

from tests.bench.orchestration.project import idle, set_params
from tests.bench.table import Row
from tests.service import Service, until


def rows(service: Service) -> list[Row]:
    """One row for each answer of the issue's table."""
    idle(service)
    until(lambda: _waiting(service), 120)
    release = _waiting(service)[0]["parameters"]["release"]
    undecided = _gate(service)["undecided"]
    answers: dict[str, dict[str, Any]] = {
        "rejected": {"approve": False, "by": "A. Meyer", "reason": "not convinced"},
        "approved": {"approve": True, "by": "A. Meyer", "reason": "looked at it", "confirmed": undecided},
    }
    held = {}
    for answer, form in answers.items():
        run = service.start("promote", release=release)
        until(lambda run=run: service.run(run)["state"]["type"] == "PAUSED", 120)
        taken = service.resume(run, **form)
        ended = service.ended(run)["state"]["name"]
        moved = champion(service) == release
        recorded = form["reason"] in service.moelora("history", "--json")
        held[answer] = (
            taken and recorded and moved == (answer == "approved") and ended in ("Rejected", "Promoted")
        )
    before = champion(service)
    run = service.ended(service.start("promote", release=release, hours=0.003))
    expired = (run["state"]["name"], champion(service)) == ("Expired", before)
    held["nobody answered"] = expired and "nobody answered" in service.moelora("history", "--json")
    set_params(service, {"gate.floors": {"default": 1.0}})
    known = {run["id"] for run in service.runs("retrain")}
    blocked = service.ended(service.start("retrain", batch="blocked"), 600)["state"]
    idle(service)
    again = {run["id"] for run in service.runs("retrain")} - known
    set_params(service, {"gate.floors": {}})
    held["blocked by the gate"] = (
        (blocked["type"], blocked["name"]) == ("COMPLETED", "Blocked")
        and len(again) == 1
        and champion(service) == before
    )
    return [
        Row(f"{answer}: pointer and record as they must", int(fine), None, ">=", 1)
        for answer, fine in held.items()
    ]


def champion(service: Service) -> str | None:
    """The release that the channel points at."""
    said = service.moelora("releases", "--json")
    listed = json.loads(said[said.index("[") :])
    return next((each["id"] for each in listed if each["champion"]), None)


def _waiting(service: Service) -> list[dict[str, Any]]:
    return [run for run in service.runs("promote") if run["state"]["type"] == "PAUSED"]


def _gate(service: Service) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((service.clone("cpu", "retrain") / "reports/gate.json").read_text())
    return report
