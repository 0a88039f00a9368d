"""Commands that put a release to use: an HTTP server, and full models for other servers."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli import ready
from flows.cli.app import Json, app
from flows.terminal import next_step, out, plain, print_json
from pipeline.errors import InputError

Folder = Annotated[
    Path | None, typer.Option(help="Folder of a release, in the place of one from the registry.")
]


@app.command(epilog="Example: moelora serve --port 8000")
def serve(
    channel: Annotated[
        str, typer.Option(help="Channel to follow; a promotion shows up by itself.")
    ] = "champion",
    folder: Folder = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; beyond this machine MOELORA_SERVE_TOKEN must be set.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    poll: Annotated[float, typer.Option(min=0.1, help="Seconds between looks at the channel.")] = 5.0,
    max_prompt_tokens: Annotated[
        int | None, typer.Option(min=1, help="Of a prompt; more is refused. Default: evaluate.max_tokens.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Of an answer. Default: evaluate.max_new_tokens.")
    ] = None,
    max_waiting: Annotated[int, typer.Option(min=1, help="Prompts that may wait; then 429.")] = 512,
    max_body: Annotated[int, typer.Option(min=1, help="Bytes of a request.")] = 1 << 20,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds until a request gets 504.")] = 60.0,
) -> None:
    """Answer over HTTP as OpenAI's completions do, with a `task` in each request. Not a medical device.

    \b
    curl http://127.0.0.1:8000/v1/completions -H 'Content-Type: application/json' \\
      -d '{"task": "triage", "prompt": "Chest pain …", "choices": ["urgent", "routine"]}'

    Also GET /v1/models, /health and /metrics (Prometheus). Texts are never logged. It speaks plain
    HTTP: beyond this machine, put it behind a proxy with TLS.
    """
    from pipeline.params import Params
    from pipeline.serve import run

    run.token_for(host)
    params = Params.load()
    limits = run.limits_of(
        params,
        prompt_tokens=max_prompt_tokens,
        max_tokens=max_tokens,
        waiting=max_waiting,
        body_bytes=max_body,
        timeout_s=timeout,
    )
    source = (ready.registry(), channel) if folder is None else _existing(folder)
    ready.prepare_base()
    shown = f"[{host}]" if ":" in host else host
    next_step(f"serving {folder or channel} at http://{shown}:{port}", f"curl http://{shown}:{port}/health")
    run.run(params, limits, host, port, source, poll)


@app.command(epilog="Example: moelora merge --task triage triage-model")
def merge(
    to: Annotated[Path, typer.Argument(metavar="OUT", help="New folder.", show_default=False)],
    task: Annotated[str, typer.Option(help="A task the release knows.", show_default=False)],
    release: Annotated[str | None, typer.Option(help="Release id; default: the champion.")] = None,
    folder: Folder = None,
    as_json: Json = False,
) -> None:
    """Write the base model with one task's adapter merged into it: a full model for any server."""
    if release and folder:
        raise InputError("--release and --folder name two sources: leave one out")
    if to.exists():
        raise InputError(f"{to} is there already: name a new folder")
    source = _existing(folder) if folder else ready.pull(*ready.named_or_champion(release))
    from pipeline import merge as merging
    from pipeline.params import Params
    from pipeline.verify import check_folder

    ready.prepare_base()
    if folder is None:
        check_folder(source, source.name)
    difference = merging.merge(source, task, to, Params.load())
    if as_json:
        print_json({"folder": str(to), "task": task, "max_abs_difference": difference})
        return
    out.print(plain(f"logits differ from the adapter's by at most {difference:.1e}"))
    next_step(f"{task} is a full model in {to}", f"read {to / 'README.md'}, and load it by from_pretrained")


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: name one that holds moelora/ and tasks/")
    return folder
