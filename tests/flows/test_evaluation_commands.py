"""report, trends, compare and releases, as people type them."""

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import torch

from pipeline import base, paths
from pipeline.moelora import saving
from pipeline.params import Params
from pipeline.registry import Registry
from tests import judged
from tests.conftest import Checkout
from tests.flows.test_cli import moelora
from tests.pipeline.evaluate.conftest import make_adapter
from tests.pipeline.evaluate.test_evaluate import test_rows
from tests.pipeline.test_trends import publish
from tests.tiny import tiny_base


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # tables fold in a narrow terminal


def run(*arguments: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
    done = moelora(*arguments)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_report_writes_the_page_again_with_text_only_on_request(checkout: Checkout) -> None:
    assert "moelora stage evaluate" in run("report", code=2).stderr
    judged.write(override=True)
    assert f"next: open {paths.EVALUATION_PAGE}" in run("report").stdout
    assert "chest pain" not in paths.EVALUATION_PAGE.read_text()
    told = run("report", "--examples", "1")
    assert "keep it on this machine" in told.stderr
    assert paths.EVALUATION_PAGE.read_text().count('class="example"') == len(judged.TASKS)
    run("report")
    assert "chest pain" not in paths.EVALUATION_PAGE.read_text()


@pytest.fixture
def releases(checkout: Checkout, registry_url: str, tmp_path: Path) -> list[str]:
    """Three releases in the registry's order, whose clock is S3's, in seconds; the last is overridden."""
    checkout.params(publish__registry=registry_url)
    registry = Registry.open(registry_url)
    override = {"verdict": "overridden", "override": {"by": "A. Meyer", "reason": "not in use"}}
    for number in range(2):
        publish(registry, tmp_path / f"release-{number}", number)
    time.sleep(1.1)
    publish(registry, tmp_path / "release-2", 2, **override)
    return [release.id for release in registry.releases()]


def test_trends_are_a_table_a_page_and_json(releases: list[str]) -> None:
    table = run("trends", "--last", "2").stdout
    cells = [line.split() for line in table.splitlines()]
    assert next(line for line in cells if line[:1] == ["rqe"])[-1] == "0.700"
    assert next(line for line in cells if line[:1] == ["records"])[-1] == "2,000"
    assert "overridden" in table
    assert f"moelora compare {releases[1]} {releases[2]}" in table.replace("\n", " ")
    assert releases[2] in paths.TRENDS_PAGE.read_text()
    assert releases[0] not in paths.TRENDS_PAGE.read_text()
    assert [each["release"] for each in json.loads(run("trends", "--json").stdout)] == releases


def test_trends_without_releases_say_what_makes_one(checkout: Checkout, registry_url: str) -> None:
    checkout.params(publish__registry=registry_url)
    assert "moelora retrain" in run("trends", code=2).stderr
    assert json.loads(run("trends", "--json").stdout) == []


def test_releases_show_an_overridden_one(releases: list[str]) -> None:
    listed = json.loads(run("releases", "--json").stdout)
    assert {each["id"]: each["verdict"] for each in listed}[releases[2]] == "overridden"
    lines = run("releases").stdout.splitlines()
    assert "overridden" in next(line for line in lines if line.startswith(releases[2]))


@pytest.fixture
def adapters(checkout: Checkout) -> None:
    """A tiny base, a test split and two adapters in folders `old` and `new`."""
    tiny_base(Path("tiny"))
    params = {"base__model": str(Path("tiny").resolve()), "compute__threads": 1}
    checkout.params(**params, evaluate__max_new_tokens=4, evaluate__resamples=300)
    paths.SPLIT.mkdir(parents=True)
    test_rows().write_parquet(paths.TEST_SPLIT)
    model, _ = base.load(Params.load().compute, Path("tiny"))
    for name, seed in (("old", 1), ("new", 2)):
        Path(name).mkdir()
        made = make_adapter(model, ("rqe", "ner"), seed)
        saving.save(made, Path(name))
        made.unload()
    torch.use_deterministic_algorithms(False)


def test_compare_prints_a_table_of_two_adapters(adapters: None) -> None:
    done = run("compare", "old", "new")
    assert [line.split()[0] for line in done.stdout.splitlines()[:5]] == [
        "task",
        "ner",
        "rqe",
        "mean",
        "worst",
    ]
    assert "A: old   B: new" in done.stdout
    assert "14 rows answered now" in done.stdout
    assert "unmistakable" not in done.stdout + done.stderr
    found = json.loads(run("compare", "old", "new", "--json").stdout)
    assert found["answered"] == {"a": 0, "b": 0}
    shutil.rmtree("new")
    assert "new is neither a release id" in run("compare", "old", "new", code=2).stderr
