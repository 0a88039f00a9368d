"""The evaluation on one page, verdict first: reports/evaluation.html, or Markdown without text.

``moelora report`` and the publish stage write the page; it is a by-product, which DVC and git
ignore. What a report does not hold (a release without champion, canaries, slices) has no section.
"""

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from pipeline import paths
from pipeline.errors import DataError
from pipeline.files import write_atomically
from pipeline.pages import plots, render
from pipeline.pages.examples import Example
from pipeline.pages.rules import REMEDIES, title
from pipeline.stage import Report

STAGES = ("deidentify", "resample", "train", "evaluate", "gate")
"""Stages whose reports the page shows, publish aside."""

SYSTEMS = ("base", "reference", "champion", "candidate")
"""In the order they are drawn, the one that is judged last."""

OUTCOMES = ("blocked", "undecided", "pass")
"""The most urgent first."""

Reports = dict[str, Report]


@dataclass(frozen=True)
class Verdict:
    """What the gate said, in words, and what to do next: sentences, some with a command."""

    name: str  # pass | blocked | overridden
    sentence: str
    steps: list[tuple[str, str | None]]
    override: dict[str, str] | None
    against: str
    release: str | None


@dataclass(frozen=True)
class Scores:
    """A task, or the mean over tasks, as each system does it; scores and intervals from 0 to 1."""

    task: str
    metric: str
    rows: int
    groups: int
    systems: dict[str, dict[str, Any]]
    floor: float | None = None


@dataclass(frozen=True)
class Change:
    """Candidate minus another system on one task, or on what sums the tasks up.

    ``p``: one-sided, for "worse", adjusted for the tasks that were looked at. ``outcome``: the
    gate's, where it has a rule about it.
    """

    task: str
    against: str
    difference: float
    low: float
    high: float
    p: float
    smallest_detectable: float | None
    outcome: str | None
    reference: dict[str, Any] | None = None


@dataclass(frozen=True)
class Rule:
    """A rule of the gate; ``figures`` without those that its sentence or its task say already."""

    name: str
    title: str
    task: str | None
    outcome: str
    why: str
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Slice:
    """Rows of one kind (a language, a length, rare labels) of a task; ``change`` on them."""

    task: str
    name: str
    rows: int
    systems: dict[str, dict[str, Any]]
    change: Change


def read() -> Reports:
    """The reports that are there. Raises DataError where that of evaluate or gate is not."""
    found = {stage: report for stage in (*STAGES, "publish") if (report := _report(stage)) is not None}
    for stage in ("evaluate", "gate"):
        if stage not in found:
            raise DataError(f"{paths.report(stage)} is missing: run `moelora stage {stage}` first")
    return found


def write(reports: Reports, examples: list[Example] | None = None, margin: float | None = None) -> None:
    """Write reports/evaluation.html.

    ``examples`` are text of records: the page then is for its owner alone (mode 600) and says so.
    ``margin``: ``gate.margin``, drawn where given.
    """
    target = paths.EVALUATION_PAGE
    write_atomically(target, page(reports, examples, margin))
    target.chmod(0o600 if examples else 0o644)


def page(reports: Reports, examples: list[Example] | None = None, margin: float | None = None) -> str:
    """The page as HTML; the same reports give the same page."""
    return render("evaluation.html", **_view(reports, margin), examples=examples or [])


def summary(reports: Reports, next_step: str = "") -> str:
    """The page as Markdown, without examples: for Prefect's page.

    ``next_step``: where the run knows better than its verdict what to do next.
    """
    view = _view(reports, None)
    svg = render("forest.svg", **view).encode()
    plot = "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
    return render("evaluation.md", **view, plot=plot, next_step=next_step)


def verdict(gate: Report, publish: Report | None = None) -> Verdict:
    """The verdict in words, with what to do next."""
    name, release = gate["verdict"], (publish or {}).get("release")
    blocked = [rule for rule in gate["rules"] if rule["outcome"] == "blocked"]
    undecided = gate["undecided"]
    override = gate.get("override")
    steps: list[tuple[str, str | None]] = []
    if name == "blocked":
        sentence = "Nothing is published, and the champion stays."
        steps += [(_remedy(rule), None) for rule in blocked]
        if not blocked:
            sentence += f" gate.undecided is `block`, and {_count(len(undecided), 'task')} are undecided."
        steps.append(("Then run it again:", "moelora retrain"))
    else:
        confirm = "".join(f" --confirm {task}" for task in undecided)
        promotion = f'moelora promote {release or "RELEASE"} --by NAME --reason "…"{confirm}'
        sentence = "No rule blocks this release."
        if name == "overridden":
            broken = ", ".join(dict.fromkeys(title(rule["rule"]) for rule in blocked))
            sentence = (
                f"The gate blocked this release ({broken or 'undecided tasks'}), and a person let it through."
            )
            steps.append(
                ("Read the rules that block, and decide whether the reason given still holds.", None)
            )
        if undecided:
            what = f"{_count(len(undecided), 'task')} had too few test rows to exclude harm"
            steps.append((f"{what}: look at them, and confirm each by its name.", None))
        steps.append(("To make it the champion:", promotion))
    return Verdict(name, sentence, steps, override, gate.get("against") or "base", release)


def scores(evaluate: Report, gate: Report) -> list[Scores]:
    """Every task in the order of its name, then the mean."""
    floors = {rule["task"]: rule["figures"].get("floor") for rule in gate["rules"] if rule["rule"] == "floor"}
    rows = [
        Scores(
            task,
            each.get("metric") or "",
            each["rows"],
            each.get("groups", 0),
            _measured(each),
            floors.get(task),
        )
        for task, each in sorted(evaluate["tasks"].items())
    ]
    total = sum(each["rows"] for each in evaluate["tasks"].values())
    return [*rows, Scores("mean", "plain mean over tasks", total, 0, _measured(evaluate["mean"]))]


