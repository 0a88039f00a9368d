"""One answer from a pulled release: what the evaluation does, for a single input.

>>> predict(registry.pull(release), "rqe", "Does A entail B? …", choices=["true", "false"])
'true'
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pipeline.errors import InputError
from pipeline.params import Params
from pipeline.paths import RELEASE_NATIVE


def predict(
    folder: Path,
    task: str,
    text: str,
    choices: Sequence[str] | None = None,
    task_fallback: Literal["mean"] | None = None,
) -> str:
    """The adapter's answer to ``text``: the likeliest of ``choices``, or greedy text.

    ``folder``: a verified release. The base model and limits are those of params.yaml. With
    ``task_fallback`` a task that the release does not know is answered with the mean embedding of
    all it knows; without, it is an InputError that names them. InputError, too, where the release
    was trained on another base model than models/base.
    """
    from pipeline import base
    from pipeline.evaluate.answers import answer, question
    from pipeline.evaluate.system import Always, System
    from pipeline.moelora import saving
    from pipeline.moelora.model import Task
    from pipeline.release_folder import check_base

    check_base(folder)
    params = Params.load()
    model, tokenizer = base.load(params.compute)
    adapter = saving.load(model, folder / RELEASE_NATIVE.name)
    known = adapter.config.tasks
    if task not in known and task_fallback is None:
        raise InputError(
            f"the release knows no task {task!r}: it knows {', '.join(sorted(known))}. "
            "`--task-fallback mean` answers with the mean of their embeddings"
        )
    routed: Task = task if task in known else known
    kind = "classification" if choices else "response_generation"
    asked = question(tokenizer, task, kind, text, choices, params.evaluate.max_tokens)
    system = System(model, tokenizer, Always(adapter, routed))
    limits = params.evaluate
    return answer(system, [asked], limits.max_new_tokens, limits.batch_tokens)[0].text
