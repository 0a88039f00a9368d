"""The checkout as DVC and git keep it: inbox, parameters, results, and a branch for each run.

Nothing in here changes the user's checkout, index or current branch, but for params.yaml, whose
values a run pins, and data/inbox.dvc, which DVC writes. Messages name no file of the inbox.
"""

import fcntl
import getpass
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from flows.warm_dvc import WARM_DVC
from pipeline import paths
from pipeline.errors import ParamsError, PipelineError

INBOX_TRACKING = Path(f"{paths.INBOX}.dvc")
CACHE = Path(".dvc/cache")
"""DVC's cache, which holds raw text too."""

RESULTS = "retrain"
"""Branches ``retrain/<batch>-<run>`` hold the results of runs."""

RESULT_FILES = (
    paths.DVC_LOCK,
    paths.PARAMS,
    INBOX_TRACKING,
    *(Path(folder, ".gitignore") for folder in ("data", "models", "reports", "reports/plots")),
)
"""What such a branch holds beside the commit that the run began from."""

LOCK = paths.SCRATCH / "retrain.lock"
DVC = [sys.executable, "-m", "dvc"]

DVC_LOCK = Path(".dvc/tmp/rwlock")
"""Where dvc notes which of its processes uses which path."""

PRIVATE = re.compile(rf"({paths.INBOX}|{paths.INGESTED}|{paths.QUARANTINE})/\S.*")
"""A path below the raw folders, to the end of its line: the names of raw files are private, and may
hold any character."""

GIT_WITHOUT_PEOPLE = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_SSH_COMMAND": "ssh -oBatchMode=yes -oServerAliveInterval=15",
    "GIT_HTTP_LOW_SPEED_LIMIT": "1000",
    "GIT_HTTP_LOW_SPEED_TIME": "60",
}
"""No question that nobody answers, and no waiting for a line that is cut."""

_lock_depth = 0


class Kept(NamedTuple):
    """Where the state of a run is kept; ``branch`` is None where HEAD holds just that already."""

    branch: str | None
    commit: str


def environment() -> dict[str, str]:
    """The environment of dvc and the stages: our interpreter first, no telemetry, output at once,
    and who acts, for the registry's history."""
    return os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "DVC_NO_ANALYTICS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "MOELORA_ACTOR": actor(),
        "PYTHONUNBUFFERED": "1",
    }


def actor() -> str:
    """Who acts, as claimed: MOELORA_ACTOR, else the user's name."""
    return os.environ.get("MOELORA_ACTOR") or getpass.getuser()


def without_names(text: str) -> str:
    """``text`` with every path of a raw file cut to its folder."""
    return PRIVATE.sub(r"\1/…", text)


@contextmanager
def one_at_a_time(patience: float = 0.0) -> Iterator[None]:
    """Hold this checkout for one retraining; may be entered again by the process that holds it.

    The lock ends with the process, however that ends. Raises PipelineError where another holds it for
    longer than ``patience`` seconds.
    """
    global _lock_depth
    if _lock_depth == 0:
        LOCK.parent.mkdir(parents=True, exist_ok=True)
        file = LOCK.open("a+")
        if not _locked(file, patience):
            file.seek(0)
            holder = file.read() or "unknown"
            file.close()
            raise PipelineError(
                f"another retraining runs in this checkout (process {holder}): wait for it, or stop it"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
    else:
        file = None
    _lock_depth += 1
    try:
        yield
    finally:
        _lock_depth -= 1
        if file is not None:
            file.close()


def _locked(file: IO[str], patience: float) -> bool:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.2)
        else:
            return True


def track_inbox() -> None:
    """Make data/inbox.dvc say what the inbox holds, for the private remote only.

    Raises PipelineError.
    """
    # What DVC restores or pushes gets the user's usual mode: the folders above it are closed instead.
    for folder in (paths.INBOX, paths.INBOX.parent, paths.SCRATCH):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    dvc("add", str(paths.INBOX))
    if CACHE.is_dir():  # one configured elsewhere is its owner's to protect
        CACHE.chmod(0o700)
    yaml = _round_trip()
    tracking = yaml.load(INBOX_TRACKING)
    if tracking["outs"][0].get("remote") != "private":
        tracking["outs"][0]["remote"] = "private"
        yaml.dump(tracking, INBOX_TRACKING)


def changed() -> set[str]:
    """Stages whose inputs, parameters, command or outputs differ from dvc.lock. Raises PipelineError."""
    return set(json.loads(dvc("status", "--json")))


def check_up_to_date() -> None:
    """Raise PipelineError, which names the stages, unless every stage fits its inputs and outputs."""
    stages = changed()
    if stages:
        names = ", ".join(sorted(stages))
        raise PipelineError(f"changed while the run was on: {names}; run the same command again")


def push() -> None:
    """Send all results to the remotes, each to its own. Raises PipelineError."""
    dvc("push")


def set_params(values: dict[str, Any]) -> None:
    """Set parameters by dotted name in params.yaml, its comments and layout kept.

    The file is not touched where nothing changes, nor where the result would not be valid:
    ParamsError names the key then.
    """
    from pipeline.params import Params

    yaml = _round_trip()
    if not paths.PARAMS.is_file():
        Params.load()
    params = yaml.load(paths.PARAMS)
    changed = False
    for name, value in values.items():
        *parents, key = name.split(".")
        section = params
        for parent in parents:
            section = section.get(parent) if isinstance(section, dict) else None
        if not isinstance(section, dict) or not parents:
            raise ParamsError(f"{paths.PARAMS}: {name}: no such parameter")
        if key not in section or section[key] != value:
            section[key] = _on_one_line(value)
            changed = True
    if not changed:
        return
    temporary = paths.PARAMS.with_name(f".{paths.PARAMS.name}.{os.getpid()}")
    try:
        yaml.dump(params, temporary)
        Params.load(temporary)
        temporary.replace(paths.PARAMS)
    except ParamsError as error:
        raise ParamsError(str(error).replace(str(temporary), str(paths.PARAMS))) from None
    finally:
        temporary.unlink(missing_ok=True)


