"""From a request's texts to the token ids of a Question, or a refusal that names the limit."""

from collections.abc import Sequence
from typing import Any

from pipeline.prompts import encode
from pipeline.serve.answering import Question
from pipeline.serve.limits import Limits
from pipeline.serve.loader import Served
from pipeline.serve.protocol import Completion, Refused


def check(asked: Completion, served: Served, channel: str, limits: Limits) -> None:
    """Raise Refused with 404 where another release or an unknown task is asked for, 400 where more
    is than ``limits`` allow."""
    known = (channel, served.release)
    if asked.model is not None and asked.model not in known:
        raise Refused(404, "model_not_found", f"this server answers as {' and '.join(known)} only", "model")
    if asked.task not in served.tasks:
        raise Refused(
            404,
            "task_not_found",
            f"release {served.release} does not know this task: it knows {', '.join(served.tasks)}",
            "task",
        )
    if len(asked.prompts) > limits.prompts:
        raise _too_many("prompt", len(asked.prompts), limits.prompts, "prompts")
    if asked.max_tokens is not None and asked.max_tokens > limits.max_tokens:
        raise _too_many("max_tokens", asked.max_tokens, limits.max_tokens, "tokens of an answer")


def read(tokenizer: Any, asked: Completion, limits: Limits) -> Question:
    """The question as the model reads it: what training and evaluation made of the same texts.

    Raises Refused with 400 where a text has too many tokens.
    """
    choices = None
    if asked.choices:
        ids = [encode(tokenizer, "", choice, limits.prompt_tokens) for choice in asked.choices]
        if any(each.cut for each in ids):
            raise Refused(
                400, "context_length_exceeded", _beyond("a choice", limits.prompt_tokens), "choices"
            )
        choices = {
            choice: each.ids[each.answer_start :] for choice, each in zip(asked.choices, ids, strict=True)
        }
    prompts = _prompts(tokenizer, asked.prompts, limits.prompt_tokens)
    tokens = sum(map(len, prompts)) + len(prompts) * sum(map(len, (choices or {}).values()))
    if tokens > (most := limits.tokens):
        raise _too_many("choices", tokens, most, "tokens of prompts, each with its choices,")
    return Question(
        task=asked.task,
        prompts=prompts,
        max_tokens=asked.max_tokens or limits.max_tokens,
        stops=asked.stops,
        choices=choices,
    )


def _prompts(tokenizer: Any, texts: Sequence[str], most: int) -> list[list[int]]:
    prompts = [encode(tokenizer, text, None, most) for text in texts]
    if any(prompt.cut for prompt in prompts):
        raise Refused(400, "context_length_exceeded", _beyond("a prompt", most), "prompt")
    return [prompt.ids for prompt in prompts]


def _beyond(what: str, most: int) -> str:
    return f"{what} has more than the {most} tokens that this server reads"


def _too_many(param: str, found: int, most: int, what: str) -> Refused:
    return Refused(400, "too_many", f"{param}: {found} {what}, {most} are allowed", param)
