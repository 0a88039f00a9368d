"""dvc.lock by stage: what DVC noted of one, and to note what another worker made.

Digests only. DVC itself compares them with the files before it takes anything for up to date.
"""

import json
from typing import Any

import yaml

from pipeline import paths
from pipeline.errors import PipelineError


def entry(stage: str) -> dict[str, Any]:
    """What dvc.lock says of a stage. Raises PipelineError where it says nothing."""
    try:
        found: dict[str, Any] = yaml.safe_load(paths.DVC_LOCK.read_text())["stages"][stage]
    except (FileNotFoundError, KeyError):
        raise PipelineError(f"{paths.DVC_LOCK} says nothing of {stage}: run it first") from None
    return found


def adopt(made: dict[str, dict[str, Any]]) -> None:
    """Write what another worker's DVC noted of stages, by stage, in DVC's own layout."""
    # DVC's writer is ruamel.yaml with these settings; another layout would be another dvc.lock.
    from ruamel.yaml import YAML

    writer = YAML()
    writer.default_flow_style = False
    lock = writer.load(paths.DVC_LOCK)
    lock["stages"].update(made)
    temporary = paths.DVC_LOCK.with_name(f".{paths.DVC_LOCK.name}")
    with temporary.open("w", encoding="utf-8") as file:
        writer.dump(lock, file)
    temporary.replace(paths.DVC_LOCK)


def read_handed_back(markdown: str) -> dict[str, Any]:
    """The entry in an artifact of gpu-stage. Raises PipelineError where it holds something else."""
    try:
        made = json.loads(markdown.removeprefix("```json\n").removesuffix("\n```"))
        if {"cmd", "outs"} <= made.keys():
            return dict(made)
    except (ValueError, AttributeError):
        pass
    raise PipelineError("what the GPU worker handed back is no entry of dvc.lock: run the retraining again")
