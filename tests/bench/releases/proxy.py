"""A proxy in front of an S3 server that spoils requests at random, and counts what it forwards.

Each request has a connection of its own to the server. What may befall it:

    error               500 or 503, and the server hears nothing of it
    reset               the connection is reset before the server hears of it
    stall               no answer, until the client gives up; the server hears nothing of it
    lost                the server does what was asked, and its answer is lost
    truncated-request   half the body arrives
    truncated-answer    half the answer's body arrives
    slow                the body trickles
"""

import asyncio
import random
import socket
import struct
import threading
from collections import Counter
from types import TracebackType

KINDS = ("error", "reset", "stall", "lost", "truncated-request", "truncated-answer", "slow")
STALL = 4.0  # s; longer than the clients of a drill wait
PIECES = 10  # of a body that trickles
PAUSE = 0.1  # s between them
BLOCK = 1 << 18


class Proxy:
    """``with Proxy(port, rate) as proxy``: listens on ``proxy.port`` of loopback for the server at ``port``.

    ``rate``: share of requests that something befalls. ``kinds`` counts what did, ``sent`` the bytes
    of all requests, headers and bodies.
    """

    def __init__(
        self, upstream: int, rate: float = 0.0, seed: int = 0, kinds: tuple[str, ...] = KINDS
    ) -> None:
        self.port = 0
        self.sent = 0
        self.requests = 0
        self.kinds: Counter[str] = Counter()
        self._upstream = upstream
        self._rate = rate
        self._choice = random.Random(seed)
        self._possible = kinds
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "Proxy":
        self._thread.start()
        started = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20), self._loop
        )
        self._server = started.result()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        open_still = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in open_still:
            task.cancel()
        await asyncio.gather(*open_still, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._request(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size, expects = _length(head), b"\r\nexpect:" in head.lower()
        self.requests += 1
        self.sent += len(head) + size
        fault = self._choice.choice(self._possible) if self._choice.random() < self._rate else None
        if fault is not None:
            self.kinds[fault] += 1
        if fault == "stall":
            await asyncio.sleep(STALL)
        if fault in ("reset", "stall"):
            _reset(writer)
            return
        if fault == "error":
            writer.write(_answer(self._choice.choice((500, 503))))
            await writer.drain()
            return
        if expects:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        try:
            server_writer.write(_one_request(head))
            whole = size if fault != "truncated-request" else size // 2
            await _relay(reader, server_writer, whole, slow=fault == "slow")
            if fault == "truncated-request":
                _reset(writer)
                return
            await self._reply(server_reader, writer, fault)
        finally:
            server_writer.close()

    async def _reply(
        self, server: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: str | None
    ) -> None:
        head = await server.readuntil(b"\r\n\r\n")
        if fault == "lost":
            await server.read(-1)
            _reset(writer)
            return
        writer.write(head)
        if fault == "truncated-answer":
            await _relay(server, writer, _length(head) // 2)
            return
        while block := await server.read(BLOCK):
            writer.write(block)
            await writer.drain()


async def _relay(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int, slow: bool = False
) -> None:
    step = max(1, size // PIECES) if slow else BLOCK
    while size:
        block = await reader.read(min(step, size))
        if not block:
            raise ConnectionResetError
        size -= len(block)
        writer.write(block)
        await writer.drain()
        if slow:
            await asyncio.sleep(PAUSE * len(block) / step)


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def _one_request(head: bytes) -> bytes:
    """The head as the server gets it: it need not ask for the body, and ends after one answer."""
    lines = [
        line for line in head.split(b"\r\n") if not line.lower().startswith((b"expect:", b"connection:"))
    ]
    return b"\r\n".join([lines[0], b"Connection: close", *lines[1:]])


def _answer(status: int) -> bytes:
    body = b"<Error><Code>SlowDown</Code><Message>a drill</Message></Error>"
    head = f"HTTP/1.1 {status} Drill\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the other side sees a reset, not an end."""
    raw: socket.socket | None = writer.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
