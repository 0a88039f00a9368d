"""One answer from a release."""

import json
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch

from pipeline import base, paths
from pipeline.digests import folder_digest
from pipeline.errors import InputError
from pipeline.moelora import MoeLora, saving
from pipeline.moelora.model import Task
from pipeline.params import Params
from pipeline.predict import predict
from tests.conftest import Checkout
from tests.pipeline.evaluate.conftest import make_adapter
from tests.tiny import tiny_base


@pytest.fixture
def release(checkout: Checkout) -> Path:
    tiny_base(paths.BASE)
    checkout.params(compute__threads=1, evaluate__max_new_tokens=5)
    model, _ = base.load(Params.load().compute)
    folder = checkout.root / "release"
    (folder / "moelora").mkdir(parents=True)
    saving.save(make_adapter(model, ("rqe", "ner")), folder / "moelora")
    lineage = {"base": {"digest": folder_digest(paths.BASE)}}
    (folder / "lineage.json").write_text(json.dumps(lineage))
    yield folder
    torch.use_deterministic_algorithms(False)


def test_an_answer_is_the_same_every_time_and_depends_on_the_task(release: Path) -> None:
    assert predict(release, "ner", "gout") == predict(release, "ner", "gout")
    assert predict(release, "ner", "gout") != predict(release, "rqe", "gout")


def test_one_of_the_choices_is_answered(release: Path) -> None:
    assert predict(release, "rqe", "A? B?", choices=["true", "false"]) in ("true", "false")


def test_an_unknown_task_is_named_with_those_known(release: Path) -> None:
    with pytest.raises(InputError, match=r"'gout'.*ner, rqe.*--task-fallback mean"):
        predict(release, "gout", "x")


def test_an_unknown_task_falls_back_on_the_mean_embedding_of_all(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    tasks = MoeLora.tasks

    def watched(adapter: MoeLora, names: Sequence[Task]) -> AbstractContextManager[None]:
        asked.append(list(names))
        return tasks(adapter, names)

    monkeypatch.setattr(MoeLora, "tasks", watched)
    fallback = predict(release, "gout", "x", task_fallback="mean")
    assert fallback == predict(release, "another", "x", task_fallback="mean")
    assert all(names == [("rqe", "ner")] for names in asked)
    asked.clear()
    known = predict(release, "ner", "gout", task_fallback="mean")
    assert known == predict(release, "ner", "gout")
    assert all(names == ["ner"] for names in asked)
    assert predict(release, "gout", "x", ["true", "false"], task_fallback="mean") in ("true", "false")


def test_a_release_of_another_base_is_refused(release: Path) -> None:
    (release / "lineage.json").write_text(json.dumps({"base": {"digest": "0" * 64}}))
    with pytest.raises(InputError, match="another base model"):
        predict(release, "rqe", "x")


def test_a_folder_that_is_no_release_is_named(release: Path) -> None:
    shutil.rmtree(release / "moelora")
    with pytest.raises(InputError, match="moelora"):
        predict(release, "rqe", "x")
