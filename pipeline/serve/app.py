"""The server as an ASGI application; nothing in it waits for a model or a disk.

    POST /v1/completions    a task's answer to a prompt, see ``protocol``
    GET  /v1/models         what is served, and its tasks
    GET  /health            200 once a release is loaded, 503 and the reason until then
    GET  /metrics           for Prometheus

With a token, everything but /health asks for it as ``Authorization: Bearer TOKEN``. Without one,
only requests addressed to this machine by name are answered: a page in a browser could otherwise
come here under a name of its own.
"""

import asyncio
import secrets
import time
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect

from pipeline.serve import reader
from pipeline.serve.answering import Answer, Question
from pipeline.serve.limits import Limits
from pipeline.serve.loader import Served
from pipeline.serve.metrics import Metrics
from pipeline.serve.observed import Observed
from pipeline.serve.protocol import Completion, Refused, parse
from pipeline.serve.worker import Worker

LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
COMPLETIONS = "/v1/completions"
GONE = 499  # the client left; nginx's number for it


class Server:
    """What the routes share. ``served`` is read once a request, so that a swap meets none half way."""

    def __init__(
        self, channel: str, limits: Limits, metrics: Metrics, tokenizer: Any, token: str | None
    ) -> None:
        self.channel = channel
        self.limits = limits
        self.metrics = metrics
        self.served: Served | None = None
        self.reason = "the release is being loaded"
        self.worker = Worker(limits, metrics)
        self._tokenizer = tokenizer
        self._token = token
        self._open = 0  # requests for completions
        # Encoding takes milliseconds of a long prompt, and its tokenizer one thread at a time.
        self._encoding = ThreadPoolExecutor(1, thread_name_prefix="encoding")

    @property
    def open_to_pages(self) -> bool:
        """Whether only the name of the machine in a request tells a user from a page in a browser."""
        return self._token is None

    def current(self) -> Served:
        """The release that new requests get. Raises Refused with 503 until there is one."""
        if self.served is None:
            raise Refused(503, "not_ready", self.reason, Retry_After="5")
        if not self.worker.alive:
            raise Refused(503, "not_ready", "nothing computes: restart the server")
        return self.served

    def authorise(self, request: Request) -> None:
        """Raise Refused with 401 unless the request carries the token."""
        if self._token is None:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        same = secrets.compare_digest(given.strip().encode(), self._token.encode())
        if scheme.lower() != "bearer" or not same:
            raise Refused(401, "invalid_token", "send Authorization: Bearer TOKEN", WWW_Authenticate="Bearer")

    async def complete(self, request: Request) -> dict[str, Any]:
        """OpenAI's answer to a request, with the release that gave it."""
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            # A form of another site's page may be sent without asking; JSON may not.
            raise Refused(415, "not_json", "send Content-Type: application/json")
        if self._open >= 2 * self.limits.waiting:
            raise Refused(
                429, "queue_full", f"{self._open} requests are open: try again later", Retry_After="5"
            )
        self._open += 1
        try:
            async with asyncio.timeout(self.limits.timeout_s):
                asked = parse(await _body(request, self.limits.body_bytes))
                served = self.current()
                if asked.task in served.tasks:
                    request.state.task = asked.task
                reader.check(asked, served, self.channel, self.limits)
                loop = asyncio.get_running_loop()
                question = await loop.run_in_executor(
                    self._encoding, reader.read, self._tokenizer, asked, self.limits
                )
                answers = await _unless_gone(request, self.worker.submit(served, question))
        except ClientDisconnect:
            raise Refused(GONE, "client_gone", "the client left") from None
        except TimeoutError:
            message = f"no answer within {self.limits.timeout_s:g} s"
            raise Refused(504, "timeout", message, Retry_After="5") from None
        finally:
            self._open -= 1
        response = _response(asked, served, question, answers)
        for kind in ("prompt", "completion"):
            self.metrics.tokens.labels(asked.task, kind).inc(response["usage"][f"{kind}_tokens"])
        return response

    def models(self) -> dict[str, Any]:
        """OpenAI's list of models: the channel and the release it points at, which is the same one."""
        served = self.current()
        entry = {
            "object": "model",
            "created": served.loaded_at,
            "owned_by": "moelora",
            "release": served.release,
            "tasks": served.tasks,
        }
        names = dict.fromkeys((self.channel, served.release))
        return {"object": "list", "data": [{"id": name, **entry} for name in names]}

    def close(self) -> None:
        self.worker.close()
        self._encoding.shutdown()


def create(server: Server) -> Any:
    """The ASGI application of a server; its worker runs as long as the application does."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        server.worker.start()
        yield
        await asyncio.to_thread(server.close)

    app = FastAPI(title="moelora serve", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    asks = [Depends(server.authorise)]

    @app.exception_handler(Refused)
    async def refuse(_request: Request, refused: Refused) -> JSONResponse:
        return JSONResponse(refused.body(), refused.status, refused.headers)

    # Starlette's outermost layer would answer plain text before anybody sees the error.
    @app.exception_handler(Exception)
    async def fail(_request: Request, _error: Exception) -> JSONResponse:
        refused = Refused(500, "internal_error", "the request could not be answered")
        return JSONResponse(refused.body(), 500)

    # The body is read by hand: FastAPI would take one of any size.
    @app.post(COMPLETIONS, dependencies=asks)
    async def completions(request: Request) -> JSONResponse:
        return JSONResponse(await server.complete(request))

    @app.get("/v1/models", dependencies=asks)
    async def models() -> JSONResponse:
        return JSONResponse(server.models())

    @app.get("/health")
    async def health() -> JSONResponse:
        return JSONResponse({"status": "ready", "release": server.current().release})

    @app.get("/metrics", dependencies=asks)
    async def metrics() -> Response:
        return Response(generate_latest(server.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    if server.open_to_pages:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(LOOPBACK), www_redirect=False)
    return Observed(app, server.metrics, COMPLETIONS)


async def _body(request: Request, most: int) -> bytes:
    """The body; Refused with 413 as soon as it is known to be larger than ``most`` bytes."""
    parts: list[bytes] = []
    size = 0
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or int(announced) <= most:
        async for part in request.stream():
            parts.append(part)
            size += len(part)
            if size > most:
                break
        else:
            return b"".join(parts)
    raise Refused(413, "body_too_large", f"the body has more than {most} bytes", Connection="close")


async def _unless_gone(request: Request, answers: "Future[list[Answer]]") -> list[Answer]:
    """The answers; where the client leaves first, the question is given up if it still waits."""
    coming = asyncio.wrap_future(answers)
    leaving = asyncio.ensure_future(_gone(request))
    first: set[asyncio.Future[Any]] = {coming, leaving}
    try:
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if not coming.done():
            raise Refused(GONE, "client_gone", "the client left")
        return coming.result()
    finally:
        leaving.cancel()
        coming.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _response(asked: Completion, served: Served, question: Question, answers: list[Answer]) -> dict[str, Any]:
    read = sum(map(len, question.prompts))
    written = sum(answer.tokens for answer in answers)
    return {
        "id": f"cmpl-{uuid.uuid4().hex}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": asked.model or served.release,
        "release": served.release,
        "task": asked.task,
        "choices": [
            {
                "index": index,
                "text": answer.text,
                "finish_reason": answer.finish_reason,
                "logprobs": None,
                **({} if answer.scores is None else {"scores": answer.scores}),
            }
            for index, answer in enumerate(answers)
        ],
        "usage": {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written},
    }
