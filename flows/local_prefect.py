"""A Prefect server on this machine, for who has none: SQLite, loopback, left running.

    PREFECT_API_URL           set: that server is used, and must answer
    scratch/services/prefect  else this checkout's own, started where it does not run: database, log,
                              and server.json with its address (port 4200, or the next free one)

Another checkout's server is never used unasked: whoever stops it would end this one's runs.
``ensure`` must run before prefect is imported: it settles where the flows of this process report.
"""

import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from pipeline import paths
from pipeline.errors import PipelineError

HOME = paths.SERVICES / "prefect"
SERVER = HOME / "server.json"
LOG = HOME / "server.log"
PROGRAM = "flows.prefect_on_sqlite"
HOST = "127.0.0.1"
PORT = 4200
PATIENCE = 90.0  # s for a server to come up; 8.5 on an idle laptop
LAUNCHES = 3  # another program may take a free port before the server does

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
}


def address() -> str | None:
    """The API of the server that answers now, or None. Starts nothing."""
    url = os.environ.get("PREFECT_API_URL") or _started_here()
    return url if url is not None and answers(url) else None


def ensure() -> str:
    """The API of a server that answers, started where there is none; this process will use it.

    Raises PipelineError where PREFECT_API_URL names a server that does not answer, or where a new
    one does not come up.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    url = address()
    if url is None and (named := os.environ.get("PREFECT_API_URL")):
        raise PipelineError(
            f"no Prefect server answers at {named}: start it, "
            "or unset PREFECT_API_URL to have one started here"
        )
    if url is None:
        HOME.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (HOME / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two commands at once start one server
            url = address() or _start()
    os.environ["PREFECT_API_URL"] = url
    os.environ.setdefault("PREFECT_HOME", str(HOME.resolve()))
    return url


def page(url: str) -> str:
    """The address that a browser shows."""
    return url.removesuffix("/api")


def stop() -> bool:
    """End the server that was started in this checkout; whether one was running."""
    from flows.stages import end_group

    process = _process()
    if process is not None:
        end_group(process)
    SERVER.unlink(missing_ok=True)
    return process is not None


def answers(url: str) -> bool:
    """Whether a Prefect server is healthy at an API address."""
    # A proxy set for the internet must not be asked for this machine's own server.
    opener = build_opener(ProxyHandler({})) if HOST in url else build_opener()
    try:
        with opener.open(f"{url}/health", timeout=5) as answer:
            return bool(json.load(answer) is True)
    except (URLError, OSError, ValueError):
        return False


def _start() -> str:
    for _ in range(LAUNCHES):
        stop()  # one that hangs
        port = _free_port()
        process = _launch(port)
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            # Whoever answers at the port may be another checkout's, started in the same moment.
            if answers(_address(port)) and _listens(process.pid, port):
                return _address(port)
            time.sleep(0.2)
    stop()
    raise PipelineError(f"the Prefect server did not come up: {LOG} says why")


def _launch(port: int) -> "subprocess.Popen[bytes]":
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")} | QUIET
    environment["PREFECT_HOME"] = str(HOME.resolve())
    # Left alone, the page asks port 4200, which may be another checkout's server.
    environment["PREFECT_SERVER_UI_API_URL"] = _address(port)
    with LOG.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", PROGRAM, "server", "start", "--host", HOST, "--port", str(port)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    SERVER.write_text(json.dumps({"process": process.pid, "url": _address(port)}))
    return process


def _address(port: int) -> str:
    return f"http://{HOST}:{port}/api"


def _listens(pid: int, port: int) -> bool:
    """Whether a process, or one that it started, is who listens at a port."""
    import psutil

    try:
        process = psutil.Process(pid)
        sockets = [s for each in (process, *process.children(True)) for s in each.net_connections("tcp")]
    except psutil.Error:
        return False
    return any(s.status == psutil.CONN_LISTEN and s.laddr.port == port for s in sockets)


def _free_port() -> int:
    for port in (*range(PORT, PORT + 100), 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise PipelineError(f"no free port on {HOST} for the Prefect server")


def _started_here() -> str | None:
    # Without its process, the port may be another checkout's by now.
    return str(json.loads(SERVER.read_text())["url"]) if _process() else None


def _process() -> int | None:
    """The server's process id, if it runs and is a Prefect server."""
    import psutil

    try:
        process = psutil.Process(int(json.loads(SERVER.read_text())["process"]))
        return process.pid if PROGRAM in process.cmdline() else None
    except (OSError, ValueError, KeyError, psutil.Error):
        return None
