"""The `moelora` application and the options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Retrain, judge, publish and promote medical MOELoRA adapters.",
    epilog="Start here: moelora retrain",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

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
ChannelName = Annotated[str, typer.Option("--channel", help="A name of your team's, or champion.")]