def _round_trip() -> Any:
    """A reader and writer that keeps comments and layout.

    ruamel's round-trip loader builds plain values whatever a file's tags say; it is not PyYAML's
    unsafe ``yaml.load``.
    """
    from ruamel.yaml import YAML

    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = 200
    yaml.representer.add_representer(
        type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return yaml


def head() -> str:
    """The commit that is checked out, in hex. Raises PipelineError."""
    return git("rev-parse", "--verify", "HEAD")


def uncommitted_code() -> list[str]:
    """Files of the pipeline that differ from HEAD: a branch of results does not hold them."""
    return git("status", "--porcelain", "--", "pipeline", "dvc.yaml").splitlines()


def commit_results(branch: str, message: str) -> Kept:
    """Commit the state of a run (see ``commit_state``) on a new branch.

    Where HEAD, or a branch beside this one, holds the same already, that one is returned.
    Raises PipelineError.
    """
    commit, parent = commit_state(message), head()
    if commit == parent:
        return Kept(None, parent)
    tree = git("rev-parse", f"{commit}^{{tree}}")
    for siblings in (f"refs/heads/{RESULTS}/", f"refs/remotes/origin/{RESULTS}/"):
        listed = git("for-each-ref", "--format=%(tree) %(parent) %(objectname) %(refname)", siblings)
        for line in listed.splitlines():
            if line.startswith(f"{tree} {parent} "):
                _, _, found, ref = line.split(" ")
                return Kept(f"{RESULTS}/{ref.removeprefix(siblings)}", found)
    git("update-ref", f"refs/heads/{branch}", commit, "")
    return Kept(branch, commit)


def commit_state(message: str, always: bool = False) -> str:
    """Commit dvc.lock, params.yaml, data/inbox.dvc and DVC's .gitignore files on no branch.

    Made with an index of its own on top of HEAD, so that whoever works in this checkout sees no
    change. Where HEAD holds the same already, that is returned, unless a commit is ``always`` wanted
    for its message. Raises PipelineError.
    """
    parent = head()
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": f"{folder}/index"}
        git("read-tree", parent, **index)
        git("add", "--force", "--", *(str(file) for file in RESULT_FILES if file.is_file()), **index)
        tree = git("write-tree", **index)
    if tree == git("rev-parse", f"{parent}^{{tree}}") and not always:
        return parent
    return git("commit-tree", tree, "-p", parent, "-m", message, **_author())


def tag(name: str, commit: str) -> bool:
    """Tag a commit, unless it is not in this clone or the tag is there; whether it was done."""
    try:
        git("cat-file", "-e", f"{commit}^{{commit}}")
        git("update-ref", f"refs/tags/{name}", commit, "")
    except PipelineError:
        return False
    return True


def program(*command: str) -> "subprocess.CompletedProcess[str]":
    """Run a program of this environment, that nobody answers, and keep what it prints."""
    return subprocess.run(
        command, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def dvc(*arguments: str) -> str:
    """Run a dvc command and return what it prints. Raises PipelineError with dvc's own reason."""
    with tempfile.TemporaryFile("w+") as printed, tempfile.TemporaryFile("w+") as complained:
        wanted = ["--wait-for-lock", *arguments]
        code = WARM_DVC.start(wanted, environment(), printed.fileno(), complained.fileno()).wait()
        for file in (printed, complained):
            file.seek(0)
        if code != 0:
            reasons = [line for line in complained if line.startswith("ERROR: ")]
            reason = without_names(reasons[-1].strip().removeprefix("ERROR: ")) if reasons else f"exit {code}"
            raise PipelineError(f"dvc {arguments[0]}: {reason}")
        return printed.read().strip()


def drop_broken_lock() -> None:
    """Remove dvc's list of who uses which path, where a dvc that was killed while writing it left
    half of it: every later dvc would refuse to run. What a dead process holds, dvc frees itself.

    To be called by who holds this checkout, when no stage is left running in it.
    """
    for _ in range(2):  # somebody's `dvc status` may be writing it in this very moment
        try:
            json.loads(DVC_LOCK.read_bytes())
        except FileNotFoundError:
            return
        except ValueError:
            time.sleep(0.2)
        else:
            return
    DVC_LOCK.unlink(missing_ok=True)


def git(*arguments: str, **environ: str) -> str:
    """Run a git command and return what it prints. Raises PipelineError with git's own reason."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            env=GIT_WITHOUT_PEOPLE | os.environ | environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise PipelineError(
            "git is not installed: install it, `moelora doctor` shows what else is missing"
        ) from None
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
        raise PipelineError(f"git {arguments[0]}: {reason}")
    return done.stdout.strip()


def _on_one_line(value: Any) -> Any:
    """A list or mapping as YAML writes it on the line of its key, where its comment stands."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    if not isinstance(value, dict | list):
        return value
    kept = CommentedMap(value) if isinstance(value, dict) else CommentedSeq(value)
    kept.fa.set_flow_style()
    return kept


def _author() -> dict[str, str]:
    """Who commits: nothing to add where git knows, else a name that says no person did."""
    try:
        git("var", "GIT_COMMITTER_IDENT")
    except PipelineError:
        who = ("GIT_AUTHOR", "GIT_COMMITTER")
        return {f"{each}_NAME": "moelora" for each in who} | {
            f"{each}_EMAIL": "moelora@localhost" for each in who
        }
    return {}
