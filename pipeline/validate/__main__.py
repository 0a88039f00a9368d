"""validate: what must hold of ingested data before anything is built on it.

    python -m pipeline.validate

Reads data/ingested and runs a Great Expectations suite on it; writes reports/validate.json and
reports/data_docs/index.html (Great Expectations' Data Docs). A critical expectation that fails
ends the stage with exit code 2, its count and where the rows are; a warning is printed and
reported. Where validate.baseline names a release, the data is compared with the data of that, and
a warning says which shares moved (pipeline.validate.drift).

Great Expectations never sees text of a record: it gets columns of numbers and booleans that
are derived here, a block at a time, so that memory stays bounded. Shards seen before are not read
again.

How old the data is cannot be told here: a record bears no date, and a report no clock. The watcher
tells when no new file came for two weeks (flows.watch).
"""

from typing import Any

from pipeline import paths
from pipeline.digests import canonical_json
from pipeline.errors import DataError
from pipeline.files import write_atomically
from pipeline.params import Params, Validate
from pipeline.stage import Progress, Report, main
from pipeline.validate import docs, drift, facts
from pipeline.validate.across import across, independent
from pipeline.validate.expectations import Level, drift_suite, shard_suite, task_suite
from pipeline.validate.shards import record_findings
from pipeline.validate.suite import NAMED_ROWS, Finding, Suite


def run(params: Params, progress: Progress) -> Report:
    """Validate ``data/ingested``; see the module's docstring. Raises DataError on a critical failure."""
    validate = params.validate_
    shards = sorted(paths.INGESTED.glob("*.parquet"))
    if not shards:
        raise DataError(f"{paths.INGESTED} holds no shard: run `python -m pipeline.ingest` first")
    profile = _profile(validate)
    suite = Suite()
    findings = suite.run(shard_suite(), facts.shard_facts(shards), "shard")
    judged: list[drift.Judged] | None = None
    if _failed(findings, "critical"):
        rows = facts.count(shards)
    else:
        together = across(shards)
        rows = together.rows
        findings += record_findings(shards, together, params, suite, progress)
        findings += suite.run(task_suite(), together.tasks, "task")
        if profile is not None and not _failed(findings, "critical"):
            judged = drift.judge(drift.figures(profile, independent(shards)), validate.max_drift)
            findings += suite.run(drift_suite(validate), facts.drift_facts(judged), "figure")
    docs.write(suite, findings)
    report = {
        "rows": {"in": rows, "out": rows},
        "success": not _failed(findings, "critical"),
        "expectations": [_entry(finding) for finding in findings],
        "drift": None if judged is None else [_moved(each) for each in judged if each.p is not None],
    }
    for finding in _failed(findings, "warning"):
        print(f"validate: {_sentence(finding)}", flush=True)
    for each in judged or ():
        for value, (before, after) in each.moved.items():
            print(f"validate: {each.figure}: {value}: {before:.1%} -> {after:.1%}", flush=True)
    if critical := _failed(findings, "critical"):
        # dvc records no failed stage; people need the report all the same.
        write_atomically(paths.report("validate"), canonical_json(report))
        raise DataError("; ".join(map(_sentence, critical)))
    return report


def _profile(validate: Validate) -> dict[str, Any] | None:
    """The baseline's, where there is one that can be compared."""
    if validate.baseline is None:
        return None
    profile = drift.profile(validate.baseline)
    if drift.is_comparable(profile):
        return profile
    print(
        f"validate: release {validate.baseline} was published before patients were counted in profiles: "
        "drift is measured from the next champion on",
        flush=True,
    )
    return None


def _failed(findings: list[Finding], level: Level) -> list[Finding]:
    return [finding for finding in findings if finding.unexpected and finding.expectation.level == level]


def _entry(finding: Finding) -> dict[str, Any]:
    expectation = finding.expectation
    return {
        "expectation": expectation.type,
        "column": expectation.column,
        "meaning": expectation.meaning,
        "level": expectation.level,
        "limits": [expectation.least, expectation.most],
        "success": not finding.unexpected,
        "elements": finding.elements,
        "unexpected": finding.unexpected,
        "shards": finding.shards,
        "names": finding.names,
        "remedy": expectation.remedy,
    }


def _moved(judged: drift.Judged) -> dict[str, Any]:
    moved = {value: {"before": before, "after": after} for value, (before, after) in judged.moved.items()}
    return {"figure": judged.figure.name, "task": judged.figure.task, "p": judged.p, "moved": moved}


def _sentence(finding: Finding) -> str:
    expectation = finding.expectation
    places = ", ".join(finding.places()[:NAMED_ROWS])
    return (
        f"{expectation.level} {expectation} is not met by {finding.unexpected} of {finding.elements}"
        f"{f' ({places})' if places else ''}: {expectation.remedy}"
    )


if __name__ == "__main__":
    main("validate", run)
