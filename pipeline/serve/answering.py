"""The answers to one batch of requests, of any tasks, by evaluate's own generate and choose."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.evaluate.generate import generate
from pipeline.evaluate.likelihood import log_likelihoods
from pipeline.evaluate.system import Router, System


@dataclass(frozen=True)
class Question:
    """A request as the model reads it."""

    task: str
    prompts: list[list[int]]  # token ids of each
    max_tokens: int
    stops: list[str] = field(default_factory=list)
    choices: dict[str, list[int]] | None = None  # token ids of each possible answer, its end included


@dataclass(frozen=True)
class Answer:
    """The answer to one prompt."""

    text: str
    finish_reason: Literal["stop", "length"]
    tokens: int  # of the answer, without its end
    scores: list[float] | None = None  # log-likelihood of each choice in nats, in their order


class TokenIds:
    """In the place of a System's tokenizer: ``generate`` then gives token ids, in decimal digits.

    A batch answers each of its requests with the longest one's ``max_tokens``; greedy answers are
    cut afterwards, and only tokens can be cut and counted exactly.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.eos_token_id = tokenizer.eos_token_id

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        return " ".join(map(str, ids))


class Answerer:
    """A model with a tokenizer that answers batches; for the thread that owns the model only.

    ``batch_tokens``: prompt tokens computed at once, see ``generate``.
    """

    def __init__(self, model: Any, tokenizer: Any, router: Router, batch_tokens: int) -> None:
        self.tokenizer = tokenizer
        self._system = System(model, TokenIds(tokenizer), router)
        self._batch_tokens = batch_tokens

    def answer(self, questions: Sequence[Question]) -> list[list[Answer]]:
        """The answers to the prompts of each question."""
        answers: list[list[Answer]] = [[] for _ in questions]
        closed = [i for i, question in enumerate(questions) if question.choices]
        for i, found in zip(closed, self._chosen([questions[i] for i in closed]), strict=True):
            answers[i] = found
        # Those that want few tokens do not grow as long as those that want many.
        sizes = {i: q.max_tokens.bit_length() for i, q in enumerate(questions) if not q.choices}
        for size in sorted(set(sizes.values())):
            opened = [i for i in sizes if sizes[i] == size]
            for i, found in zip(opened, self._written([questions[i] for i in opened]), strict=True):
                answers[i] = found
        return answers

    def _chosen(self, questions: list[Question]) -> list[list[Answer]]:
        prompts, tasks, owners = _prompts(questions)
        choices = [list((questions[owner].choices or {}).values()) for owner in owners]
        scores = log_likelihoods(self._system, prompts, tasks, choices, self._batch_tokens)
        answers: list[list[Answer]] = [[] for _ in questions]
        for owner, found in zip(owners, scores, strict=True):
            given = questions[owner].choices or {}
            best = max(range(len(found)), key=found.__getitem__)
            text = list(given)[best]
            answers[owner].append(Answer(text, "stop", len(given[text]) - 1, found))
        return answers

    def _written(self, questions: list[Question]) -> list[list[Answer]]:
        prompts, tasks, owners = _prompts(questions)
        longest = max(question.max_tokens for question in questions)
        texts = generate(self._system, prompts, tasks, longest, self._batch_tokens)
        answers: list[list[Answer]] = [[] for _ in questions]
        for owner, ids in zip(owners, texts, strict=True):
            answers[owner].append(self._ended([int(each) for each in ids.split()], questions[owner]))
        return answers

    def _ended(self, ids: list[int], question: Question) -> Answer:
        kept = ids[: question.max_tokens]
        text = str(self.tokenizer.decode(kept, skip_special_tokens=True)).strip()
        ends = [place for place in map(text.find, question.stops) if place >= 0]
        if ends:
            return Answer(text[: min(ends)], "stop", len(kept))
        return Answer(text, "length" if len(kept) == question.max_tokens else "stop", len(kept))


def _prompts(questions: Sequence[Question]) -> tuple[list[list[int]], list[str], list[int]]:
    """All prompts, their tasks, and the question that each belongs to."""
    owners = [i for i, question in enumerate(questions) for _ in question.prompts]
    prompts = [prompt for question in questions for prompt in question.prompts]
    return prompts, [questions[owner].task for owner in owners], owners
