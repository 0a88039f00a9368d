"""Files in the inbox become an adapter that the gate has judged and, where it passed, published.

    moelora retrain --inbox FOLDER

The stages run one by one through DVC, which decides what must run; then the results are checked,
sent to the remotes, kept on a branch, and announced. Ends as Completed: "Published", "Blocked"
(the gate refused: no error, never tried again), "Unpublished" (no registry is configured) or
"Unchanged"; as "Stopped" where a signal ended a stage after it saved its state.
"""

from collections.abc import Callable
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.runtime import flow_run
from prefect.states import Completed

from flows import arrivals, elsewhere, home, inbox, reports, repository, stages, workspace
from flows.champion import open_registry, pull_champion
from flows.endings import ended_by, without_paths
from flows.leash import leash
from flows.progress import Progress
from flows.warm_dvc import WARM_DVC
from pipeline import STAGES, paths
from pipeline.errors import PipelineError, PointerMoved, Stopped
from pipeline.pages import evaluation
from pipeline.params import Params
from pipeline.registry import CANDIDATE, Registry


@flow(name="retrain", flow_run_name="{batch}", persist_result=False)
def retrain(batch: str = "manual") -> "State[Any]":
    """Run every stage on what the inbox holds; ``batch`` names what arrived, nothing more."""
    try:
        inbox.check_batch(batch)
        WARM_DVC.prepare()
        deployed = workspace.is_deployed()
        with leash(), repository.one_at_a_time(workspace.PATIENCE if deployed else 0.0):
            if deployed:
                take_what_arrived()
            prepare()
            ran = run_stages(batch)
            repository.check_up_to_date()
            ran += confirm_release()
            repository.push()
            announce(batch, keep(batch))
            return conclude(ran)
    except PipelineError as error:
        return ended_by(error)
    except OSError as error:
        return ended_by(without_paths(error))


def prepare() -> None:
    """Settle what this run depends on: the inbox as it is now, and the champion of this moment."""
    log = get_run_logger()
    if stages.end_leftovers():
        log.warning("Ended a stage that a killed run had left behind.")
    for line in repository.uncommitted_code():
        log.warning("Not committed, so the branch of this run will not hold it: %s", line)
    repository.track_inbox()
    registry = open_registry()
    champion = pull_champion(registry)
    if registry and (reference := Params.load().evaluate.reference):
        registry.pull(reference)  # which asks whether it was withdrawn, and copies nothing that is here
    if champion and champion == reports.read("publish").get("release") and not repository.changed():
        # Compared with itself it would become another release of the same adapter.
        log.info("The champion %s was made here, and nothing has changed since.", champion)
        return
    repository.set_params({"evaluate.champion": champion})
    log.info(
        "Compared with %s.", f"the champion {champion}" if champion else "the bare base: there is no champion"
    )


def take_what_arrived() -> None:
    """Fill the clone with what the service's inbox holds now, and with what the stages need beside."""
    home.claim_inbox()
    found = inbox.mirror(home.inbox())
    arrivals.mark_read(found.batches)
    get_run_logger().info(
        "The inbox: %d files, %d of them new here, %d gone.", found.files, found.new, found.gone
    )
    workspace.prepare_base()
    workspace.prepare_key()


def run_stages(batch: str) -> list[str]:
    """Bring the stages up to date in order; those that were not.

    DVC is asked once what has changed: it need not be asked again for the stages before that. A
    deployment's runs have those of the pool ``gpu`` run there, all at once.
    """
    changed, ran, unchanged, left = repository.changed(), [], True, list(STAGES)
    deployed = workspace.is_deployed()
    with elsewhere.Gpu(batch) as gpu:
        while left:
            unchanged = unchanged and left[0] not in changed
            together = [stage for stage in elsewhere.ON_GPU if stage in left]
            if deployed and left[0] in elsewhere.ON_GPU and not unchanged:
                # Stages that took their results from the cache may have made no difference.
                unchanged = "resample" not in ran and left[0] not in (changed := repository.changed())
                if not unchanged:
                    gpu.run(together)
                    ran += together
                    left = left[len(together) :]
                    continue
            stage = left.pop(0)
            last = deployed and stage == "deidentify"
            if run_stage(stage, unchanged, near_end=gpu.begin if last else None):
                ran.append(stage)
            if last and stage in ran:
                gpu.begin()
    return ran


def run_stage(
    stage: str, unchanged: bool = False, force: bool = False, near_end: Callable[[], None] | None = None
) -> bool:
    """Run a stage as a task of its name; whether its program ran. ``near_end`` is called once its
    progress is complete, while it winds up.

    Called, never submitted: only so does a SIGTERM reach the stage's processes.
    """
    state: State[Any] = TASKS[stage](stage, unchanged, force, near_end, return_state=True)
    if state.is_cancelled():
        raise Stopped(state.message or stage)
    state.result()
    return state.name != "Cached"


