"""Two adapters on the same rows, on a tiny real base model."""

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
import yaml

from pipeline import base, paths
from pipeline.compare import adapter, compare
from pipeline.digests import canonical_json, dvc_digest, folder_digest, listing, listing_digest
from pipeline.errors import DataError, InputError, ReleaseCorrupt, ReleaseNotFound
from pipeline.evaluate.__main__ import run
from pipeline.moelora import saving
from pipeline.params import Params
from pipeline.stage import Progress
from tests.conftest import Checkout
from tests.pipeline.evaluate.conftest import base_folder, make_adapter  # noqa: F401  # fixture
from tests.pipeline.evaluate.test_evaluate import TASKS, test_rows, write_release, write_training

SMALL = {"compute__threads": 1, "evaluate__max_new_tokens": 6, "evaluate__resamples": 300}


@pytest.fixture
def ready(checkout: Checkout, base_folder: Path) -> Any:  # noqa: F811
    """A checkout with a base, a test split and two adapters, in folders `old` and `new`."""
    shutil.copytree(base_folder, paths.BASE)
    checkout.params(**SMALL)
    paths.SPLIT.mkdir(parents=True)
    test_rows().write_parquet(paths.TEST_SPLIT)
    model, _ = base.load(Params.load().compute)
    for name, tasks, seed in (("old", ("rqe", "summary", "old-task"), 1), ("new", TASKS, 2)):
        made = make_adapter(model, tasks, seed)
        Path(name).mkdir()
        saving.save(made, Path(name))
        made.unload()
    yield checkout
    torch.use_deterministic_algorithms(False)


def compared(a: str, b: str) -> tuple[dict[str, Any], list[tuple[str, int, int]]]:
    """The comparison, and what a progress bar was told."""
    told: list[tuple[str, int, int]] = []
    found = compare(adapter(a), adapter(b), Params.load(), lambda *said: told.append(said))
    return json.loads(canonical_json(found)), told


def test_two_folders_are_compared_on_the_tasks_that_both_know(ready: Checkout) -> None:
    found, told = compared("old", "new")
    assert list(found["tasks"]) == ["rqe", "summary"]
    assert (found["only_a"], found["only_b"]) == ([], ["ner"])
    assert found["rows"] == 5
    rqe = found["tasks"]["rqe"]
    assert (rqe["metric"], rqe["rows"], rqe["groups"]) == ("accuracy", 4, 2)
    assert rqe["difference"] == pytest.approx(rqe["b"]["score"] - rqe["a"]["score"])
    assert rqe["low"] <= rqe["difference"] <= rqe["high"]
    assert rqe["p_worse"] <= rqe["p_adjusted"] <= 1
    assert found["mean"]["difference"] == pytest.approx(
        sum(each["difference"] for each in found["tasks"].values()) / 2
    )
    assert told[0] == ("old", 0, 5)
    assert told[-1] == ("new", 8, 8)
    assert found["answered"] == {"a": 5, "b": 8}


def test_the_other_way_round_is_the_negative(ready: Checkout) -> None:
    there, back = compared("old", "new")[0], compared("new", "old")[0]
    for task, figures in there["tasks"].items():
        assert back["tasks"][task]["difference"] == pytest.approx(-figures["difference"])
        assert back["tasks"][task]["a"]["score"] == figures["b"]["score"]


def test_an_adapter_against_itself_is_no_different(ready: Checkout) -> None:
    found, _ = compared("new", "new")
    assert {each["difference"] for each in found["tasks"].values()} == {0}
    assert {each["p_worse"] for each in found["tasks"].values()} == {1}


def test_answers_are_kept_for_the_next_comparison_and_for_their_owner_alone(ready: Checkout) -> None:
    first, _ = compared("old", "new")
    again, told = compared("old", "new")
    assert told == []
    assert again["answered"] == {"a": 0, "b": 0}
    assert again["tasks"] == first["tasks"]
    assert (paths.cache_root() / "open/answers").stat().st_mode & 0o777 == 0o700
    ready.params(evaluate__max_new_tokens=5)
    assert compared("old", "new")[0]["answered"] == {"a": 5, "b": 8}
    test_rows().with_columns(input=pl.lit("other")).write_parquet(paths.TEST_SPLIT)
    assert compared("old", "new")[0]["answered"] == {"a": 5, "b": 8}


