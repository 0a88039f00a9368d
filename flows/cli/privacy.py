"""Commands that look at de-identification; they show text, to eyes that may see it."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.app import Json, app
from flows.terminal import err, new_table, next_step, out, print_json, show_changes
from pipeline.errors import InputError


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
