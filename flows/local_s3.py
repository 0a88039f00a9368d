"""An S3 server for one machine: SeaweedFS on loopback, data and keys in a git-ignored folder.

The registry where ``publish.registry`` is ``local``. ``start()`` leaves it running; its address and
keys are in ``scratch/services/aws_config``, a standard AWS config file::

    AWS_CONFIG_FILE=scratch/services/aws_config aws s3 ls s3://moelora/

Nothing listens beyond 127.0.0.1. The keys guard the S3 port; SeaweedFS's inner ports trust every
user of this machine, so a shared machine wants an S3 of its own.
"""

import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline import paths, registry
from pipeline.errors import RegistryUnavailable

FOLDER = paths.SERVICES / "s3"
LOOPBACK = "127.0.0.1"
PREFERRED_PORTS = {"s3": 8333, "filer": 8888, "master": 9333, "volume": 8080}
GRPC = 10_000  # SeaweedFS's gRPC port lies so far above each of its ports
START_SECONDS = 30
LAUNCHES = 3  # another program may take a free port before the server does
STOP_SECONDS = 1  # then killed: it waits 15 s for idle connections, while all it took is written
REGION = "us-east-1"


def start(folder: Path = FOLDER, bucket: str = registry.LOCAL_BUCKET) -> None:
    """Make sure that the server runs, answers and has ``bucket``.

    Two processes may call it at once. The config file is ``aws_config`` beside ``folder``, mode
    600. Raises RegistryUnavailable where it does not come up.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    config = config_file(folder)
    with _locked(folder):
        if not running(folder):
            for _ in range(LAUNCHES):
                _kill(folder)  # one that hangs
                if _came_up(_launch(folder, config), config, bucket):
                    return
            _kill(folder)
            text = f"the local S3 server did not come up; its last words are in {folder / 'log'}"
            raise RegistryUnavailable(text)
        registry.prepare_bucket(config, bucket)


def stop(folder: Path = FOLDER) -> None:
    """Stop the server; data and keys stay."""
    if folder.is_dir():
        with _locked(folder):
            _kill(folder)


def running(folder: Path = FOLDER) -> bool:
    """Whether the server of this folder answers its keys."""
    config = config_file(folder)
    return config.is_file() and registry.answers(config)


def config_file(folder: Path = FOLDER) -> Path:
    """The AWS config file that belongs to a server's folder."""
    return folder.parent / "aws_config"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _launch(folder: Path, config: Path) -> subprocess.Popen[bytes]:
    access_key, secret_key = _keys(folder)
    ports = _free_ports()
    data = folder / "data"
    data.mkdir(exist_ok=True, mode=0o700)
    # Written before the server is up: whoever reads it early is refused, never misled.
    _write_private(config, _aws_config(ports["s3"], access_key, secret_key))
    command = [
        str(Path(sysconfig.get_path("scripts")) / "weed"),
        "-logtostderr=true",
        "server",
        f"-dir={data.resolve()}",
        f"-ip={LOOPBACK}",
        f"-ip.bind={LOOPBACK}",
        f"-master.port={ports['master']}",
        f"-volume.port={ports['volume']}",
        f"-filer.port={ports['filer']}",
        "-filer.disableHttp",
        "-s3",
        f"-s3.port={ports['s3']}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-s3.config={(folder / 'keys.json').resolve()}",
        "-s3.iam=false",
        "-s3.autoCreateBucket=false",
        "-master.telemetry=false",
        "-master.electionTimeout=200ms",
        # A volume is a file that grows as data comes; 0: as many as the disk has room for.
        "-master.volumeSizeLimitMB=256",
        "-volume.max=0",
        "-volume.preStopSeconds=0",
    ]
    with (folder / "log").open("wb") as log, (folder / "alive").open("a") as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        process = subprocess.Popen(
            command,
            cwd=folder,  # it looks for further configuration where it stands
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[alive.fileno()],
        )
    _write_private(folder / "pid", f"{process.pid}\n")
    return process


def _came_up(process: subprocess.Popen[bytes], config: Path, bucket: str) -> bool:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            registry.prepare_bucket(config, bucket)
            return True
        except RegistryUnavailable:
            time.sleep(0.1)
    return False


def _kill(folder: Path) -> None:
    """End this folder's server, if it lives."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        until = time.monotonic() + STOP_SECONDS
        if _alive(folder):
            os.kill(int((folder / "pid").read_text()), sent)
        while _alive(folder) and time.monotonic() < until:
            time.sleep(0.05)
    (folder / "pid").unlink(missing_ok=True)


def _alive(folder: Path) -> bool:
    """Whether this folder's server lives: it holds a lock as long, while its number in the pid file
    may be another process's by now."""
    with (folder / "alive").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _keys(folder: Path) -> tuple[str, str]:
    """The server's access key and secret key, made at the first start."""
    path = folder / "keys.json"
    if not path.is_file():
        credentials = {"accessKey": secrets.token_hex(10).upper(), "secretKey": secrets.token_urlsafe(30)}
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identity = {"name": "moelora", "credentials": [credentials], "actions": actions}
        _write_private(path, json.dumps({"identities": [identity]}, indent=2))
    credentials = json.loads(path.read_text())["identities"][0]["credentials"][0]
    return credentials["accessKey"], credentials["secretKey"]


def _aws_config(port: int, access_key: str, secret_key: str) -> str:
    return (
        "[default]\n"
        f"endpoint_url = http://{LOOPBACK}:{port}\n"
        f"region = {REGION}\n"
        f"aws_access_key_id = {access_key}\n"
        f"aws_secret_access_key = {secret_key}\n"
    )


def _free_ports() -> dict[str, int]:
    """A port for each part, the preferred one or the next whose gRPC port is free too."""
    ports: dict[str, int] = {}
    for part, preferred in PREFERRED_PORTS.items():
        free = (p for p in range(preferred, preferred + 500) if p not in ports.values() and _is_free(p))
        port = next(free, None)
        if port is None:
            raise RegistryUnavailable(f"no free port from {preferred} on for the local S3 server's {part}")
        ports[part] = port
    return ports


def _is_free(port: int) -> bool:
    try:
        for each in (port, port + GRPC):
            with socket.socket() as bound:
                # As the server does it: a port whose last connections are still closing is free.
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                bound.bind((LOOPBACK, each))
    except OSError:
        return False
    return True


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, at no moment anybody else."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)