def changes(evaluate: Report, gate: Report) -> list[Change]:
    """What changed, the largest change first."""
    outcomes = {rule["task"]: rule["outcome"] for rule in gate["rules"] if rule["rule"] == "no_harm"}
    found = [
        _change(task, comparison, outcomes.get(task), each.get("reference_comparison"))
        for task, each in evaluate["tasks"].items()
        if (comparison := each.get("comparison"))
    ]
    return sorted(found, key=lambda change: (-abs(change.difference), change.task))


def summed_up(evaluate: Report, gate: Report) -> list[Change]:
    """What changed on the mean over tasks, and on the lowest score of any task."""
    outcomes = {rule["rule"]: rule["outcome"] for rule in gate["rules"]}
    return [
        _change(name, comparison, outcomes.get(rule), None)
        for name, rule in (("mean", "mean_not_worse"), ("worst", "worst_task"))
        if (comparison := (evaluate.get(name) or {}).get("comparison"))
    ]


def rules(gate: Report) -> dict[str, list[Rule]]:
    """The gate's rules by outcome, the most urgent first."""
    made = [
        Rule(
            rule["rule"],
            title(rule["rule"]),
            rule["task"],
            rule["outcome"],
            rule["why"],
            {name: value for name, value in rule["figures"].items() if not isinstance(value, dict | list)},
        )
        for rule in gate["rules"]
    ]
    grouped = {outcome: [rule for rule in made if rule.outcome == outcome] for outcome in OUTCOMES}
    return {outcome: found for outcome, found in grouped.items() if found}


def slices(evaluate: Report) -> list[Slice]:
    """Parts of the tasks' test rows, those that speak most for harm first."""
    found = [
        Slice(
            task, name.replace(":", " "), each["rows"], _measured(each), _change(task, comparison, None, None)
        )
        for task, figures in evaluate["tasks"].items()
        for name, each in (figures.get("slices") or {}).items()
        if (comparison := each.get("comparison"))
    ]
    return sorted(found, key=lambda each: (each.change.p, each.change.difference, each.task, each.name))


def calibration(evaluate: Report) -> dict[str, dict[str, float]]:
    """Expected calibration error of each system by task, of those whose answers are chosen."""
    return dict(sorted((evaluate.get("calibration") or {}).items()))


def memorisation(evaluate: Report, gate: Report) -> dict[str, Any] | None:
    """Figures of the canaries and of other probes of the training rows; None where none were made."""
    probes = {
        name: {key: value for key, value in found.items() if not isinstance(value, dict | list)}
        for name in ("canaries", "membership", "extraction")
        if isinstance(found := evaluate.get(name), dict)
    }
    if not probes:
        return None
    names = ("memorisation", *probes)
    return {"probes": probes, "rules": [rule for rule in gate["rules"] if rule["rule"] in names]}


def _view(reports: Reports, margin: float | None) -> dict[str, Any]:
    evaluate, gate = reports["evaluate"], reports["gate"]
    changed, summed, parts = changes(evaluate, gate), summed_up(evaluate, gate), slices(evaluate)
    reach = [value for change in (*changed, *summed) for value in _reach(change)]
    reach_of_parts = [value for part in parts for value in _reach(part.change)]
    weights = reports.get("train", {}).get("gate") or {}
    return {
        "verdict": verdict(gate, reports.get("publish")),
        "systems": [name for name in SYSTEMS if name in evaluate["systems"]],
        "scores": scores(evaluate, gate),
        "worst": evaluate.get("worst") or {},
        "shares": plots.SHARES,
        "changes": changed,
        "summed_up": summed,
        "change_axis": plots.symmetric([*reach, *([margin] if margin else [])]),
        "margin": margin,
        "rules": rules(gate),
        "undecided": gate["undecided"],
        "balance": reports.get("resample", {}).get("tasks") or {},
        "draws": reports.get("resample", {}).get("draws"),
        "experts": weights if len(next(iter(weights.values()), ())) > 1 else {},
        "memorisation": memorisation(evaluate, gate),
        "slices": parts,
        "slice_axis": plots.symmetric(reach_of_parts),
        "calibration": calibration(evaluate),
        "deidentify": reports.get("deidentify") or {},
        "untrained": evaluate.get("untrained") or {},
        "gone": evaluate.get("gone") or [],
        "names": {"champion": evaluate.get("champion"), "reference": evaluate.get("reference")},
    }


def _reach(change: Change) -> tuple[float, ...]:
    own = (change.low, change.high)
    return (*own, change.reference["low"], change.reference["high"]) if change.reference else own


def _measured(entry: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: entry[name] for name in SYSTEMS if entry.get(name) and entry[name]["score"] is not None}


def _change(
    task: str, against: dict[str, Any], outcome: str | None, reference: dict[str, Any] | None
) -> Change:
    return Change(
        task,
        against["against"],
        against["difference"],
        against["low"],
        against["high"],
        against.get("p_adjusted", against["p_worse"]),
        against.get("smallest_detectable"),
        outcome,
        reference,
    )


def _remedy(rule: dict[str, Any]) -> str:
    remedy = REMEDIES.get(rule["rule"])
    what = f"{rule['task'] or title(rule['rule'])}: {rule['why']}."
    return f"{what} What helps: {remedy}." if remedy else what


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _report(stage: str) -> Report | None:
    try:
        report: Report = json.loads(paths.report(stage).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return report
