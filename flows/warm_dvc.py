"""DVC, imported once: each of its commands is a fork of a process that has read its modules already.

    run of a flow ── socket ── this program ── keeper ── `dvc repro …`, a session and group of its own

A command begins half a second sooner than `python -m dvc`, and a retraining has some twenty. It has its
own environment, working directory and output, as a new process would. The program ends when
the socket is closed, by whatever the run ended; keepers stay until their command has ended.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

MODULES = (
    "configobj",
    "dulwich.ignore",
    "dvc._debug",
    "dvc.cli.parser",
    "dvc.repo",
    "dvc.cachemgr",
    "dvc.data_cloud",
    "dvc.dirs",
    "dvc.repo.open_repo",
    "dvc.rwlock",
    "dvc.scm",
    "dvc.utils.strictyaml",
    "dvc_render.vega",
    "flatten_dict",
    "flufl.lock",
    "platformdirs",
    "psutil",
    "ruamel.yaml",
    "scmrepo.git",
)
"""What commands import when they need it, found by what they had imported at their end."""

REQUEST = 1 << 16


class Command:
    """A command of DVC under way, with what is used of ``subprocess.Popen``."""

    def __init__(self, pid: int, told: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._told = told

    def poll(self) -> int | None:
        """The exit code, negative after a signal; None while it runs."""
        return self._ask(socket.MSG_DONTWAIT)

    def wait(self) -> int:
        """The exit code, once it has ended."""
        return int(self._ask(0) or 0)

    def _ask(self, flags: int) -> int | None:
        if self.returncode is None:
            try:
                # Nothing comes from a keeper that was killed.
                self.returncode = int(self._told.recv(16, flags) or -signal.SIGKILL)
                self._told.close()
            except BlockingIOError:
                return None
        return self.returncode


class WarmDvc:
    """The program, started where it does not run."""

    def __init__(self) -> None:
        self._channel: socket.socket | None = None
        self._program: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Let it read DVC's modules while the caller does something else."""
        if self._channel is not None:
            return
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "flows.warm_dvc", str(theirs.fileno())]
            self._program = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
            )
        self._channel = ours

    def start(self, arguments: list[str], env: dict[str, str], out: int, err: int) -> Command:
        """Run `dvc` with ``arguments``; ``out`` and ``err`` are file descriptors."""
        request = json.dumps([arguments, env, str(Path.cwd())]).encode() + b"\n"
        for _ in range(2):
            self.prepare()
            assert self._channel is not None  # noqa: S101  # prepare has opened it
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            with theirs, suppress(OSError):
                socket.send_fds(self._channel, [request[:1]], [out, err, theirs.fileno()])
                self._channel.sendall(request[1:])
                theirs.close()
                if pid := ours.recv(16):
                    return Command(int(pid), ours)
            # Somebody ended the program: another one does it.
            ours.close()
            self._channel.close()
            self._channel = None
        raise OSError("flows.warm_dvc does not run")

    def end(self) -> None:
        """End the program; commands under way go on."""
        if self._channel is not None and self._program is not None:
            self._channel.close()
            self._program.wait()
            self._channel = self._program = None


WARM_DVC = WarmDvc()
"""The one of this process."""


def serve(channel: socket.socket) -> NoReturn:
    """Fork a keeper for each request until the other end is closed."""
    for module in MODULES:
        import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for keepers
    os.chdir("/")  # only commands work in a checkout
    while True:
        start, files, _, _ = socket.recv_fds(channel, 1, 3)
        if not start:
            os._exit(0)
        request = start
        while not request.endswith(b"\n"):
            request += channel.recv(REQUEST)
        if os.fork() == 0:
            channel.close()
            _keep(*json.loads(request), *files)
        for file in files:
            os.close(file)


def _keep(arguments: list[str], env: dict[str, str], folder: str, out: int, err: int, tell: int) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.write(tell, f"{os.getpid():<16}".encode())
        os.close(tell)
        _become_dvc(arguments, env, folder, out, err)
    for file in (out, err):
        os.close(file)
    _, status = os.waitpid(pid, 0)
    with suppress(BrokenPipeError):
        os.write(tell, str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become_dvc(arguments: list[str], env: dict[str, str], folder: str, out: int, err: int) -> NoReturn:
    code = 1
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        for file in {out, err} - {1, 2}:
            os.close(file)
        os.environ.clear()
        os.environ.update(env)
        os.chdir(folder)
        sys.argv = ["dvc", *arguments]
        from dvc.cli import main

        code = main(arguments)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as here:
        serve(here)