@pytest.fixture
def evaluated(ready: Checkout) -> str:
    """models/release evaluated as DVC would have it, and pulled as a release: its id."""
    write_release(paths.RELEASE, TASKS, seed=2)
    write_training()
    report = run(Params.load(), Progress("evaluate"))
    paths.report("evaluate").parent.mkdir(exist_ok=True)
    paths.report("evaluate").write_text(canonical_json(report))
    params = yaml.safe_load(paths.PARAMS.read_text())
    files = {
        key: [{"path": path.as_posix(), "md5": dvc_digest(path)}]
        for key, path in (("deps", paths.TEST_SPLIT), ("outs", paths.report("evaluate")))
    }
    lock = {
        "evaluate": files
        | {"params": {"params.yaml": {key: params[key] for key in ("compute", "evaluate")}}},
        "export": {"params": {"params.yaml": {"base": params["base"]}}},
    }
    paths.DVC_LOCK.write_text(yaml.safe_dump({"stages": lock}))
    folder = paths.cache_root() / "open/releases/new"
    shutil.copytree(paths.RELEASE, folder)
    (folder / "gate.json").write_text(canonical_json({"release_digest": report["release_digest"]}))
    lineage = {"base": {"digest": folder_digest(paths.BASE)}}
    (folder / "lineage.json").write_text(canonical_json(lineage))
    release = listing_digest(listing(folder))[:16]
    folder.rename(folder.with_name(release))
    return release


@pytest.mark.parametrize("by", ["release", "folder"])
def test_what_evaluate_has_answered_is_not_asked_again(evaluated: str, by: str) -> None:
    b = evaluated if by == "release" else str(paths.RELEASE)
    found, told = compared("old", b)
    assert found["answered"] == {"a": 5, "b": 0}
    assert {name for name, _, _ in told} == {"old"}
    report = json.loads(paths.report("evaluate").read_text())
    for task, figures in found["tasks"].items():
        score = report["tasks"][task]["candidate"]["score"]
        assert figures["b"]["score"] == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("change", ["split", "params", "no lock"])
def test_answers_to_another_split_or_by_other_limits_are_not_used(
    ready: Checkout, evaluated: str, change: str
) -> None:
    if change == "split":
        test_rows().with_columns(input=pl.lit("other")).write_parquet(paths.TEST_SPLIT)
    elif change == "params":
        ready.params(evaluate__max_new_tokens=5)
    else:
        paths.DVC_LOCK.unlink()
    assert compared("old", evaluated)[0]["answered"] == {"a": 5, "b": 8}


def test_a_release_of_another_base_is_refused(ready: Checkout) -> None:
    release = Path("release")
    write_release(release, TASKS, seed=2)
    (release / "lineage.json").write_text(json.dumps({"base": {"digest": "0" * 64}}))
    with pytest.raises(InputError, match="another base model"):
        compared("old", "release")


def test_a_changed_release_is_refused(evaluated: str) -> None:
    (paths.cache_root() / "open/releases" / evaluated / "gate.json").write_text("{}")
    with pytest.raises(ReleaseCorrupt, match=evaluated):
        adapter(evaluated)


def test_what_is_no_adapter_is_named(ready: Checkout) -> None:
    with pytest.raises(InputError, match="nowhere is neither a release id"):
        adapter("nowhere")
    with pytest.raises(ReleaseNotFound, match="moelora pull"):
        adapter("0" * 16)
    with pytest.raises(InputError, match="holds no adapter"):
        compared("old", str(paths.SPLIT))
    test_rows().filter(pl.col("task") == "ner").write_parquet(paths.TEST_SPLIT)
    with pytest.raises(DataError, match="no task in common"):
        compared("old", "new")
    paths.TEST_SPLIT.unlink()
    with pytest.raises(DataError, match="moelora stage split"):
        compared("old", "new")
