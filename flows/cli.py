"""``moelora``: the command for people, each a thin door to one function or flow.

Everything heavy is imported where it is used, so that ``--help`` answers at once.
"""

import json
import signal
import sys
from contextlib import redirect_stdout
from enum import StrEnum
from io import StringIO
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal, NoReturn

import typer

from flows import repository
from flows.terminal import err, new_table, next_step, out, plain, print_json, say, show_changes
from pipeline import STAGES, paths
from pipeline.errors import InputError, ParamsError, PipelineError, ReleaseCorrupt, Stopped

app = typer.Typer(
    help="Retrain, judge, publish and promote medical MOELoRA adapters.",
    epilog="Start here: moelora retrain",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Stage = StrEnum("Stage", {stage: stage for stage in STAGES})  # type: ignore[misc]
Action = StrEnum("Action", {action: action for action in ("start", "stop", "status")})  # type: ignore[misc]

ReleaseId = Annotated[str, typer.Argument(help="16 hex digits, see `moelora releases`.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="For machines: one JSON document on standard output.")]
Reason = Annotated[str, typer.Option(help="Why; stays in the registry's history.", show_default=False)]
Inbox = Annotated[
    Path | None, typer.Option(help="Folder whose files are linked into data/inbox first.", show_default=False)
]
Include = Annotated[
    list[str] | None, typer.Option(help="Pattern on file names; may be repeated. Default: ingest.include.")
]
Batch = Annotated[str | None, typer.Option(help="Name for what arrives; default: named by content.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Parameter of params.yaml as key=value; may be repeated.")
]
By = Annotated[str | None, typer.Option(help="Your name, recorded as claimed; default: your user's.")]


def main() -> NoReturn:
    """Run the command line; an error raised on purpose ends it with one line and its exit code."""
    try:
        app(prog_name="moelora")
    except PipelineError as error:
        err.print(f"[bold red]error[/] {plain(str(error))}", soft_wrap=True)
        sys.exit(error.exit_code)
    sys.exit(0)


# Running -------------------------------------------------------------------------------------


@app.command(epilog="Example: moelora retrain --inbox /exports/clinical --include '*.jsonl.gz' --batch march")
def retrain(
    inbox: Inbox = None,
    include: Include = None,
    batch: Batch = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Bring data/inbox to a judged and, where the gate passes it, published adapter."""
    _stop_on_sigterm()
    try:
        with repository.one_at_a_time():
            name = _make_ready(inbox, include, batch, settings)
            _prefect(tell=True)
            from flows.retrain import retrain as flow

            state = flow(name, return_state=True)
    except KeyboardInterrupt:
        raise Stopped("stopped: run the same command again to go on") from None
    if state.is_cancelled():
        raise Stopped(state.message)
    state.result()
    _print_outcome(state.name or "", state.message or "", as_json)


@app.command(epilog="Example: moelora prepare && dvc repro")
def prepare(
    inbox: Inbox = None, include: Include = None, batch: Batch = None, settings: Settings = None
) -> None:
    """Make what `dvc repro` needs: data in the inbox, base model, key id, the registry's server."""
    from flows import stages

    with repository.one_at_a_time():
        stages.end_leftovers()
        _make_ready(inbox, include, batch, settings)
        repository.track_inbox()
    next_step("all that the stages need is there", "dvc repro")


@app.command(epilog="Example: moelora stage train")
def stage(
    name: Annotated[Stage, typer.Argument(help="One of the ten stages.", show_default=False)],
    force: Annotated[bool, typer.Option(help="Run it even if nothing it depends on has changed.")] = False,
) -> None:
    """Run one stage through DVC, as the flow does, without Prefect."""
    from flows import stages

    _stop_on_sigterm()
    try:
        with repository.one_at_a_time():
            stages.end_leftovers()
            if name in ("ingest", "validate", "deidentify", "resample"):
                _prepare_key()
            if name in ("train", "export", "evaluate", "publish"):
                _prepare_base()
            if name == "publish":
                _prepare_s3()
            ran = stages.run(str(name), lambda line: out.print(plain(line)), lambda _: None, force)
    except KeyboardInterrupt:
        raise Stopped("stopped: run the same command again to go on") from None
    following = STAGES[STAGES.index(str(name)) + 1 :]
    what = "done" if ran else "nothing to do: nothing it depends on has changed"
    next_step(f"{name}: {what}", f"moelora stage {following[0]}" if following else "moelora releases")


@app.command("sample-data", epilog="Example: moelora sample-data --to /tmp/sample")
def sample_data(
    to: Annotated[Path | None, typer.Option(help="Folder to write into; default: data/inbox/sample.")] = None,
) -> None:
    """Write a synthetic clinical data set of uneven tasks, with planted names, dates and numbers."""
    from flows import inbox
    from pipeline import sample_data as sample

    if to is None and any(inbox.SAMPLE not in path.parents for path in inbox.files()):
        raise InputError(
            "data/inbox holds other data, which sample data must not join: name a folder by --to"
        )
    folder = to or inbox.SAMPLE
    written = sample.write(folder)
    if to is None:
        folder.chmod(0o700)
        folder.parent.chmod(0o700)
    next_step(f"{written['records']} records of {len(written['tasks'])} tasks in {folder}", "moelora retrain")


@app.command(epilog="Example: moelora base")
def base() -> None:
    """Prepare the base model that params.yaml names in models/base."""
    _prepare_base()
    next_step(f"the base model is in {paths.BASE}", "moelora retrain")


# Privacy -------------------------------------------------------------------------------------


@app.command(epilog="Example: moelora deidentify note.txt")
def deidentify(
    file: Annotated[Path, typer.Argument(help="A text, or JSON lines with text, or input and target.")],
    limit: Annotated[int, typer.Option(help="Lines of JSON to show.")] = 10,
) -> None:
    """Show what de-identification would do to a file: what is found, struck out, and its surrogate.

    Shows the original text: for eyes that may see it. Surrogates are drawn with a key of this
    run alone; data is de-identified by `moelora stage deidentify`.
    """
    import secrets
    from collections import Counter

    from pipeline.deidentify import preview
    from pipeline.params import Params

    settings = Params.load().deidentify
    key = secrets.token_bytes(32)
    counts: Counter[str] = Counter()
    for fields in preview.texts(file, limit):
        for pieces in preview.pieces(fields, key, settings.min_score, settings.dates):
            show_changes(pieces)
            counts.update(piece.kind for piece in pieces if piece.kind)
    said = ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items())) or "nothing"
    next_step(f"found: {said}", "moelora audit-phi LABELLED, for recall and precision")


@app.command("audit-phi", epilog="Example: moelora audit-phi labelled.jsonl.gz --spans found.jsonl")
def audit_phi(
    gold: Annotated[Path, typer.Argument(help="JSON lines: doc_id, text, spans [{start, end, category}].")],
    spans: Annotated[
        Path | None, typer.Option(help="Write what was found there: doc_id, spans [{start, end, kind}].")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure de-identification on labelled text: recall by kind with intervals, and precision."""
    from rich.progress import track

    from pipeline.deidentify import labelled
    from pipeline.files import write_atomically
    from pipeline.params import Params

    everything = labelled.read(gold)
    documents = [document for document in everything if document.language.lower().split("-")[0] == "en"]
    if not documents:
        raise InputError(f"{gold} holds no English documents, and detection is for English")
    searched = labelled.search(documents, Params.load().deidentify.min_score)
    found = list(track(searched, "searching", total=len(documents), console=err, transient=True))
    if spans:
        write_atomically(spans, "".join(f"{line}\n" for line in labelled.as_predictions(documents, found)))
    rows = labelled.recalls(documents, found)
    if as_json:
        print_json([row._asdict() for row in rows])
        return
    table = new_table("source", "kind", "found", "recall", "95 %", "precision")
    for row in rows:
        table.add_row(
            row.source,
            row.category,
            f"{row.found}/{row.labelled}",
            f"{row.recall:.4f}",
            f"{row.low:.3f} to {row.high:.3f}",
            "" if row.precision is None else f"{row.precision:.4f}",
        )
    out.print(table)
    step = f"moelora deidentify {gold}" if spans is None else f"compare {spans} with the labels"
    others = len(everything) - len(documents)
    left = f"; {others} of other languages were left out" if others else ""
    next_step(f"{len(documents)} documents{left}", step)


# Releases ------------------------------------------------------------------------------------


@app.command(epilog="Example: moelora releases --json")
def releases(as_json: Json = False) -> None:
    """List the published releases, the oldest first."""
    registry = _registry()
    champion = registry.channel()
    current = champion.release if champion else None
    rows = [
        {
            "id": each.id,
            "published_at": each.published_at,
            "files": each.files,
            "bytes": each.bytes,
            "champion": each.id == current,
        }
        for each in registry.releases()
    ]
    if as_json:
        print_json(rows)
        return
    table = new_table("release", "published", "files", "MB", "")
    for row in rows:
        mark = "champion" if row["champion"] else ""
        table.add_row(
            row["id"], row["published_at"][:19], str(row["files"]), f"{row['bytes'] / 1e6:.1f}", mark
        )
    out.print(table)
    promotable = [row["id"] for row in rows if not row["champion"]]
    next_step(
        f"{len(rows)} releases",
        f"moelora promote {promotable[-1]} --reason …" if promotable else "moelora retrain",
    )


@app.command(epilog='Example: moelora promote 0123456789abcdef --by "A. Meyer" --reason "better on triage"')
def promote(
    release: ReleaseId,
    reason: Reason,
    by: By = None,
    confirm: Annotated[
        list[str] | None, typer.Option(help="Undecided task whose risk you accept; may be repeated.")
    ] = None,
    confirm_other_comparison: Annotated[
        bool,
        typer.Option(
            "--confirm-other-comparison",
            help="Accept a release that was not compared with the champion of now.",
        ),
    ] = False,
) -> None:
    """Make a release the champion, after showing the gate's table."""
    registry = _registry()
    _prefect()
    from flows.promote import gate_of, situation
    from flows.promote import promote as flow

    gate = gate_of(registry, release)
    _print_gate(gate)
    out.print(situation(release, gate, registry.channel()))
    flow(
        release,
        by or repository.actor(),
        reason,
        confirm or [],
        confirm_other_comparison,
        return_state=True,
    ).result()
    next_step(f"the champion is {release}", 'moelora predict --task TASK --text "…"')


@app.command(epilog='Example: moelora rollback --reason "wrong on triage" --to 0123456789abcdef')
def rollback(
    reason: Reason,
    to: Annotated[str | None, typer.Option(help="Release id; default: the champion before this one.")] = None,
    by: By = None,
) -> None:
    """Move the champion back; works while Prefect is down."""
    from flows import local_prefect

    registry = _registry()
    if is_up := local_prefect.address() is not None:
        local_prefect.ensure()
    from flows.rollback import move_back, tell

    now = move_back(registry, to, reason, by or repository.actor())
    if is_up:
        tell(now)
    else:
        err.print("Prefect is not reachable and was not told; the pointer is moved all the same.")
    next_step(f"the champion is {now.release}", "moelora history")


@app.command(epilog="Example: moelora verify 0123456789abcdef")
def verify(release: ReleaseId, as_json: Json = False) -> None:
    """Read every byte of a published release and compare it with the manifest."""
    problems = _registry().verify(release)
    if as_json:
        print_json({"release": release, "problems": problems})
    if problems:
        raise ReleaseCorrupt(
            f"release {release}: {'; '.join(problems)}: publish it again by `moelora retrain`"
        )
    if not as_json:
        next_step(f"release {release} is whole", f"moelora pull {release}")


@app.command(epilog="Example: moelora pull 0123456789abcdef --to /srv/adapter")
def pull(
    release: ReleaseId,
    to: Annotated[Path | None, typer.Option(help="Empty or new folder; default: the cache.")] = None,
) -> None:
    """Fetch a release, every file compared with its digest: whole or not at all."""
    folder = _registry().pull(release, to)
    next_step(
        f"release {release} is in {folder}", f'moelora predict --release {release} --task TASK --text "…"'
    )


@app.command(
    epilog='Example: moelora predict --task triage --text "Chest pain …" --choice urgent --choice routine'
)
def predict(
    task: Annotated[str, typer.Option(help="A task the release knows.", show_default=False)],
    text: Annotated[
        str, typer.Option(help="The whole prompt; `-` reads standard input.", show_default=False)
    ],
    choice: Annotated[
        list[str] | None, typer.Option(help="Possible answer; may be repeated. None: free text.")
    ] = None,
    release: Annotated[str | None, typer.Option(help="Release id; default: the champion.")] = None,
    task_fallback: Annotated[
        Literal["mean"] | None,
        typer.Option(help="Answer a task the release does not know with the mean of those it knows."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask a release one question. Not a medical device."""
    from pipeline import predict as prediction

    registry = _registry()
    if release is None:
        champion = registry.channel()
        if champion is None:
            raise InputError("there is no champion: moelora promote sets one, or name a --release")
        release = champion.release
    folder = registry.pull(release)
    _prepare_base()
    question = sys.stdin.read() if text == "-" else text
    answer = prediction.predict(folder, task, question, choice, task_fallback)
    if as_json:
        print_json({"release": release, "task": task, "answer": answer})
    else:
        out.print(plain(answer))


@app.command(epilog="Example: moelora history --json")
def history(as_json: Json = False) -> None:
    """Show what was published, promoted and rolled back, by whom as claimed, and why."""
    entries = _registry().history()
    if as_json:
        print_json(entries)
        return
    table = new_table("at", "event", "release", "by", "reason")
    for entry in entries:
        table.add_row(
            entry["at"][:19],
            entry["event"],
            entry["release"] or "",
            entry["by"],
            plain(entry["reason"]),
        )
    out.print(table)
    next_step(f"{len(entries)} entries", "moelora releases")


# The machine ---------------------------------------------------------------------------------


@app.command(epilog="Example: moelora doctor")
def doctor(as_json: Json = False) -> None:
    """Say what is missing on this machine and how to mend it; exit code 1 if something is."""
    from flows.doctor import checks

    found = checks(_key_id)
    missing = [each for each in found if each.state == "missing"]
    if as_json:
        print_json([each._asdict() for each in found])
    else:
        table = new_table("", "what", "found", "to do")
        colours = {"ok": "[green]ok[/]", "later": "[yellow]later[/]", "missing": "[red]missing[/]"}
        for each in found:
            table.add_row(colours[each.state], each.what, plain(each.found), plain(each.remedy))
        out.print(table)
        next_step(f"{len(missing)} missing", missing[0].remedy if missing else "moelora retrain")
    raise typer.Exit(1 if missing else 0)


@app.command(epilog="Example: moelora ui")
def ui() -> None:
    """Make sure that Prefect's page is there, and print its address."""
    url = _prefect()
    next_step(f"Prefect's page: {url}", "moelora retrain")


@app.command(epilog="Example: moelora services stop")
def services(action: Annotated[Action, typer.Argument(help="What to do.", show_default=False)]) -> None:
    """Start, stop or look at the Prefect and S3 servers of this checkout."""
    from flows import local_prefect, local_s3

    if action == "start":
        _prepare_s3()
        _prefect()
    elif action == "stop":
        local_prefect.stop()
        local_s3.stop()
    prefect = local_prefect.address()
    out.print(f"Prefect: {local_prefect.page(prefect) if prefect else 'not running'}")
    out.print(f"S3: {_local_s3_address()}")
    next_step(f"services {action}", "moelora retrain" if action == "stop" else "moelora services stop")


# What a run needs ----------------------------------------------------------------------------


def _make_ready(
    inbox: Path | None, include: list[str] | None, batch: str | None, settings: list[str] | None
) -> str:
    """All that a run needs but Prefect; the batch's name."""
    name = _fill_inbox(inbox, include, batch, settings or [])
    _prepare_base()
    _prepare_key()
    _prepare_s3()
    return name


def _fill_inbox(
    folder: Path | None, include: list[str] | None, batch: str | None, settings: list[str]
) -> str:
    """Set the parameters, link what arrives, or make sample data where there is nothing: the batch."""
    from flows import inbox
    from pipeline.params import Params

    repository.set_params(dict(_setting(text) for text in settings))
    patterns = include or Params.load().ingest.include
    if batch is not None:
        inbox.check_batch(batch)
    if folder is not None:
        had_sample = inbox.SAMPLE.is_dir()
        arrival = inbox.link(folder, patterns, batch)
        say(
            f"inbox: batch {arrival.batch}: {arrival.linked} files linked, {arrival.already} there already, "
            f"{arrival.ignored} ignored" + (", sample data removed" if had_sample else "")
        )
        return arrival.batch
    if include:
        raise InputError("--include chooses among the files of --inbox: name a folder by --inbox")
    if inbox.drop_sample():
        say("inbox: sample data removed, since other data has come")
    if not any(inbox.files()):
        from pipeline import sample_data as sample

        written = sample.write(inbox.SAMPLE)
        for each in (inbox.SAMPLE, paths.INBOX):
            each.chmod(0o700)
        say(f"inbox: empty, so {written['records']} records of sample data are used")
    return batch or "manual"


def _setting(text: str) -> tuple[str, Any]:
    import yaml

    name, equals, value = text.partition("=")
    try:
        if not equals:
            raise ValueError
        return name.strip(), yaml.safe_load(value)
    except (ValueError, yaml.YAMLError):
        raise ParamsError(f"--set {text}: write it as section.key=value, the value in YAML") from None


def _prepare_base() -> None:
    from pipeline import base as model
    from pipeline.params import Params

    if not paths.BASE.is_dir():
        say("base: preparing the base model, once")
    with redirect_stdout(sys.stderr):
        model.prepare(Params.load().base)


def _prepare_key() -> None:
    """Write the id of the key in use, where stages depend on it."""
    from flows import inbox
    from pipeline import key
    from pipeline.params import Params

    shards = inbox.shards(Params.load().ingest.include)
    _key_id(shards)
    with redirect_stdout(sys.stderr):
        key.write_key_id(shards)


def _key_id(shards: set[str]) -> str:
    """The id of the key in use; DeidKeyError where the data here was made with another own one."""
    from pipeline import key

    with redirect_stdout(StringIO()):  # its note is for whoever runs, and told there
        loaded = key.load(shards)
    identity = key.key_id(loaded)
    demo = key.key_id(key.DEMO_KEY)
    # Whoever goes from sample data to their own changes from the demo key to theirs.
    if paths.KEY_ID.is_file() and paths.KEY_ID.read_text(encoding="ascii").strip() not in (identity, demo):
        key.check_key_id(loaded)
    return identity


def _prepare_s3() -> None:
    """Start the local S3 server where it is the registry."""
    from flows import local_s3
    from pipeline import registry
    from pipeline.params import Params

    if Params.load().publish.registry == registry.LOCAL:
        local_s3.start()


def _prefect(tell: bool = False) -> str:
    """Settle the Prefect server of this process; the address of its page."""
    from flows import local_prefect

    if tell and local_prefect.address() is None:
        say("prefect: starting a server, it stays")
    page = local_prefect.page(local_prefect.ensure())
    if tell:
        say(f"watch it at {page}/runs")
    return page


def _registry() -> Any:
    from pipeline.params import Params
    from pipeline.registry import Registry

    _prepare_s3()
    url = Params.load().publish.registry
    if url is None:
        raise ParamsError("publish.registry is null: set local or s3://BUCKET/PREFIX in params.yaml")
    return Registry.open(url)


def _local_s3_address() -> str:
    from flows import local_s3

    if not local_s3.running():
        return "not running"
    lines = local_s3.config_file().read_text().splitlines()
    return next(line.partition("= ")[2] for line in lines if line.startswith("endpoint_url"))


def _stop_on_sigterm() -> None:
    """Let SIGTERM end this process like an interrupt, everything it started included."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)


# What people see -----------------------------------------------------------------------------


def _print_outcome(name: str, message: str, as_json: bool) -> None:
    """The verdict, the scores and the next step of a run."""
    reports = {each: _read(each) for each in ("gate", "evaluate", "publish")}
    release, verdict = reports["publish"]["release"], reports["gate"]["verdict"]
    scores = {
        task: {"base": each["base"]["score"], "adapter": each["candidate"]["score"]}
        for task, each in reports["evaluate"]["tasks"].items()
    }
    mean = reports["evaluate"]["mean"]
    scores["mean"] = {"base": mean["base"]["score"], "adapter": mean["candidate"]["score"]}
    undecided = reports["gate"]["undecided"]
    if as_json:
        print_json(
            {
                "outcome": name,
                "message": message,
                "verdict": verdict,
                "release": release,
                "undecided": undecided,
                "scores": scores,
            }
        )
        return
    table = new_table("task", "base", "adapter", "")
    for task, score in scores.items():
        values = [score["base"], score["adapter"]]
        shown = ["" if value is None else f"{value:.3f}" for value in values]
        change = "" if None in values else f"{values[1] - values[0]:+.3f}"
        table.add_row(task, *shown, change)
    out.print(table)
    out.print(f"[bold {'red' if name == 'Blocked' else 'green'}]{name}[/] {plain(message)}", soft_wrap=True)
    champion = _registry().channel() if release else None
    if champion and champion.release == release:
        next_step(f"verdict: {verdict}; it is the champion", 'moelora predict --task … --text "…"')
    elif release:
        confirm = "".join(f" --confirm {task}" for task in undecided)
        next_step(f"verdict: {verdict}", f'moelora promote {release} --by NAME --reason "…"{confirm}')
    else:
        next_step(f"verdict: {verdict}", "see reports/gate.json, or the gate's table in Prefect's page")


def _print_gate(gate: dict[str, Any]) -> None:
    table = new_table("outcome", "rule", "task", "why")
    for rule in gate["rules"]:
        table.add_row(rule["outcome"], rule["rule"], rule["task"] or "", plain(rule["why"]))
    out.print(table)


def _read(name: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(paths.report(name).read_text(encoding="utf-8"))
    return report


if __name__ == "__main__":
    main()
