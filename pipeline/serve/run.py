"""The server as a process: a release from a channel or a folder, uvicorn, and one log."""

import ipaddress
import logging
import os
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.params import Params
from pipeline.serve.limits import Limits
from pipeline.stage import TELEMETRY_OFF

TOKEN = "MOELORA_SERVE_TOKEN"  # noqa: S105  # the variable's name
SHORTEST_TOKEN = 16  # characters
KEEP_ALIVE_S = 75
"""Idle connections are closed by clients and balancers, which do so within 60 s: were the server the
first, a request just then under way would be lost."""


def token_for(host: str) -> str | None:
    """The token that requests must carry: of MOELORA_SERVE_TOKEN, needed beyond loopback only.

    Raises InputError where it is needed and not set, or too short to be a secret.
    """
    token = os.environ.get(TOKEN, "")
    if token and len(token) < SHORTEST_TOKEN:
        raise InputError(f"{TOKEN} has {len(token)} characters: take {SHORTEST_TOKEN} or more, {_MAKE_TOKEN}")
    if not token and not _is_loopback(host):
        raise InputError(f"--host {host} is open to others and {TOKEN} is not set: {_MAKE_TOKEN}")
    return token or None


_MAKE_TOKEN = f"export {TOKEN}=$(openssl rand -hex 32)"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def limits_of(params: Params, **given: Any) -> Limits:
    """Limits as ``given``, None meaning the default: of tokens what evaluation reads and writes."""
    defaults = {
        "prompt_tokens": params.evaluate.max_tokens,
        "max_tokens": params.evaluate.max_new_tokens,
    }
    return Limits(**(defaults | {name: value for name, value in given.items() if value is not None}))


def run(
    params: Params,
    limits: Limits,
    host: str,
    port: int,
    source: tuple[Any, str] | Path,
    poll_s: float,
) -> None:
    """Serve until a signal; requests under way are then answered first.

    ``source``: a registry and the channel of it to follow, or the folder of a release. Raises
    InputError and DataError where the base model or the folder cannot be served.
    """
    for name, value in TELEMETRY_OFF.items():
        os.environ.setdefault(name, value)
    token = token_for(host)
    import uvicorn

    from pipeline.release_folder import release_id
    from pipeline.serve.app import Server, create
    from pipeline.serve.follower import Follower
    from pipeline.serve.loader import Loader
    from pipeline.serve.metrics import Metrics

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("moelora.serve").setLevel(logging.INFO)
    loader = Loader(params.compute, limits, params.evaluate.batch_tokens)
    metrics = Metrics()
    if isinstance(source, Path):
        server = Server(source.name, limits, metrics, loader.tokenizer(), token)
        server.served = loader.load(source, release_id(source))
        metrics.served(server.served.release)
    else:
        registry, channel = source
        server = Server(channel, limits, metrics, loader.tokenizer(), token)
        Follower(registry, channel, loader, metrics, poll_s).start(server)
    uvicorn.run(
        create(server),
        host=host,
        port=port,
        lifespan="on",
        log_config=None,
        # Its lines hold what stands in the address of a request.
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(limits.timeout_s) + 1,
    )
