"""Two adapters on the same test rows, with the statistics of ``evaluate``; neither need be the champion.

>>> compare(adapter("0123456789abcdef"), adapter("models/release"), params, print)

Answers to the test split that data/predictions has of an adapter are used again, where dvc.lock
says that they belong to the split and the parameters of now; so are those of an earlier
comparison. All others are answered anew, and kept in the cache of this machine.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from pipeline import paths
from pipeline.cache import Cache
from pipeline.digests import code_digest, dvc_digest, file_digest, folder_digest
from pipeline.errors import DataError, InputError
from pipeline.params import Params
from pipeline.registry import is_release_id, pulled, verify_folder

Watch = Callable[[str, int, int], None]
"""Told the adapter's name, the rows answered and the rows in all."""


@dataclass(frozen=True)
class Adapter:
    """An adapter to compare: ``name`` as it was given, ``native`` the folder of its own files,
    ``digest`` that of models/release when it was judged, or of its folder."""

    name: str
    folder: Path
    native: Path
    digest: str


def adapter(name: str) -> Adapter:
    """A pulled release by its id, or a folder: of a release, of models/release, or of an adapter.

    Raises InputError where it is neither, ReleaseNotFound and ReleaseCorrupt of a pulled release.
    """
    folder = Path(name)
    if not folder.is_dir() and is_release_id(name):
        folder = pulled(name)
        verify_folder(folder, name)
    if not folder.is_dir():
        raise InputError(f"{name} is neither a release id (16 hex digits, moelora releases) nor a folder")
    native = folder / paths.RELEASE_NATIVE.name
    judged = folder / "gate.json"
    if judged.is_file():
        digest = str(json.loads(judged.read_text(encoding="utf-8"))["release_digest"])
    else:
        digest = folder_digest(folder)
    return Adapter(name, folder, native if native.is_dir() else folder, digest)


def compare(first: Adapter, second: Adapter, params: Params, watch: Watch) -> dict[str, Any]:
    """``second`` against ``first`` on the tasks of the test split that both know.

    ``a, b`` (names), ``rows``, ``tasks`` {task: metric, rows, groups, a, b (score, low, high,
    malformed), difference (b minus a), low, high, p_worse (one-sided, "b is worse"), p_adjusted for
    looking at all of them}, ``mean``, ``worst``, ``only_a``, ``only_b``, ``answered`` {a, b: rows
    answered by this call}. Raises DataError where no test row is of a task that both know.
    """
    from pipeline.evaluate.scores import score

    try:
        test = pl.read_parquet(paths.TEST_SPLIT).sort("task", "sample_id")
    except FileNotFoundError:
        raise DataError(f"{paths.TEST_SPLIT} is missing: moelora stage split") from None
    answers, counts, known = {}, {}, {}
    for key, each in (("a", first), ("b", second)):
        known[key] = _tasks(each)
        rows = test.filter(pl.col("task").is_in(sorted(known[key])))
        kept = _kept(each, rows, params)
        answers[key] = _answered(each, rows, params, watch) if kept is None else kept
        counts[key] = len(rows) if kept is None else 0
    there = set(test["task"].unique())
    shared = sorted(known["a"] & known["b"] & there)
    if not shared:
        raise DataError(f"{first.name} and {second.name} have no task in common that has test rows")
    both = {key: frame.filter(pl.col("task").is_in(shared)) for key, frame in answers.items()}
    # evaluate's words for the two sides of a comparison
    scores, _ = score(shared, {"candidate": both["b"], "champion": both["a"]}, params.evaluate)
    return {
        "a": first.name,
        "b": second.name,
        "rows": len(both["a"]),
        "tasks": {
            task: {
                "metric": each["metric"],
                "rows": each["rows"],
                "groups": each["groups"],
                **_sides(each),
                "p_adjusted": each["comparison"]["p_adjusted"],
            }
            for task, each in scores["tasks"].items()
        },
        "mean": _sides(scores["mean"]),
        "worst": _sides(scores["worst"]),
        "only_a": sorted((known["a"] - known["b"]) & there),
        "only_b": sorted((known["b"] - known["a"]) & there),
        "answered": counts,
    }


def _sides(entry: dict[str, Any]) -> dict[str, Any]:
    figures = {key: entry["comparison"][key] for key in ("difference", "low", "high", "p_worse")}
    return {"a": entry["champion"], "b": entry["candidate"], **figures}


