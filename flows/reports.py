"""reports/*.json as Prefect artifacts: one a stage, and a summary page of the run.

Artifacts hold counts, shares and scores; never text of a record. Keys are those of ARTIFACTS, so
that Prefect keeps the history of each over the runs.
"""

import base64
import json
from pathlib import Path
from typing import Any

from prefect.artifacts import (
    create_markdown_artifact,
    create_table_artifact,
)

from pipeline import paths
from pipeline.pages import evaluation, markdown
from pipeline.params import Params
from pipeline.registry import location

ARTIFACTS = {
    "ingest": "data-counts",
    "validate": "data-validation",
    "deidentify": "deidentification-counts",
    "split": "split-counts",
    "resample": "balance",
    "train": "training-curve",
    "export": "export-equality",
    "evaluate": "scores",
    "gate": "gate",
    "publish": "release",
}
"""Stage: key of its artifact. The summary page's key is ``summary``."""

PICTURES = {
    "losses": "training and validation loss of each task over the steps",
    "gate": "weight of each expert for each task",
    "similarity": "cosine between the updates of each two experts",
}
"""Of the train stage, by the file's name; those of the gate exist where it has experts to weigh."""

RED = "🟥 "
"""What Prefect's Markdown has for red."""

Report = dict[str, Any]
Table = list[dict[str, Any]]


