"""The stages that want a GPU, on the worker that has one: train, export, evaluate.

Started by `retrain` on the work pool ``gpu``. De-identified data comes from DVC's shared remote and
results go there, by stage name, so that a worker needs neither raw data, nor the key, nor the right
to move a channel or to push to git. What DVC noted of each finished stage goes back as an artifact
(digests only). A stopped or killed run loses no finished stage, and of a training no more than
``train.checkpoint_every`` steps.
"""

import json
import re
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows import champion, dvc_lock, reports, repository, stages, workspace
from flows.elsewhere import ON_GPU, before
from flows.endings import ended_by
from flows.leash import leash
from pipeline.errors import InputError, PipelineError, Stopped


@flow(name="gpu-stage", flow_run_name="{batch}", persist_result=False)
def gpu_stage(wanted: list[str], reference: str, commit: str, batch: str, parent: str) -> "State[Any]":
    """Run the stages ``wanted``, in order, on the state that ``reference`` holds in git.

    ``commit``: what it must point at; ``parent``: the flow run that waits for this one, at whose end
    this one ends too. Fails with a stage's own message.
    """
    try:
        check(wanted, reference, commit)
        with leash(parent), repository.one_at_a_time(workspace.PATIENCE):
            prepare(wanted, reference, commit)
            for stage in wanted:
                state: State[Any] = TASKS[stage](stage, return_state=True)
                if state.is_cancelled():
                    raise Stopped(state.message or stage)
                state.result()
            return Completed(message=f"{', '.join(wanted)} for {batch}")
    except PipelineError as error:
        return ended_by(error)


def check(wanted: list[str], reference: str, commit: str) -> None:
    """Raise InputError for anything that `retrain` would not ask: these names reach git and DVC."""
    if not wanted or any(stage not in ON_GPU for stage in wanted):
        raise InputError(f"wanted: one or more of {', '.join(ON_GPU)}")
    if not re.fullmatch(r"refs/moelora/[0-9a-f-]{1,64}", reference):
        raise InputError("reference: a name of the form refs/moelora/<flow run>")
    if not re.fullmatch(r"[0-9a-f]{40,64}", commit):
        raise InputError("commit: a full commit id")


def prepare(wanted: list[str], reference: str, commit: str) -> None:
    """Bring code, parameters, data, base model and the releases to compare with. Raises PipelineError."""
    if workspace.is_deployed():
        stages.end_leftovers()
        repository.git("fetch", "--quiet", "--force", "origin", f"+{reference}:{reference}")
        if repository.git("rev-parse", reference) != commit:
            raise PipelineError(f"{reference} holds another commit than {commit}: run the retraining again")
        workspace.checkout(commit)
    workspace.prepare_base()
    repository.dvc("pull", "--force", *before(wanted[0]))
    if "evaluate" in wanted:
        champion.pull_compared()


def _stage_task(stage: str) -> "State[Any]":
    try:
        ran = stages.run(stage, get_run_logger().info, reports.Progress(stage).show)
        reports.tell(stage)
        repository.dvc("push", stage)
        hand_back(stage)
    except PipelineError as error:
        return ended_by(error)
    return Completed() if ran else Completed(name="Cached", message="This worker had the result already.")


def hand_back(stage: str) -> None:
    """Leave what DVC noted of a finished stage, for the run that waits."""
    entry = json.dumps(dvc_lock.entry(stage), indent=1)
    create_markdown_artifact(
        f"```json\n{entry}\n```", key=f"{stage}-lock", description=f"What dvc.lock says of {stage}."
    )


TASKS = {
    stage: task(name=stage, task_run_name=stage, cache_policy=NO_CACHE, persist_result=False)(_stage_task)
    for stage in ON_GPU
}
