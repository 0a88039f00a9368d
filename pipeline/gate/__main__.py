"""May this adapter be published? Arithmetic over the reports, every figure shown.

    python -m pipeline.gate

Reads reports/{deidentify,resample,train,export,evaluate}.json. Writes reports/gate.json::

    verdict         pass | blocked | overridden
    release_digest  digest of the models/release that was judged
    rules           [{rule, task or null, outcome: pass | blocked | undecided, figures, why}]
    undecided       tasks that a person confirms by name at promotion
    against         "base", or the champion's id
    override        {by, reason} where the verdict is overridden, else null

One blocked rule blocks. ``gate.undecided`` says what an undecided one does: ``allow`` nothing,
``approve`` (default) a person confirms its task, ``block`` blocks. Ends with exit code 0 and a
verdict whenever there is something to judge.

    no champion yet           every task is compared with the bare base
    a task new since          with the base, in the same family of tests; not in mean and worst
    a task gone               undecided: a person confirms that nobody needs it
    a smaller test set        blocked: the override of ``gate.override`` lets it through
    a champion of other base  undecided, and compared with the base

A task is blocked where it is worse beyond chance (pipeline.gate.harm). One that is not blocked is
still undecided where its interval leaves room for a loss of ``gate.margin``. What counts as learnt
by heart: pipeline.gate.memorisation.
"""

import json
from typing import Any

from pipeline import paths
from pipeline.errors import DataError
from pipeline.gate import build, coverage, harm, memorisation, privacy
from pipeline.params import Gate, Params
from pipeline.stage import Progress, Report, main

JUDGED = ("deidentify", "resample", "train", "export", "evaluate")
"""Stages whose reports are judged."""

Reports = dict[str, dict[str, Any]]


def run(params: Params, progress: Progress) -> Report:
    """Judge the reports that lie in reports/."""
    report = judge({stage: _read(stage) for stage in JUDGED}, params.gate)
    progress.update(1, 1, report["verdict"])
    return report


def _read(stage: str) -> dict[str, Any]:
    path = paths.report(stage)
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is missing: run `python -m pipeline.{stage}` first") from None
    except ValueError:
        raise DataError(f"{path} is no JSON: run `python -m pipeline.{stage}` again") from None
    if not isinstance(report, dict):
        raise DataError(f"{path} is no report: run `python -m pipeline.{stage}` again")
    return report


def judge(reports: Reports, params: Gate) -> Report:
    """The verdict on the reports of JUDGED; DataError where they leave nothing to judge."""
    try:
        if not reports["evaluate"]["tasks"]:
            raise DataError("reports/evaluate.json has no tasks, so there is nothing to judge: add test data")
        evaluate = reports["evaluate"]
        rules = [
            *coverage.rules(evaluate, params),
            *harm.rules(evaluate, params),
            *privacy.rules(reports["deidentify"], params),
            *memorisation.rules(evaluate, params),
            *build.rules(reports["resample"], reports["train"], reports["export"], evaluate, params),
        ]
    except KeyError as error:
        raise DataError(
            f"reports/ lacks the field {error}, so it was written by another version: "
            f"run the stages {', '.join(JUDGED)} again"
        ) from None
    stops = {"blocked"} | ({"undecided"} if params.undecided == "block" else set())
    verdict = "blocked" if any(rule["outcome"] in stops for rule in rules) else "pass"
    digest = reports["export"]["release_digest"]
    override = params.override
    overridden = verdict == "blocked" and override is not None and override.release_digest == digest
    to_confirm = {rule["task"] for rule in rules if rule["outcome"] == "undecided" and rule["task"]}
    return {
        "verdict": "overridden" if overridden else verdict,
        "release_digest": digest,
        "rules": rules,
        "undecided": sorted(to_confirm) if params.undecided != "allow" else [],
        "against": reports["evaluate"]["champion"] or "base",
        "override": {"by": override.by, "reason": override.reason} if overridden and override else None,
    }


if __name__ == "__main__":
    main("gate", run)