def read(stage: str) -> Report:
    """A stage's report, empty where there is none."""
    try:
        report: Report = json.loads(paths.report(stage).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return report


def tell(stage: str) -> None:
    """Make the artifact of a stage from its report."""
    report = read(stage)
    if stage == "train":
        what = "Losses, gate and experts."
        create_markdown_artifact(training(report), key=ARTIFACTS[stage], description=what)
    elif stage == "publish":
        create_markdown_artifact(release(report), key=ARTIFACTS[stage], description="What was published.")
    else:
        rows, description = TABLES[stage](report)
        create_table_artifact(rows, key=ARTIFACTS[stage], description=description)


def tell_summary(next_step: str) -> None:
    """Make the summary page of a run from all reports."""
    create_markdown_artifact(summary(next_step), key="summary", description="The run on one page.")


def tell_gate(gate: Report, note: str) -> None:
    """Make the gate's table of a release about to be promoted, with a note above it."""
    rows, description = gate_table(gate)
    create_table_artifact(rows, key="promotion", description=f"{note}\n\n{description}")


# One stage's report each ---------------------------------------------------------------------


def ingest_table(report: Report) -> tuple[Table, str]:
    """Rows of each task, and what became of the others."""
    rows = [{"task": task, "rows": count} for task, count in report["tasks"].items()]
    files = report["files"]
    text = f"{files['read']} files read, {files['ignored']} ignored. {_rows(report)}"
    reasons = "\n".join(f"- {count} × {reason}" for reason, count in report["quarantine"].items())
    return rows, f"{text}\n\nQuarantined:\n{reasons}" if reasons else text


def validate_table(report: Report) -> tuple[Table, str]:
    """Every expectation and how many values missed it, and the shares that moved from the baseline's."""
    rows = [
        {
            "expectation": each["expectation"],
            "field": each["column"],
            "level": each["level"],
            "holds": "yes" if each["success"] else "no",
            "unexpected": each["unexpected"],
        }
        for each in report["expectations"]
    ]
    missed = sum(not each["success"] for each in report["expectations"])
    drifted = [
        f"\n- {each['figure']}{' of ' if each['task'] else ''}{each['task'] or ''}: {_moves(each['moved'])}"
        for each in report["drift"] or ()
        if each["moved"]
    ]
    told = f"\n\nShares in the baseline and now:{''.join(drifted)}" if drifted else ""
    return rows, f"{len(rows)} expectations, {missed} missed.{told}"


def deidentify_table(report: Report) -> tuple[Table, str]:
    """Identifiers found, recall on labelled documents and what is left, by kind."""
    kinds = sorted({*report["found"], *report["recall"], *report["residual"]})
    rows = [
        {
            "kind": kind,
            "found": report["found"].get(kind, 0),
            "recall on labelled documents": _share(report["recall"].get(kind, {}).get("recall")),
            "still found after": report["residual"].get(kind, 0),
        }
        for kind in kinds
    ]
    moves = _moves(report["drift"] or {})
    drift = f"Share of records with them, in the baseline and now: {moves}. " if moves else ""
    return rows, (
        f"{sum(report['replaced'].values())} identifiers replaced; of labelled ones "
        f"{_share(report['recall_overall'])} are found. {report['residual_records']} records still trip a "
        f"detector. {drift}{_rows(report)}"
    )


def split_table(report: Report) -> tuple[Table, str]:
    """Rows of each task by split."""
    rows = [{"task": task, **counts} for task, counts in report["tasks"].items()]
    return rows, f"{_rows(report)} Held out: near-duplicates of a record in a stronger split."


def balance_table(report: Report) -> tuple[Table, str]:
    """Shares of the tasks before and after, and how often each is repeated."""
    rows = [
        {
            "task": task,
            "records": each["records"],
            "share before": _percent(each["share_before"]),
            "draws": each["draws"],
            "share after": _percent(each["share_after"]),
            "effective epochs": round(each["effective_epochs"], 2),
        }
        for task, each in report["tasks"].items()
    ]
    return rows, "Share of each task among the training records before and after resampling."


def export_table(report: Report) -> tuple[Table, str]:
    """Largest difference of logits between the native adapter and each task's PEFT LoRA."""
    rows = [
        {"task": task, "largest difference of logits": f"{each['max_abs_difference']:.1e}"}
        for task, each in report["tasks"].items()
    ]
    return rows, f"Native adapter against stock PEFT; {report['tolerance']:g} may be."


def scores_table(report: Report) -> tuple[Table, str]:
    """Score of each system on each task, with intervals."""
    systems = report["systems"]
    against = "champion" if report["champion"] else "base"

    def row(task: str, metric: str, rows: int, scores: Report) -> dict[str, Any]:
        shown = {system: _score(scores.get(system)) for system in systems}
        difference = {"difference": _difference(scores["comparison"], against)}
        return {"task": task, "rows": rows, **shown, **difference, "metric": metric}

    tasks = report["tasks"].items()
    rows = [row(task, each["metric"], each["rows"], each) for task, each in tasks]
    rows.append(row("mean", "", sum(each["rows"] for _, each in tasks), report["mean"]))
    return rows, f"Test scores from 0 to 1, 95 % intervals; the difference is candidate minus {against}."


def gate_table(report: Report) -> tuple[Table, str]:
    """Every rule, its outcome and why; those that did not pass also in words above the table."""
    ordered = sorted(report["rules"], key=lambda rule: _ORDER.index(rule["outcome"]))
    rows = [
        {"outcome": rule["outcome"], "rule": rule["rule"], "task": rule["task"] or "", "why": rule["why"]}
        for rule in ordered
    ]
    text = f"# {RED if report['verdict'] != 'pass' else ''}{report['verdict'].capitalize()}\n\n"
    if override := report.get("override"):
        text += f"Let through by {markdown(override['by'])}: {markdown(override['reason'])}\n\n"
    text += f"Compared with {report['against']}."
    if report["undecided"]:
        text += f" To be confirmed by name at promotion: {', '.join(report['undecided'])}."
    return rows, f"{text}\n\n{not_passed(report)}"


def gate_page(report: Report, note: str) -> str:
    """What the gate found, in Markdown, for who fills in a form; Prefect's forms show no tables."""
    _, text = gate_table(report)
    passed = sum(rule["outcome"] == "pass" for rule in report["rules"])
    lines = [f"- {passed} rules passed"] if passed else []
    return "\n".join([f"{note}\n\n{text}", *lines])


def not_passed(report: Report) -> str:
    """The rules of the gate that did not pass, as a Markdown list."""
    rules = [rule for rule in report["rules"] if rule["outcome"] != "pass"]
    return "\n".join(
        f"- **{rule['outcome']}** {rule['rule']}{' ' + rule['task'] if rule['task'] else ''}: {rule['why']}"
        for rule in sorted(rules, key=lambda rule: _ORDER.index(rule["outcome"]))
    )


def training(report: Report) -> str:
    """Training in figures and pictures: losses by task, the gate's weights, the experts' likeness."""
    curve = [(entry["step"], entry["loss"]) for entry in report["curve"]]
    validation = [(entry["step"], entry["mean"]) for entry in report["validation"]]
    parts = [
        "# Training",
        f"{report['steps']} steps; training loss {_ends(curve)}, validation loss {_ends(validation)}.",
        markdown_table(validation_losses(report)),
        *(picture(paths.PLOTS / "train" / f"{name}.png", what) for name, what in PICTURES.items()),
    ]
    return "\n\n".join(part for part in parts if part)


def validation_losses(report: Report) -> Table:
    """Of each task and their mean: validation loss of the saved adapter, the lowest, the last."""
    entries = [
        (each["step"], each["tasks"] | {"mean over tasks": each["mean"]}) for each in report["validation"]
    ]
    if not entries:
        return []
    saved = next(losses for step, losses in entries if step == report["best_step"])
    _, last = entries[-1]

    def row(task: str) -> dict[str, Any]:
        lowest, step = min((losses[task], step) for step, losses in entries)
        return {
            "task": task,
            f"validation loss as saved, step {report['best_step']}": f"{saved[task]:.3f}",
            "lowest": f"{lowest:.3f} at step {step}",
            "last": f"{last[task]:.3f}",
        }

    return [row(task) for task in last]


def release(report: Report) -> str:
    """Where the release is, or why there is none."""
    if not report["published"]:
        return f"# Nothing published\n\n{report['reason']}"
    return (
        f"# Release `{report['release']}`\n\n{report['files']} files, {report['bytes'] / 1e6:.1f} MB\n\n"
        f"`{_address(report['release'])}`\n\n"
        f"```\nmoelora verify {report['release']}\nmoelora pull {report['release']}\n```"
    )


TABLES = {
    "ingest": ingest_table,
    "validate": validate_table,
    "deidentify": deidentify_table,
    "split": split_table,
    "resample": balance_table,
    "export": export_table,
    "evaluate": scores_table,
    "gate": gate_table,
}

_ORDER = ("blocked", "undecided", "pass")


def summary(next_step: str) -> str:
    """The run on one page, in Markdown: the evaluation, what came in, what was removed, training."""
    ingest, deidentify, train, publish = (
        read(stage) for stage in ("ingest", "deidentify", "train", "publish")
    )
    curve = {
        "training loss": [(entry["step"], entry["loss"]) for entry in train["curve"]],
        "validation loss": [(entry["step"], entry["mean"]) for entry in train["validation"]],
    }
    what = (
        f"## Published\n\nRelease `{publish['release']}`"
        if publish["published"]
        else f"## Nothing published\n\n{publish['reason'].capitalize()}"
    )
    return "\n\n".join(
        [
            evaluation.summary(evaluation.read(), next_step),
            f"{what}.",
            "## What came in",
            f"{ingest['files']['read']} files. {_rows(ingest)}",
            "## What was removed",
            f"{sum(deidentify['found'].values())} identifiers; {_share(deidentify['recall_overall'])} of "
            f"labelled ones are found, {deidentify['residual_records']} records still trip a detector.",
            "## Training",
            f"![losses over steps]({chart(curve)})",
        ]
    )


# Words and pictures --------------------------------------------------------------------------


def markdown_table(rows: Table) -> str:
    """Rows of the same columns as a Markdown table; empty for no rows."""
    if not rows:
        return ""
    lines = [[*rows[0]], ["---"] * len(rows[0]), *([str(v) for v in row.values()] for row in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)


def chart(series: dict[str, list[tuple[int, float]]], width: int = 640, height: int = 240) -> str:
    """Lines over steps as an SVG image in a data URI, which Prefect's page shows."""
    colours = ("#2563eb", "#ea580c")
    points = [point for line in series.values() for point in line]
    if not points:
        return ""
    last = max(step for step, _ in points) or 1
    low, high = min(value for _, value in points), max(value for _, value in points)
    left, right, top, bottom = 46, width - 12, 28, height - 26

    def at(step: int, value: float) -> str:
        x = left + (right - left) * step / last
        y = bottom - (bottom - top) * (value - low) / ((high - low) or 1)
        return f"{x:.1f},{y:.1f}"

    parts = [
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="#94a3b8"/>',
        _label(left - 4, top + 4, f"{high:.2f}", "end"),
        _label(left - 4, bottom, f"{low:.2f}", "end"),
        _label(left, height - 8, "0", "middle"),
        _label(right, height - 8, f"step {last}", "end"),
    ]
    for position, ((name, line), colour) in enumerate(zip(series.items(), colours, strict=True)):
        drawn = " ".join(at(*point) for point in line)
        parts.append(f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(_label(left + 10 + 160 * position, 16, name, "start", colour))
    size = f'width="{width}" height="{height}" font-family="sans-serif" font-size="12"'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{"".join(parts)}</svg>'
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def picture(file: Path, what: str) -> str:
    """A PNG as an image in a data URI, which Prefect's page shows; nothing where there is no file."""
    if not file.is_file():
        return ""
    return f"![{what}](data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()})"


def _label(x: float, y: float, text: str, anchor: str, colour: str = "#334155") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{colour}">{text}</text>'


def _rows(report: Report) -> str:
    rows = report["rows"]
    others = [
        f"{count} {name.replace('_', ' ')}" for name, count in rows.items() if name not in ("in", "out")
    ]
    return f"{rows['in']} rows in, {rows['out']} out{', ' if others else ''}{', '.join(others)}."


def _score(system: Report | None) -> str:
    if system is None or system["score"] is None:
        return ""
    return f"{system['score']:.3f} ({system['low']:.2f} to {system['high']:.2f})"


def _difference(comparison: Report | None, against: str) -> str:
    if comparison is None:
        return ""
    text = f"{comparison['difference']:+.3f} ({comparison['low']:+.2f} to {comparison['high']:+.2f})"
    # A task that the champion does not know is compared with the base.
    return text if comparison["against"] != "base" or against == "base" else f"{text} to base"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _moves(shares: dict[str, dict[str, float]]) -> str:
    return ", ".join(
        f"{name} {_percent(each['before'])} → {_percent(each['after'])}" for name, each in shares.items()
    )


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _ends(line: list[tuple[int, float]]) -> str:
    return f"{line[0][1]:.3f} to {line[-1][1]:.3f}" if line else "not measured"


def _address(release: str) -> str:
    url = Params.load().publish.registry
    return f"{location(url) if url else 's3://…'}/releases/{release}/"
