"""validate: what must hold of ingested data before anything is built on it.

    python -m pipeline.validate

Reads data/ingested and runs a Great Expectations suite on it; writes reports/validate.json and
reports/data_docs/index.html (Great Expectations' Data Docs). A critical expectation that fails
ends the stage with exit code 2, its count and where the rows are; a warning is printed and
reported.

Great Expectations never sees text of a record: it gets columns of numbers and booleans that
are derived here, a block of shards at a time, so that memory stays bounded.
"""

import json
from typing import Any

from pipeline import paths
from pipeline.digests import canonical_json
from pipeline.errors import DataError, InputError
from pipeline.files import write_atomically
from pipeline.params import Params, Validate
from pipeline.stage import Progress, Report, main
from pipeline.validate import facts
from pipeline.validate.suite import (
    NAMED_ROWS,
    Finding,
    Suite,
    drift_suite,
    record_suite,
    shard_suite,
    task_suite,
)


def run(params: Params, progress: Progress) -> Report:
    """Validate ``data/ingested``; see the module's docstring. Raises DataError on a critical failure."""
    validate = params.validate_
    shards = sorted(paths.INGESTED.glob("*.parquet"))
    if not shards:
        raise DataError(f"{paths.INGESTED} holds no shard: run `python -m pipeline.ingest` first")
    baseline = _baseline(validate)
    suite = Suite()
    suite.run(shard_suite(), facts.shard_facts(shards), ["shard"])
    if suite.failed("critical"):
        rows = facts.count(shards)
    else:
        across = facts.across_shards(shards)
        rows = across.height
        records = record_suite(validate)
        done = 0
        for block in facts.blocks(facts.record_facts(path, across, validate) for path in shards):
            suite.run(records, block, ["shard", "line"])
            done += block.height
            progress.update(done, rows, "records")
        suite.run(task_suite(), facts.task_facts(across), ["task"])
        if baseline is not None:
            suite.run(drift_suite(validate), facts.drift(baseline, across), [])
    suite.write_data_docs()
    report = {
        "rows": {"in": rows, "out": rows},
        "success": not suite.failed("critical"),
        "expectations": [_entry(finding) for finding in suite.findings.values()],
    }
    for finding in suite.failed("warning"):
        print(f"validate: {_sentence(finding)}", flush=True)
    if critical := suite.failed("critical"):
        # dvc records no failed stage; people need the report all the same.
        write_atomically(paths.report("validate"), canonical_json(report))
        raise DataError("; ".join(map(_sentence, critical)))
    return report


def _entry(finding: Finding) -> dict[str, Any]:
    expectation = finding.expectation
    return {
        "expectation": expectation.type,
        "column": expectation.column,
        "level": expectation.level,
        "limits": [expectation.least, expectation.most],
        "success": not finding.unexpected,
        "elements": finding.elements,
        "unexpected": finding.unexpected,
        "shards": finding.shards,
        "tasks": finding.tasks,
    }


def _sentence(finding: Finding) -> str:
    expectation = finding.expectation
    limits = "".join(
        f" {word} {limit:g}"
        for word, limit in (("at least", expectation.least), ("at most", expectation.most))
        if limit is not None
    )
    places = ", ".join(finding.places()[:NAMED_ROWS])
    return (
        f"{expectation.level} {expectation.type}({expectation.column}{limits}) is not met by "
        f"{finding.unexpected} of {finding.elements}{f' ({places})' if places else ''}: {expectation.remedy}"
    )


def _baseline(validate: Validate) -> dict[str, Any] | None:
    """``profile.json`` of the release that drift is measured against."""
    if validate.baseline is None:
        return None
    path = paths.cache_root() / "open" / "releases" / validate.baseline / "profile.json"
    try:
        profile: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"validate.baseline: release {validate.baseline} is not on this machine: "
            f"run `moelora pull {validate.baseline}`"
        ) from None
    except ValueError:
        raise InputError(
            f"validate.baseline: profile.json of release {validate.baseline} is no JSON: "
            f"run `moelora pull {validate.baseline}` again"
        ) from None
    return profile


if __name__ == "__main__":
    main("validate", run)
