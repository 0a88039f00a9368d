"""The local S3 server: start, start twice, restart, stop, and who may reach it."""

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import local_s3
from pipeline import registry
from pipeline.errors import RegistryUnavailable
from pipeline.registry import Registry
from pipeline.registry.store import Store
from tests.s3 import BUCKET


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "services/s3"
    local_s3.stop(tmp_path / "services/s3")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def ports(folder: Path) -> list[int]:
    """The TCP ports a running server was started with."""
    command = Path(f"/proc/{(folder / 'pid').read_text().strip()}/cmdline").read_text().split("\0")
    named = [word.partition("=") for word in command]
    plain = [int(value) for name, _, value in named if name.endswith(".port")]
    return plain + [port + local_s3.GRPC for port in plain]


def test_it_starts_once_keeps_its_data_and_stops(folder: Path) -> None:
    script = "import sys; from pathlib import Path; from flows import local_s3; "
    script += "local_s3.start(Path(sys.argv[1]), sys.argv[2])"
    starters = [subprocess.Popen([sys.executable, "-c", script, folder, BUCKET]) for _ in range(2)]
    assert [starter.wait() for starter in starters] == [0, 0]
    assert local_s3.running(folder)
    pid = (folder / "pid").read_text()
    local_s3.start(folder, BUCKET)
    assert (folder / "pid").read_text() == pid

    config = local_s3.config_file(folder)
    assert config == folder.parent / "aws_config"
    for secret in (config, folder / "keys.json"):
        assert mode(secret) == 0o600
    assert mode(folder) == 0o700

    made = folder.parent / "made"
    made.mkdir()
    (made / "README.md").write_text("card")
    release = Registry(Store(registry.connect(config), BUCKET, "r")).publish(
        made, {"by": "Ann", "reason": "a test"}
    )
    keys = json.loads((folder / "keys.json").read_text())
    local_s3.stop(folder)
    assert not local_s3.running(folder)
    assert not local_s3._alive(folder)

    local_s3.start(folder, BUCKET)
    assert json.loads((folder / "keys.json").read_text()) == keys
    assert Registry(Store(registry.connect(config), BUCKET, "r")).verify(release.release) == []
    size = sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
    assert size < 5_000_000  # nothing is set aside for data to come


def test_nothing_listens_beyond_loopback(s3: Path) -> None:
    listening = ports(s3.parent / "s3")
    assert len(listening) == 8
    hosts = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for port in listening:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        for host in hosts - {"127.0.0.1"}:
            with socket.socket() as other:
                other.settimeout(1)
                assert other.connect_ex((host, port)) != 0, (host, port)


def test_a_dead_server_is_not_running_and_its_number_is_not_trusted(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "pid").write_text(f"{os.getpid()}\n")
    assert not local_s3.running(folder)
    local_s3.stop(folder)  # would end this very process
    assert not (folder / "pid").exists()


def test_stopping_what_was_never_started_does_nothing(tmp_path: Path) -> None:
    local_s3.stop(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def test_a_server_that_does_not_come_up_says_where_its_log_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_s3, "LAUNCHES", 1)
    folder.mkdir(parents=True)
    (folder / "keys.json").write_text(
        json.dumps({"identities": [{"credentials": [{"accessKey": 7, "secretKey": 7}]}]})
    )
    with pytest.raises(RegistryUnavailable, match=r"did not come up.*s3/log"):
        local_s3.start(folder, BUCKET)
    assert not local_s3.running(folder)


@pytest.mark.timeout(120)
def test_a_launch_that_hangs_is_ended_before_the_next(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    came_up, launched = local_s3._came_up, []

    def hangs_once(process: "subprocess.Popen[bytes]", config: Path, bucket: str) -> bool:
        launched.append(process)
        return len(launched) > 1 and came_up(process, config, bucket)

    monkeypatch.setattr(local_s3, "_came_up", hangs_once)
    local_s3.start(folder, BUCKET)
    assert len(launched) == 2
    assert launched[0].wait(10) is not None
    assert local_s3.running(folder)