def _tasks(each: Adapter) -> set[str]:
    from pipeline.moelora import saving

    try:
        facts = json.loads((each.native / saving.FACTS).read_text(encoding="utf-8"))
        return set(facts["config"]["tasks"])
    except (OSError, ValueError, KeyError):
        raise InputError(f"{each.name}: {each.native} holds no adapter ({saving.FACTS})") from None


def _kept(each: Adapter, rows: pl.DataFrame, params: Params) -> pl.DataFrame | None:
    """The rows with the answers that are kept of this adapter, in data/predictions or the cache."""
    file = _of_the_last_evaluation(each, params)
    if file is None:
        entry = Cache("answers").get(_key(each, params))
        file = entry / "answers.parquet" if entry else None
    if file is None:
        return None
    answers = pl.read_parquet(file, columns=["sample_id", "prediction"])
    joined = rows.join(answers, on="sample_id", how="left", maintain_order="left")
    return None if joined["prediction"].has_nulls() else joined


def _of_the_last_evaluation(each: Adapter, params: Params) -> Path | None:
    """The file of data/predictions that holds this adapter's answers, if dvc.lock says that they
    were given to the test split of now under the parameters of now."""
    try:
        stages = yaml.safe_load(paths.DVC_LOCK.read_text(encoding="utf-8"))["stages"]
        entry, report = stages["evaluate"], paths.report("evaluate")
        digests = {each["path"]: each["md5"] for each in [*entry["deps"], *entry["outs"]]}
        if any(digests[file.as_posix()] != dvc_digest(file) for file in (paths.TEST_SPLIT, report)):
            return None
        then = entry["params"][str(paths.PARAMS)] | stages["export"]["params"][str(paths.PARAMS)]
        systems = json.loads(report.read_text(encoding="utf-8"))
    except (OSError, KeyError):
        return None
    if _settings(then) != _settings(params.model_dump(mode="json", by_alias=True)):
        return None
    given = {
        "candidate": systems["release_digest"],
        "champion": systems["champion"],
        "reference": systems["reference"],
    }
    files = [
        paths.PREDICTIONS / f"{name}.parquet" for name, it in given.items() if it in (each.digest, each.name)
    ]
    return next((file for file in files if file.is_file()), None)


def _settings(params: dict[str, Any]) -> dict[str, Any]:
    """Parameters that decide an answer, of params.yaml's sections."""
    limits = ("max_tokens", "max_new_tokens", "batch_tokens")
    return {
        "base": params["base"],
        "compute": params["compute"],
        "limits": [params["evaluate"].get(name) for name in limits],
    }


def _key(each: Adapter, params: Params) -> str:
    here = Path(__file__).parent
    return Cache.key(
        adapter=folder_digest(each.native),
        base=folder_digest(paths.BASE),
        test=file_digest(paths.TEST_SPLIT),
        params=_settings(params.model_dump(mode="json", by_alias=True)),
        code=code_digest([here / "prompts.py", *sorted((here / "evaluate").glob("*.py"))]),
    )


def _answered(each: Adapter, rows: pl.DataFrame, params: Params, watch: Watch) -> pl.DataFrame:
    """The rows with the adapter's answers, computed now and kept."""
    from pipeline import base
    from pipeline.evaluate.answers import answer, question
    from pipeline.evaluate.lineage import has_this_base
    from pipeline.evaluate.system import System
    from pipeline.moelora import saving

    if (each.folder / "lineage.json").is_file() and not has_this_base(each.folder):
        raise InputError(
            f"{each.name} was trained on another base model than models/base: compare it where its own is"
        )
    model, tokenizer = base.load(params.compute)
    loaded = saving.load(model, each.native)
    columns = ("task", "task_type", "input", "answer_choices")
    asked = [
        question(tokenizer, task, task_type, text, choices, params.evaluate.max_tokens)
        for task, task_type, text, choices in rows.select(columns).iter_rows()
    ]
    finished = 0

    def done(count: int) -> None:
        nonlocal finished
        finished += count
        watch(each.name, finished, len(rows))

    watch(each.name, 0, len(rows))
    system = System(model, tokenizer, loaded)
    given = answer(system, asked, params.evaluate.max_new_tokens, params.evaluate.batch_tokens, done)
    answered = rows.with_columns(pl.Series("prediction", [each.text for each in given], pl.String))
    with Cache("answers").put(_key(each, params)) as folder:
        answered.select("sample_id", "prediction").write_parquet(folder / "answers.parquet")
    return answered
