"""Commands of a real DVC as forks: each is a process of its own, and none outlives what started it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flows.warm_dvc import Command, WarmDvc
from tests.service import environment, is_gone, until


@pytest.fixture
def warm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WarmDvc]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", environment()["PATH"])
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, check=True)
    made = WarmDvc()
    yield made
    made.end()


def stage(command: str) -> None:
    Path("dvc.yaml").write_text(f"stages:\n  one:\n    cmd: {command}\n    outs: [out]\n")


def run(warm: WarmDvc, *arguments: str, **env: str) -> Command:
    with Path("said").open("wb") as said:
        return warm.start([*arguments], {**os.environ, **env}, said.fileno(), said.fileno())


def test_a_command_does_what_dvc_does_with_its_own_environment_and_folder(
    warm: WarmDvc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm.prepare()
    stage("echo $GREETING > out")
    assert run(warm, "repro", GREETING="hello").wait() == 0
    assert Path("out").read_text() == "hello\n"
    assert "Running stage 'one'" in Path("said").read_text()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run(warm, "root").wait() == 0
    assert Path("said").read_text() == "..\n"
    assert run(warm, "repro", "no-such-stage").wait() == 255
    assert "ERROR: " in Path("said").read_text()


def test_a_command_leads_a_group_that_can_be_ended(warm: WarmDvc) -> None:
    stage("touch began && sleep 60")
    command = run(warm, "repro")
    until(Path("began").is_file)
    assert command.poll() is None
    members = psutil.Process(command.pid).children(recursive=True)
    assert members
    assert {os.getpgid(each.pid) for each in members} == {command.pid} != {os.getpgid(0)}
    os.killpg(command.pid, signal.SIGKILL)
    assert command.wait() == -signal.SIGKILL
    assert command.poll() == -signal.SIGKILL
    until(lambda: all(map(is_gone, members)))


def test_two_commands_run_side_by_side(warm: WarmDvc) -> None:
    stage("touch began && sleep 60")
    long = run(warm, "repro")
    until(Path("began").is_file)
    assert run(warm, "root").wait() == 0
    assert long.poll() is None
    os.killpg(long.pid, signal.SIGKILL)


def test_a_program_that_was_killed_is_started_again(warm: WarmDvc) -> None:
    others = {each.pid for each in programs(os.getpid())}
    assert run(warm, "root").wait() == 0
    (program,) = (each for each in programs(os.getpid()) if each.pid not in others)
    program.kill()
    until(lambda: is_gone(program))
    assert run(warm, "root").wait() == 0


def test_the_program_ends_with_who_started_it(tmp_path: Path) -> None:
    hold = "import time; from flows.warm_dvc import WARM_DVC; WARM_DVC.prepare(); print('there', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"there\n"
    (program,) = programs(holder.pid)
    time.sleep(1)
    assert not is_gone(program)
    holder.kill()
    holder.wait()
    until(lambda: is_gone(program))


def programs(parent: int) -> list[psutil.Process]:
    return [each for each in psutil.Process(parent).children() if "flows.warm_dvc" in each.cmdline()]
