"""The stages that want a GPU, on the worker that has one: train, export, evaluate.

Started by `retrain` on the work pool ``gpu``. De-identified data comes from DVC's shared remote and
results go there, by stage name, so that a worker needs neither raw data, nor the key, nor the right
to move a channel or to push to git. What DVC noted of each finished stage goes back as an artifact
(digests only). A stopped or killed run loses no more of a training than ``train.checkpoint_every``
steps.
"""

import json
import re
import time
from contextlib import suppress
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows import champion, dvc_lock, reports, repository, stages, workspace
from flows.elsewhere import OFFLINE, ON_GPU, WANTED, before
from flows.endings import ended_by
from flows.leash import leash
from flows.progress import Progress
from flows.warm_dvc import WARM_DVC
from pipeline.errors import InputError, PipelineError, Stopped
from pipeline.params import Params

FETCH_EVERY = (0.3, 5.0)
"""Seconds between looks whether the state is there: the first, and the longest."""


@flow(name="gpu-stage", flow_run_name="{batch}", persist_result=False)
def gpu_stage(reference: str, batch: str, parent: str) -> "State[Any]":
    """Run the stages that the state in ``reference`` asks for, in order; it may come later than this run.

    ``parent``: the flow run that waits for this one, at whose end this one ends too. Fails with a
    stage's own message.
    """
    finished: list[str] = []
    WARM_DVC.prepare()
    try:
        with leash(parent), repository.one_at_a_time(workspace.PATIENCE):
            wanted = prepare(reference)
            for stage in wanted:
                state: State[Any] = TASKS[stage](stage, return_state=True)
                if state.is_cancelled():
                    raise Stopped(state.message or stage)
                if state.is_failed():
                    with suppress(PipelineError):  # the stage's own message is what there is to tell
                        hand_back(finished)  # a failed export costs no second training
                state.result()
                finished.append(stage)
            hand_back(finished)
            return Completed(message=f"{', '.join(wanted)} for {batch}")
    except PipelineError as error:
        return ended_by(error)


def prepare(reference: str) -> list[str]:
    """Bring base model, state, data and the releases to compare with; the stages that are wanted.

    Raises InputError for anything that `retrain` would not ask: these names reach git and DVC.
    """
    if not re.fullmatch(r"refs/moelora/[0-9a-f-]{1,64}", reference):
        raise InputError("reference: a name of the form refs/moelora/<flow run>")
    stages.end_leftovers()
    workspace.prepare_base()
    base = Params.load().base
    asked, *wanted = fetch(reference).split()
    if asked != WANTED or not wanted or any(stage not in ON_GPU for stage in wanted):
        raise InputError(f"{reference} asks for none of {', '.join(ON_GPU)}")
    if Params.load().base != base:
        workspace.prepare_base()
    repository.dvc("pull", "--force", *before(wanted[0]))
    if "evaluate" in wanted:
        champion.pull_compared()
    return wanted


def fetch(reference: str) -> str:
    """Check the state out, once it is there; the message of its commit. Raises PipelineError where the
    repository does not answer for OFFLINE seconds."""
    pause, longest = FETCH_EVERY
    answered = time.monotonic()
    # The leash ends this waiting with the run that is to push it.
    while True:
        try:
            if repository.git("ls-remote", "origin", reference):
                break
            answered = time.monotonic()
        except PipelineError:
            if time.monotonic() - answered > OFFLINE:
                raise
        time.sleep(pause)
        pause = min(1.5 * pause, longest)
    repository.git("fetch", "--quiet", "--force", "origin", f"+{reference}:{reference}")
    workspace.check_state(reference)
    workspace.checkout(reference)
    return repository.git("log", "-1", "--format=%s", reference)


def _stage_task(stage: str) -> "State[Any]":
    try:
        ran = stages.run(stage, get_run_logger().info, Progress(stage).show)
        reports.tell(stage)
    except PipelineError as error:
        return ended_by(error)
    return Completed() if ran else Completed(name="Cached", message="This worker had the result already.")


def hand_back(finished: list[str]) -> None:
    """Send the results of finished stages to the remote, and leave what DVC noted of them for the run
    that waits."""
    if not finished:
        return
    repository.dvc("push", *finished)
    for stage in finished:
        entry = json.dumps(dvc_lock.entry(stage), indent=1)
        what = f"What dvc.lock says of {stage}."
        create_markdown_artifact(f"```json\n{entry}\n```", key=f"{stage}-lock", description=what)


TASKS = {
    stage: task(name=stage, task_run_name=stage, cache_policy=NO_CACHE, persist_result=False)(_stage_task)
    for stage in ON_GPU
}
