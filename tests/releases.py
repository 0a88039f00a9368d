"""Small whole releases in the base model of models/base."""

import json
from pathlib import Path

from pipeline import base, paths
from pipeline.digests import folder_digest
from pipeline.export import write_task_lora
from pipeline.moelora import saving
from pipeline.params import Base, Params
from tests.pipeline.evaluate.conftest import make_adapter


def write_release(folder: Path, tasks: tuple[str, ...] = ("rqe", "ner"), seed: int = 0) -> Path:
    """The files that decide what a release answers; another ``seed``, other answers."""
    params = Params.load()
    model, _ = base.load(params.compute)
    adapter = make_adapter(model, tasks, seed)
    (folder / "moelora").mkdir(parents=True)
    saving.save(adapter, folder / "moelora")
    for task in tasks:
        write_task_lora(adapter, task, folder / "tasks" / task, Base(model="tiny"))
    (folder / "lineage.json").write_text(json.dumps({"base": {"digest": folder_digest(paths.BASE)}}))
    (folder / "README.md").write_text("# A card\n")
    return folder
