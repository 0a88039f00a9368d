"""The clone that a deployed run works in, at the newest commit of the branch to train from.

A pull step of infra/prefect.yaml: it runs before the flow is read, so that the flow's own code is
the commit's too. One clone for each flow and worker is used again and again, since DVC then knows
its files already; a lock keeps two runs out of it. The repository's users never see it.

    flows.workspace.enter: {name: retrain}

Results start from those of the last run on the same commit, so that nothing is asked twice.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from flows import home, life, remotes, repository, stages
from pipeline import paths
from pipeline.errors import InputError, PipelineError

BRANCH = "MOELORA_BRANCH"
"""Variable that names the branch runs start from; ``main`` where it is unset."""

PATIENCE = 60.0
"""Seconds that a run waits for the end of one that was killed and still winds up."""

RAW = "retrain"
"""The flow whose clone holds raw text; no other gets the private remote's address."""

LINKED = (paths.SERVICES,)
"""What a clone of a folder on this machine shares with it: the servers that `moelora up` started."""


def enter(name: str, offline: bool = False) -> dict[str, str]:
    """Bring the clone of a flow to the newest commit; the directory to go on in, for Prefect.

    ``offline``: go on with the last commit where the repository cannot be asked.

    Raises InputError where the repository is not to be had, PipelineError where git or DVC fails.
    """
    life.begin()
    clone = home.clone(name)
    if not (clone / ".git").is_dir():
        _make(clone)
    with _inside(clone), repository.one_at_a_time(PATIENCE):
        stages.end_leftovers()
        repository.git("remote", "set-url", "origin", home.repository())
        try:
            repository.git("fetch", "--quiet", "--prune", "--force", "origin", f"+refs/heads/*:{_REMOTE}*")
        except PipelineError:
            if not offline:
                raise
        checkout(f"{_REMOTE}{os.environ.get(BRANCH, 'main')}")
        _configure(clone, name)
        if name == RAW:
            take_last_results()
    return {"directory": str(clone)}


def checkout(commit: str) -> None:
    """Make the clone in the working directory hold a commit and nothing of earlier runs but results."""
    repository.git("checkout", "--quiet", "--force", "--detach", commit)
    repository.git("clean", "--quiet", "-d", "--force")


def take_last_results() -> None:
    """Put dvc.lock and the inbox's tracking file of the newest run on this very commit into the working
    tree, and pin the champion that it was compared with: DVC compares every digest, and what still holds
    need not be made again.

    Nothing else of it, and no branch with other parameters: whoever may push such a branch changes
    neither what is run nor how it is judged.
    """
    here = repository.head()
    newest = ("--sort=-committerdate", "--format=%(parent) %(objectname)")
    listed = repository.git("for-each-ref", *newest, f"{_REMOTE}{repository.RESULTS}/")
    for line in listed.splitlines():
        parent, _, commit = line.partition(" ")
        if parent != here:
            continue
        champion, others = _parameters(commit)
        if others != _parameters(here)[1]:
            continue
        changed = repository.git("diff", "--name-only", here, commit).splitlines()
        wanted = {str(file) for file in repository.RESULT_FILES if file != paths.PARAMS}
        if results := [file for file in changed if file in wanted]:
            repository.git("restore", "--quiet", f"--source={commit}", "--", *results)
        repository.set_params({"evaluate.champion": champion})
        return


def check_state(reference: str) -> None:
    """Raise PipelineError unless a state that is to be run differs from a commit of the branch to train
    from in the results of a run alone: whoever may push other references does not decide what is run."""
    branch = f"{_REMOTE}{os.environ.get(BRANCH, 'main')}"
    repository.git("merge-base", "--is-ancestor", f"{reference}^", branch)
    changed = repository.git("diff", "--name-only", f"{reference}^", reference).splitlines()
    if others := set(changed) - {str(file) for file in repository.RESULT_FILES}:
        raise PipelineError(f"{reference} changes {', '.join(sorted(others))}, which no run does: not run")


def _parameters(commit: str) -> tuple[str | None, dict[str, object]]:
    """The champion that a commit's parameters pin, and all the others."""
    params = yaml.safe_load(repository.git("show", f"{commit}:{paths.PARAMS}"))
    return params["evaluate"].pop("champion"), params


_REMOTE = "refs/remotes/origin/"


def _make(clone: Path) -> None:
    source = home.repository()
    unfinished = clone.with_name(f".{clone.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    repository.git("clone", "--quiet", "--no-checkout", source, str(unfinished))
    unfinished.chmod(0o700)  # raw text will lie in it
    if clone.exists():
        raise InputError(f"{clone} is in the way and no git repository: remove it")
    unfinished.rename(clone)


def _configure(clone: Path, name: str) -> None:
    """DVC's own settings of this clone: the worker's cache, and remotes by absolute paths where the
    repository is a folder of this machine."""
    source = Path(home.repository())
    known: dict[str, dict[str, str]] = {}
    if source.is_dir():
        with _inside(source):
            known = remotes.remotes()
        if name != RAW:
            known.pop("private", None)  # with what its configuration may hold of credentials
        for shared in LINKED:
            link = clone / shared
            if (source / shared).is_dir() and not link.exists():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to((source / shared).absolute())
    cache = home.folder() / "dvc"
    cache.mkdir(exist_ok=True, mode=0o700)
    remotes.write_own(clone, known, cache)


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def is_deployed() -> bool:
    """Whether this run was started by a deployment, and so works in a clone of its own."""
    from prefect.runtime import deployment

    return deployment.id is not None


def push(*references: str) -> None:
    """Push to the repository that the clone was made of. Raises PipelineError."""
    repository.git("push", "--quiet", "--force", "origin", *references)


def prepare_key() -> None:
    """Write the id of the key in use, where stages depend on it. Raises DeidKeyError."""
    from flows.cli import ready

    ready.prepare_key()


def prepare_base() -> None:
    """Fill models/base in a process of its own, since that may import torch. Raises PipelineError."""
    done = repository.program("python", "-m", "pipeline.base")
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise PipelineError(f"the base model: {reason}")
