"""From a record's input and target to token ids.

Where the tokenizer has a chat template, the input is the user's message and the target the
assistant's; a system message that the template would add by itself (SmolLM2 introduces
itself, Llama 3 writes today's date) is left out: it costs tokens, tells the model nothing
about the task, and a date would change the bytes from day to day. Without a template the
prompt is ``input + "\\n"``.

Names of special tokens inside a record are plain text.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

Tokenizer = Any
"""A tokenizer of transformers (PreTrainedTokenizerFast)."""

_INPUTS = ("\u27e8first input\u27e9", "\u27e8second input\u27e9")
_TARGET = "\u27e8first target\u27e9"


@dataclass(frozen=True)
class Prompt:
    """Token ids of a prompt, and of the answer after it where there is one."""

    ids: list[int]
    answer_start: int
    """Index of the answer's first token; ``len(ids)`` where there is none."""
    cut: bool
    """Whether tokens were left out."""


def encode(tokenizer: Tokenizer, input: str, target: str | None, max_tokens: int) -> Prompt:  # noqa: A002
    """Prompt of at most ``max_tokens`` tokens, then the target's tokens and the end-of-sequence token.

    A longer input loses its middle, so that the instruction at its head and the options and
    answer cue at its tail stay. A target of more than ``max_tokens`` tokens loses its tail and
    gets no end.
    """
    before, after = _turn(tokenizer)
    ids = _ids(tokenizer, input)
    room = max(max_tokens - len(before) - len(after), 2)
    cut = len(ids) > room
    if cut:
        ids = ids[: room // 2] + ids[room // 2 - room :]
    ids = [*before, *ids, *after]
    if target is None:
        return Prompt(ids, len(ids), cut)
    answer = [*_ids(tokenizer, target), tokenizer.eos_token_id]
    return Prompt(ids + answer[:max_tokens], len(ids), cut or len(answer) > max_tokens)


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
    return ids


@lru_cache(maxsize=8)
def _turn(tokenizer: Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Token ids that stand before and after the input."""
    if tokenizer.chat_template:
        before, after = _chat_turn(tokenizer)
    else:
        before, after = _beginning(tokenizer, ""), "\n"
    return tuple(
        tuple(tokenizer(text, add_special_tokens=False).input_ids) if text else () for text in (before, after)
    )  # type: ignore[return-value]


def _chat_turn(tokenizer: Tokenizer) -> tuple[str, str]:
    """What the chat template writes before a user's message and after it, up to the answer.

    Read from the *second* user message of a conversation, since a template may add a system
    message before the first.
    """

    def render(*contents: str, answer_next: bool) -> str:
        roles = ("user", "assistant", "user")
        messages = [{"role": r, "content": c} for r, c in zip(roles, contents, strict=False)]
        # enable_thinking: templates of reasoning models then open the answer itself.
        text: str = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=answer_next, enable_thinking=False
        )
        return text

    one, two = _INPUTS
    answered = render(one, _TARGET, answer_next=False)
    asked_again = render(one, _TARGET, two, answer_next=True)
    end_of_answer = answered.split(_TARGET)[-1]
    between, after = asked_again.split(_TARGET)[-1].split(two)
    if between.startswith(end_of_answer):
        before = between.removeprefix(end_of_answer)
        return _beginning(tokenizer, before) + before, after
    # The template treats the last answer differently: take the first message as it comes.
    before, after = render(one, answer_next=True).split(one)
    return before, after


def _beginning(tokenizer: Tokenizer, before: str) -> str:
    """The beginning-of-sequence token, where the tokenizer puts one and ``before`` has none."""
    ids = tokenizer("").input_ids
    starts = bool(ids) and ids[0] == tokenizer.bos_token_id
    if tokenizer.chat_template and tokenizer.bos_token:
        conversation = tokenizer.apply_chat_template([{"role": "user", "content": ""}], tokenize=False)
        starts = conversation.startswith(tokenizer.bos_token)
    return tokenizer.bos_token if starts and not before.startswith(tokenizer.bos_token) else ""
