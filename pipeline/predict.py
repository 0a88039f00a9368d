"""One answer from a pulled release: what the evaluation does, for a single input.

>>> predict(registry.pull(release), "rqe", "Does A entail B? …", choices=["true", "false"])
'true'
"""

from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import InputError
from pipeline.params import Params
from pipeline.paths import RELEASE_NATIVE


def predict(folder: Path, task: str, text: str, choices: Sequence[str] | None = None) -> str:
    """The adapter's answer to ``text``: the likeliest of ``choices``, or greedy text.

    ``folder``: a verified release. The base model and limits are those of params.yaml. Raises
    InputError that names the known tasks where ``task`` is none of them, and where the release was
    trained on another base model than models/base.
    """
    from pipeline import base
    from pipeline.evaluate.answers import answer, question
    from pipeline.evaluate.lineage import has_this_base
    from pipeline.evaluate.system import System
    from pipeline.moelora import saving

    if not has_this_base(folder):
        raise InputError(
            "this release was trained on another base model than models/base: set the `base` of its "
            "lineage.json in params.yaml, then moelora base"
        )
    params = Params.load()
    model, tokenizer = base.load(params.compute)
    adapter = saving.load(model, folder / RELEASE_NATIVE.name)
    adapter.weights(task)  # an unknown task ends here, before anything is computed
    kind = "classification" if choices else "response_generation"
    asked = question(tokenizer, task, kind, text, choices, params.evaluate.max_tokens)
    system = System(model, tokenizer, adapter.tasks)
    limits = params.evaluate
    return answer(system, [asked], limits.max_new_tokens, limits.batch_tokens)[0]
