"""Many who write at once to a real server on SQLite."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import uuid4

import httpx

SECONDS = 6.0


def test_everybody_who_writes_at_once_is_answered(prefect_api: str) -> None:
    """Prefect's own `server start` answers some of these with 503 at once, and others after 60 seconds."""

    def post(client: httpx.Client, path: str, body: object) -> httpx.Response:
        return client.post(f"{prefect_api}{path}", json=body).raise_for_status()

    def state(kind: str) -> dict[str, object]:
        return {"state": {"type": kind}, "force": False}

    def write_on(flow: str) -> int:
        until, runs = time.monotonic() + SECONDS, 0
        with httpx.Client(trust_env=False, timeout=60) as client:
            while time.monotonic() < until:
                made = post(client, "/flow_runs/", {"flow_id": flow, "state": {"type": "PENDING"}})
                run = f"/flow_runs/{made.json()['id']}"
                post(client, f"{run}/set_state", state("RUNNING"))
                paused = {"pause_timeout": "2100-01-01T00:00:00Z", "pause_reschedule": False}
                post(client, f"{run}/set_state", {"state": {"type": "PAUSED", "state_details": paused}})
                assert post(client, f"{run}/resume", {}).json()["status"] == "ACCEPT"
                event = {"id": str(uuid4()), "occurred": datetime.now(UTC).isoformat(), "event": "test.event"}
                post(client, "/events", [event | {"resource": {"prefect.resource.id": "test"}}])
                runs += 1
        return runs

    with httpx.Client(trust_env=False) as client:
        flow = post(client, "/flows/", {"name": "crowd"}).json()["id"]
    with ThreadPoolExecutor(6) as pool:
        finished = list(pool.map(write_on, [flow] * 6))
    assert min(finished) >= 1
