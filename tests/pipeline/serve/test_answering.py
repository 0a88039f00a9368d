"""The answers to a batch: each request's own, whatever stands beside it."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.params import Params
from pipeline.predict import predict
from pipeline.serve.answering import Answer, Question
from pipeline.serve.loader import Loader, Served
from pipeline.serve.protocol import Completion
from pipeline.serve.reader import read
from tests.conftest import Checkout
from tests.pipeline.serve.conftest import LIMITS


def asked(loader: Loader, task: str, *prompts: str, **fields: object) -> Question:
    completion = Completion.model_validate({"task": task, "prompt": list(prompts), **fields})
    return read(loader.tokenizer(), completion, LIMITS)


def alone(served: Served, question: Question) -> list[Answer]:
    return served.answerer.answer([question])[0]


def texts(answers: list[Answer]) -> list[str]:
    return [answer.text for answer in answers]


def test_a_mixed_batch_gives_what_each_request_gets_alone(loader: Loader, served: Served) -> None:
    questions = [
        asked(loader, "rqe", "gout", "A much longer prompt than that"),
        asked(loader, "ner", "gout", max_tokens=3),
        asked(loader, "ner", "gout", choices=["yes", "no", "maybe so"]),
        asked(loader, "ner", "gout", max_tokens=11),
    ]
    together = served.answerer.answer(questions)
    for found, question in zip(together, questions, strict=True):
        wanted = alone(served, question)
        assert texts(found) == texts(wanted)
        assert [each.tokens for each in found] == [each.tokens for each in wanted]
    assert texts(together[0])[0] != texts(together[3])[0]  # tasks differ


def test_answers_are_those_of_predict(
    loader: Loader, served: Served, release: Path, checkout: Checkout
) -> None:
    checkout.params(evaluate__max_new_tokens=12)
    assert Params.load().evaluate.max_new_tokens == LIMITS.max_tokens
    assert texts(alone(served, asked(loader, "ner", "gout"))) == [predict(release, "ner", "gout")]
    choices = ["yes", "no"]
    found = alone(served, asked(loader, "rqe", "gout", choices=choices))
    assert texts(found) == [predict(release, "rqe", "gout", choices)]


def test_an_answer_of_fewer_tokens_is_the_beginning_of_a_longer_one(loader: Loader, served: Served) -> None:
    question = asked(loader, "ner", "gout")
    (longer,) = alone(served, question)
    # Of one size (see `answer`), so that both come from one generation.
    short, full = served.answerer.answer([replace(question, max_tokens=9), question])
    assert (short[0].tokens, short[0].finish_reason) == (9, "length")
    assert longer.tokens == 12
    assert full == [longer]
    assert longer.text.startswith(short[0].text)


def test_a_stop_ends_the_text_before_it(loader: Loader, served: Served) -> None:
    (whole,) = alone(served, asked(loader, "ner", "gout"))
    end = whole.text[4]
    (cut,) = alone(served, asked(loader, "ner", "gout", stop=["unheard of", end]))
    assert cut.text == whole.text[: whole.text.index(end)]
    assert cut.finish_reason == "stop"


def test_choices_are_scored_and_the_likeliest_is_given(loader: Loader, served: Served) -> None:
    choices = ["yes", "no", "perhaps"]
    (found,) = alone(served, asked(loader, "rqe", "gout", choices=choices))
    assert found.scores is not None
    assert found.text == choices[found.scores.index(max(found.scores))]
    assert found.tokens == len(found.text)  # the tiny model's tokens are bytes
    (other,) = alone(served, asked(loader, "ner", "gout", choices=choices))
    assert found.scores != pytest.approx(other.scores)
