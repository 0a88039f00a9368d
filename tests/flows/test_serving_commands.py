"""serve and merge, as people type them; the server is a process of its own."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import torch

from pipeline.registry import Registry
from pipeline.release_folder import release_id
from tests.conftest import Checkout
from tests.flows.test_evaluation_commands import run
from tests.pipeline.serve.test_follower import WHY, point
from tests.releases import write_release
from tests.tiny import tiny_base

SECRET = "Featherstone"


@pytest.fixture
def release(checkout: Checkout) -> Iterator[Path]:
    tiny_base(Path("tiny"))
    checkout.params(base__model=str(Path("tiny").resolve()), compute__threads=1, evaluate__max_new_tokens=8)
    from pipeline import base
    from pipeline.params import Params

    base.prepare(Params.load().base)
    yield write_release(checkout.root / "release")
    torch.use_deterministic_algorithms(False)


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[httpx.Client, Path]]:
    """(client, log file) of a server that is ready; it must end well on SIGTERM."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = Path("serve.log")
    command = [sys.executable, "-m", "flows.cli", "serve", "--port", str(port), "--poll", "0.2", *arguments]
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
            deadline = time.monotonic() + 60
            while not ready(client):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            yield client, log
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        assert process.returncode in (0, -signal.SIGTERM), log.read_text()
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.wait()


def ready(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def test_a_folder_is_served_and_nothing_said_is_logged(release: Path) -> None:
    with serving("--folder", "release") as (client, log):
        body = {"task": "ner", "prompt": SECRET}
        answer = client.post("/v1/completions", json=body).json()
        assert answer["release"] == release_id(release)
        assert client.post("/v1/completions", json=body | {"choices": ["yes", "no"]}).status_code == 200
        assert client.get("/v1/models").json()["data"][0]["id"] == "release"
        assert client.post("/v1/completions", json=body | {"task": "gout"}).status_code == 404
    text = log.read_text()
    assert f"curl {client.base_url}/health" in text
    assert "completion: task ner, status 200" in text
    assert SECRET not in text
    assert answer["choices"][0]["text"] not in text


def test_a_promotion_under_load_shows_up_and_fails_no_request(
    release: Path, registry_url: str, empty_registry: Registry, checkout: Checkout
) -> None:
    checkout.params(publish__registry=registry_url)
    old = empty_registry.publish(release, WHY).release
    new = empty_registry.publish(write_release(checkout.root / "new", seed=1), WHY).release
    point(empty_registry, old)
    with serving() as (client, log):
        found: list[tuple[int, str]] = []
        stop = threading.Event()

        def ask(task: str) -> None:
            with httpx.Client(base_url=client.base_url, timeout=60, trust_env=False) as one:
                while not stop.is_set():
                    answer = one.post("/v1/completions", json={"task": task, "prompt": "gout"})
                    found.append((answer.status_code, answer.json().get("release", answer.text)))

        clients = [threading.Thread(target=ask, args=(task,)) for task in ("ner", "rqe") * 4]
        for each in clients:
            each.start()
        point(empty_registry, new)
        deadline = time.monotonic() + 60
        while (200, new) not in found and time.monotonic() < deadline:
            time.sleep(0.05)
        stop.set()
        for each in clients:
            each.join()
        assert {status for status, _ in found} == {200}, [each for each in found if each[0] != 200][:3]
        assert {release for _, release in found} == {old, new}
        assert f'moelora_release_info{{release="{new}"}} 1.0' in client.get("/metrics").text
    assert f"champion is release {new} now" in log.read_text()


def test_serving_beyond_this_machine_needs_a_token(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOELORA_SERVE_TOKEN", raising=False)
    assert "MOELORA_SERVE_TOKEN" in run("serve", "--host", "0.0.0.0", "--folder", "release", code=2).stderr
    assert "is no folder" in run("serve", "--folder", "nowhere", code=2).stderr
    assert "holds no adapter" in run("serve", "--folder", "tiny", code=2).stderr


def test_merge_writes_a_model_and_says_what_is_next(
    release: Path, registry_url: str, empty_registry: Registry, checkout: Checkout
) -> None:
    done = run("merge", "--task", "ner", "--folder", "release", "out")
    assert "next: read out/README.md" in done.stdout
    assert Path("out/model.safetensors").is_file()
    assert (
        "out is there already" in run("merge", "--task", "ner", "--folder", "release", "out", code=2).stderr
    )
    both = run("merge", "--task", "ner", "--folder", "release", "--release", "0" * 16, "b", code=2)
    assert "leave one out" in both.stderr
    checkout.params(publish__registry=registry_url)
    published = empty_registry.publish(release, WHY).release
    assert "no champion" in run("merge", "--task", "ner", "champion", code=2).stderr
    told = json.loads(run("merge", "--task", "rqe", "--release", published, "rqe", "--json").stdout)
    assert told["max_abs_difference"] <= 1e-4
    assert published in Path("rqe/README.md").read_text()
    assert not Path("rqe/model.safetensors").stat().st_mode & 0o022
