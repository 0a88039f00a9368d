"""Test rows as questions, and a system's answers to them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.evaluate.generate import generate
from pipeline.evaluate.likelihood import log_likelihoods
from pipeline.evaluate.system import Done, System, unwatched
from pipeline.prompts import encode
from pipeline.records import CHOICE_TASK_TYPES


@dataclass(frozen=True)
class Question:
    """A prompt's token ids; ``choices`` with theirs, where the answer is one of a few."""

    task: str
    prompt: list[int]
    choices: dict[str, list[int]] | None


@dataclass(frozen=True)
class Answer:
    """What a system answers; of a choice with its probability among the choices."""

    text: str
    confidence: float | None = None


def question(
    tokenizer: Any, task: str, task_type: str, text: str, choices: Sequence[str] | None, max_tokens: int
) -> Question:
    """``text`` as the model reads it; ``choices`` count for CHOICE_TASK_TYPES only, since those
    of other types are the labels that an answer may use."""
    prompt = encode(tokenizer, text, None, max_tokens).ids
    if task_type not in CHOICE_TASK_TYPES or not choices:
        return Question(task, prompt, None)
    return Question(task, prompt, {choice: answer_ids(tokenizer, choice, max_tokens) for choice in choices})


def answer_ids(tokenizer: Any, answer: str, max_tokens: int) -> list[int]:
    """Token ids of an answer and its end, the same after every prompt."""
    encoded = encode(tokenizer, "", answer, max_tokens)
    return encoded.ids[encoded.answer_start :]


def answer(
    system: System,
    questions: Sequence[Question],
    max_new_tokens: int,
    batch_tokens: int,
    done: Done = unwatched,
) -> list[Answer]:
    """The system's answer to each question, in order: the likeliest choice, or greedy text."""
    answers = [Answer("")] * len(questions)
    closed = [i for i, question in enumerate(questions) if question.choices]
    opened = [i for i, question in enumerate(questions) if not question.choices]
    scores = log_likelihoods(
        system,
        [questions[i].prompt for i in closed],
        [questions[i].task for i in closed],
        [list((questions[i].choices or {}).values()) for i in closed],
        batch_tokens,
        done,
    )
    for i, row in zip(closed, scores, strict=True):
        answers[i] = likeliest(list(questions[i].choices or {}), row)
    texts = generate(
        system,
        [questions[i].prompt for i in opened],
        [questions[i].task for i in opened],
        max_new_tokens,
        batch_tokens,
        done,
    )
    for i, text in zip(opened, texts, strict=True):
        answers[i] = Answer(text)
    return answers


def likeliest(choices: Sequence[str], scores: Sequence[float]) -> Answer:
    """The choice of the highest log-likelihood, the first of equals, with its softmax over all."""
    best = max(range(len(scores)), key=scores.__getitem__)
    return Answer(choices[best], 1 / math.fsum(math.exp(score - scores[best]) for score in scores))