def _stage_task(
    stage: str, unchanged: bool, force: bool, near_end: Callable[[], None] | None
) -> "State[Any]":
    progress = Progress(stage)

    def watch(status: stages.Status) -> None:
        progress.show(status)
        if near_end is not None and status.get("total") and status["done"] >= status["total"]:
            near_end()

    try:
        ran = not unchanged and stages.run(stage, get_run_logger().info, watch, force)
        reports.tell(stage)
    except PipelineError as error:
        return ended_by(error)
    if ran:
        return Completed()
    return Completed(name="Cached", message="Nothing that this stage depends on has changed.")


TASKS = {
    stage: task(name=stage, task_run_name=stage, cache_policy=NO_CACHE, persist_result=False)(_stage_task)
    for stage in STAGES
}
"""DVC alone decides what is up to date, so Prefect caches nothing."""


def confirm_release() -> list[str]:
    """Publish again where the registry lacks what the gate passed; the stages that ran for it.

    DVC may find publish done from an earlier time, when the registry was another or none.
    """
    registry = open_registry()
    if registry is None or reports.read("gate")["verdict"] == "blocked":
        return []
    published = reports.read("publish")
    if published["published"] and registry.exists(published["release"]):
        return []
    get_run_logger().warning("The registry does not hold this release: publishing it again.")
    run_stage("publish", force=True)
    repository.check_up_to_date()
    return ["publish"]


def keep(batch: str) -> repository.Kept:
    """Commit the state of this run on a branch of its own."""
    kept = repository.commit_results(
        f"{repository.RESULTS}/{batch}-{str(flow_run.id)[:8]}",
        f"Retraining {batch}: {reports.read('gate')['verdict']}",
    )
    if kept.branch and workspace.is_deployed():
        workspace.push(f"{kept.commit}:refs/heads/{kept.branch}")
    get_run_logger().info(
        "Kept on %s, commit %s.", f"branch {kept.branch}" if kept.branch else "HEAD", kept.commit[:12]
    )
    return kept


def announce(batch: str, kept: repository.Kept) -> None:
    """Point `candidate` at a new release and tell Prefect's automations, once."""
    release, registry = reports.read("publish")["release"], open_registry()
    verdict = reports.read("gate")["verdict"]
    if release is None or registry is None:
        if verdict == "blocked":
            resource = _resource(reports.read("gate")["release_digest"][:16])
            emit_event("adapter.blocked", resource=resource, payload={"batch": batch, "reason": blocked_by()})
        return
    if any(entry["event"] == "candidate" and entry["release"] == release for entry in registry.history()):
        return
    facts = {"batch": batch, "branch": kept.branch, "git_commit": kept.commit, "flow_run": str(flow_run.id)}
    nominate(registry, release, f"retraining {batch}", facts)
    emit_event("adapter.candidate", resource=_resource(release), payload=facts | {"verdict": verdict})


def nominate(registry: Registry, release: str, reason: str, facts: dict[str, Any]) -> None:
    """Point `candidate` at a new release, after whoever else does so at the same time."""
    while True:
        try:
            before = registry.channel(CANDIDATE)
            registry.move(CANDIDATE, release, repository.actor(), reason, before, "candidate", facts)
            return
        except PointerMoved:
            continue


def conclude(ran: list[str]) -> "State[Any]":
    """The summary page, and the state in which the run ends."""
    gate, published = reports.read("gate"), reports.read("publish")
    state: State[Any]
    if gate["verdict"] == "blocked":
        state = Completed(name="Blocked", message=f"The gate blocked: {blocked_by()}.")
        next_step = f"open {paths.EVALUATION_PAGE}. The champion stays."
    elif not published["published"]:
        state = Completed(name="Unpublished", message=f"Nothing published: {published['reason']}.")
        next_step = "set publish.registry in params.yaml."
    elif "publish" not in ran:
        state = Completed(
            name="Unchanged", message=f"Nothing that release {published['release']} depends on has changed."
        )
        next_step = _what_to_do_with(published["release"])
    else:
        state = Completed(name="Published", message=f"Release {published['release']}.")
        next_step = _what_to_do_with(published["release"])
    # Where DVC had the stage's result already, its program did not write the page.
    evaluation.write(evaluation.read(), margin=Params.load().gate.margin)
    reports.tell_summary(next_step)
    return state


def blocked_by() -> str:
    """The rules that blocked, with their tasks."""
    blocked = [rule for rule in reports.read("gate")["rules"] if rule["outcome"] == "blocked"]
    names = sorted({rule["rule"] + (f" of {rule['task']}" if rule["task"] else "") for rule in blocked})
    return ", ".join(names) or "undecided tasks"


def _what_to_do_with(release: str) -> str:
    registry = open_registry()
    champion = registry.channel() if registry else None
    if champion and champion.release == release:
        return "none, this release is the champion."
    here = f", or answer the run of `promote` named {release}" if workspace.is_deployed() else ""
    return f"`moelora promote {release}`{here}"


def _resource(release: str) -> dict[str, str]:
    return {"prefect.resource.id": f"moelora.release.{release}", "prefect.resource.name": release}
