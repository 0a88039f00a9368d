"""The server over HTTP: uvicorn on a free port of loopback."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from pipeline.errors import InputError, ParamsError
from pipeline.params import Params
from pipeline.predict import predict
from pipeline.serve.answering import Answer, Answerer, Question
from pipeline.serve.app import Server, create
from pipeline.serve.limits import Limits
from pipeline.serve.loader import Loader, Served
from pipeline.serve.metrics import Metrics
from pipeline.serve.run import limits_of, token_for
from tests.conftest import Checkout
from tests.pipeline.serve.conftest import LIMITS

TOKEN = "a-token-of-some-length"
SECRET = "Featherstone"


@contextmanager
def running(loader: Loader, served: Served | None, token: str | None = None, **limits: Any) -> Iterator[Any]:
    """(client, server)"""
    server = Server("champion", replace(LIMITS, **limits), Metrics(), loader.tokenizer(), token)
    server.served = served
    if served is not None:
        server.metrics.served(served.release)
    config = uvicorn.Config(create(server), port=0, log_config=None, access_log=False, lifespan="on")
    process = uvicorn.Server(config)
    thread = threading.Thread(target=process.run)
    thread.start()
    while not process.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = process.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:
            yield client, server
    finally:
        process.should_exit = True
        thread.join()
        assert not server.worker.alive


@pytest.fixture
def client(loader: Loader, served: Served) -> Iterator[httpx.Client]:
    with running(loader, served) as (client, _):
        yield client


def complete(client: httpx.Client, **body: Any) -> httpx.Response:
    return client.post("/v1/completions", json={"task": "ner", "prompt": "gout"} | body)


def error(response: httpx.Response, status: int, code: str) -> str:
    assert response.status_code == status, response.text
    found = response.json()["error"]
    assert found["code"] == code
    assert found["type"] == ("invalid_request_error" if status < 500 else "server_error")
    return str(found["message"])


def test_a_completion_has_the_shape_of_openai_and_the_answer_of_predict(
    client: httpx.Client, served: Served, release: Path, checkout: Checkout
) -> None:
    checkout.params(evaluate__max_new_tokens=12)
    wanted = predict(release, "ner", "gout")
    found = complete(client, model="champion", temperature=0.0, top_p=0.9, seed=7, n=1).json()
    assert (found["object"], found["model"], found["task"]) == ("text_completion", "champion", "ner")
    assert found["release"] == served.release
    choice = {"index": 0, "text": wanted, "finish_reason": "length", "logprobs": None}
    assert found["choices"] == [choice]
    prompt = len("gout\n")  # the tiny model's tokens are bytes
    assert found["usage"] == {"prompt_tokens": prompt, "completion_tokens": 12, "total_tokens": prompt + 12}


def test_several_prompts_and_scored_choices(client: httpx.Client) -> None:
    found = complete(client, prompt=["gout", "cough"], choices=["yes", "no"]).json()["choices"]
    assert [each["index"] for each in found] == [0, 1]
    for each in found:
        assert each["text"] == ["yes", "no"][each["scores"].index(max(each["scores"]))]


def test_models_are_the_channel_and_its_release(client: httpx.Client, served: Served) -> None:
    listed = client.get("/v1/models").json()
    assert [each["id"] for each in listed["data"]] == ["champion", served.release]
    assert all(each["tasks"] == ["ner", "rqe"] for each in listed["data"])
    assert complete(client, model=served.release).status_code == 200
    message = error(complete(client, model="f" * 16), 404, "model_not_found")
    assert served.release in message


def test_an_unknown_task_is_answered_with_those_known(client: httpx.Client) -> None:
    assert "it knows ner, rqe" in error(complete(client, task="gout"), 404, "task_not_found")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 0.7),
        ("n", 2),
        ("stream", True),
        ("logprobs", 3),
        ("frequency_penalty", 1),
        ("max_tokens", 0),
        ("prompt", ""),
        ("prompt", []),
        ("prompt", [[1, 2]]),
        ("choices", []),
        ("choices", ["yes", "yes"]),
        ("stop", list("abcde")),
        ("unheard_of", 1),
    ],
)
def test_what_is_not_offered_is_refused_by_name(client: httpx.Client, field: str, value: Any) -> None:
    response = complete(client, **{field: value})
    assert field in error(response, 400, "invalid_request")
    assert response.json()["error"]["param"] == field


def test_requests_beyond_the_limits_are_refused(client: httpx.Client) -> None:
    assert "64 tokens" in error(complete(client, prompt="x" * 64), 400, "context_length_exceeded")
    assert complete(client, prompt="x" * 63).status_code == 200
    long = complete(client, choices=["x" * 64, "y"])
    assert "a choice" in error(long, 400, "context_length_exceeded")
    assert "12 are allowed" in error(complete(client, max_tokens=13), 400, "too_many")
    assert "4 are allowed" in error(complete(client, prompt=["a"] * 5), 400, "too_many")
    assert "4000 bytes" in error(complete(client, prompt="x" * 4001), 413, "body_too_large")
    chunks = (b"x" * 1000 for _ in range(5))
    json = {"Content-Type": "application/json"}
    response = client.post("/v1/completions", content=chunks, headers=json)
    assert "4000 bytes" in error(response, 413, "body_too_large")
    broken = client.post("/v1/completions", content=b"{", headers=json)
    assert "JSON" in error(broken, 400, "invalid_request")
    assert "20 faults" in error(complete(client, prompt=[1] * 21), 400, "invalid_request")
    many = complete(client, prompt=["x" * 40] * 4, choices=[f"{i:03}" * 10 for i in range(10)])
    assert "608 are allowed" in error(many, 400, "too_many")
    form = client.post("/v1/completions", content=b'{"task": "ner", "prompt": "a"}')
    assert "application/json" in error(form, 415, "not_json")


def test_metrics_count_by_task_and_status_and_name_no_other_task(
    client: httpx.Client, served: Served
) -> None:
    complete(client, max_tokens=5)
    complete(client, task=SECRET)
    complete(client, task="rqe", n=2)
    lines = client.get("/metrics").text.splitlines()
    for wanted in (
        'moelora_requests_total{status="200",task="ner"} 1.0',
        'moelora_requests_total{status="404",task="unknown"} 1.0',
        'moelora_requests_total{status="400",task="unknown"} 1.0',
        'moelora_request_seconds_count{task="ner"} 1.0',
        'moelora_tokens_total{kind="completion",task="ner"} 5.0',
        'moelora_tokens_total{kind="prompt",task="ner"} 5.0',
        "moelora_queue_length 0.0",
        f'moelora_release_info{{release="{served.release}"}} 1.0',
    ):
        assert wanted in lines
    assert SECRET not in "".join(lines)


def test_without_a_release_the_server_is_not_ready(loader: Loader, served: Served) -> None:
    with running(loader, None) as (client, server):
        server.reason = "channel champion points at no release"
        assert "points at no release" in error(client.get("/health"), 503, "not_ready")
        assert "Retry-After" in complete(client).headers
        error(complete(client), 503, "not_ready")
        server.served = served
        assert client.get("/health").json() == {"status": "ready", "release": served.release}
        assert complete(client).status_code == 200


def test_a_token_is_asked_for_wherever_there_is_one(loader: Loader, served: Served) -> None:
    with running(loader, served, TOKEN) as (client, _):
        assert client.get("/health").status_code == 200
        for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": f"Basic {TOKEN}"}):
            for answer in (
                client.get("/metrics", headers=headers),
                client.get("/v1/models", headers=headers),
                client.post("/v1/completions", json={"task": "ner", "prompt": "a"}, headers=headers),
            ):
                error(answer, 401, "invalid_token")
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        assert complete(client).status_code == 200
        # Whoever has the token may come by any name.
        assert client.get("/metrics", headers={"Host": "moelora.example.org"}).status_code == 200


def test_without_a_token_a_page_cannot_come_under_its_own_name(client: httpx.Client) -> None:
    assert client.get("/v1/models", headers={"Host": "evil.example.org"}).status_code == 400
    assert client.get("/v1/models", headers={"Host": "localhost:8000"}).status_code == 200


def test_a_token_is_needed_beyond_loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOELORA_SERVE_TOKEN", raising=False)
    assert [token_for(host) for host in ("127.0.0.1", "127.8.0.1", "localhost", "::1")] == [None] * 4
    for host in ("0.0.0.0", "::", "192.168.1.5", "moelora.example.org"):
        with pytest.raises(InputError, match=r"MOELORA_SERVE_TOKEN.*openssl rand"):
            token_for(host)
    monkeypatch.setenv("MOELORA_SERVE_TOKEN", TOKEN)
    assert token_for("0.0.0.0") == TOKEN
    monkeypatch.setenv("MOELORA_SERVE_TOKEN", "short")
    with pytest.raises(InputError, match="5 characters"):
        token_for("127.0.0.1")


class Slow(Answerer):
    def __init__(self, real: Answerer, work: Callable[[], None]) -> None:
        self.real = real
        self.work = work

    def answer(self, questions: Sequence[Question]) -> list[list[Answer]]:
        self.work()
        return self.real.answer(questions)


def test_an_answer_that_takes_too_long_is_504_and_the_loop_goes_on(loader: Loader, served: Served) -> None:
    slow = replace(served, answerer=Slow(served.answerer, lambda: time.sleep(1)))
    with running(loader, slow, timeout_s=0.3) as (client, _):
        started = time.monotonic()
        answers: list[httpx.Response] = []
        asking = threading.Thread(target=lambda: answers.append(complete(client)))
        asking.start()
        time.sleep(0.05)
        assert client.get("/health").status_code == 200
        assert time.monotonic() - started < 0.3  # while the worker sleeps
        asking.join()
        assert "0.3 s" in error(answers[0], 504, "timeout")


def test_a_full_queue_is_429_and_a_client_who_left_is_not_computed(loader: Loader, served: Served) -> None:
    may = threading.Event()
    asked: list[int] = []

    def work() -> None:
        asked.append(1)
        assert may.wait(30)

    held = replace(served, answerer=Slow(served.answerer, work))

    def leave(client: httpx.Client) -> None:
        # One whose connection closes with it, as a client's does who gives up.
        with (
            httpx.Client(base_url=client.base_url, trust_env=False) as one,
            pytest.raises(httpx.ReadTimeout),
        ):
            one.post(
                "/v1/completions",
                json={"task": "ner", "prompt": list("abcd")},
                timeout=httpx.Timeout(5, read=0.2),
            )

    with running(loader, held, waiting=8) as (client, _):
        first = threading.Thread(target=complete, args=(client,))
        first.start()
        while not asked:
            time.sleep(0.01)
        leave(client)
        leave(client)
        # Those who left make room for two who stay.
        asks = {"prompt": list("abcd")}
        staying = [threading.Thread(target=complete, args=(client,), kwargs=asks) for _ in range(2)]
        for each in staying:
            each.start()
            time.sleep(0.5)
        refused = complete(client)
        error(refused, 429, "queue_full")
        assert int(refused.headers["Retry-After"]) >= 1
        may.set()
        for each in (first, *staying):
            each.join()
        assert complete(client).status_code == 200
        assert len(asked) == 4
        text = client.get("/metrics").text
        assert 'moelora_requests_total{status="499",task="ner"} 2.0' in text
        assert 'moelora_requests_total{status="429",task="ner"} 1.0' in text


def test_no_text_is_logged_whatever_happens(
    loader: Loader, served: Served, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ValueError(SECRET)

    caplog.set_level(logging.DEBUG)
    broken = replace(served, answerer=Slow(served.answerer, fail))
    with running(loader, served) as (client, server):
        answer = complete(client, prompt=SECRET).json()["choices"][0]["text"]
        complete(client, prompt=SECRET, task=SECRET)
        complete(client, prompt=SECRET * 10)
        complete(client, prompt=SECRET, n=2)
        client.post(f"/v1/completions?{SECRET}", content=SECRET)
        client.get(f"/{SECRET}")
        server.served = broken
        error(complete(client, prompt=SECRET), 500, "internal_error")
        server.served = replace(broken, tasks=None)  # an error nobody foresaw
        assert complete(client, prompt=SECRET).status_code == 500
    logged = "\n".join(
        [record.getMessage() for record in caplog.records if record.name != "httpx"]
        + list(capfd.readouterr())
    )
    assert "completion: task ner, status 200" in logged
    assert SECRET not in logged
    assert answer not in logged


def test_limits_come_from_params_and_must_fit_the_model(release: Path, checkout: Checkout) -> None:
    params = Params.load()
    limits = limits_of(params, waiting=7, max_tokens=None)
    assert limits == Limits(params.evaluate.max_tokens, params.evaluate.max_new_tokens, waiting=7)
    with pytest.raises(ParamsError, match="reads 4096 tokens"):
        Loader(params.compute, replace(LIMITS, prompt_tokens=4090), 200)
