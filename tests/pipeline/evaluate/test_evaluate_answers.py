"""Batched answers are those of one row at a time."""

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import base
from pipeline.errors import InputError, Stopped
from pipeline.evaluate.answers import Answer, Question, answer, answer_ids, likeliest, question
from pipeline.evaluate.generate import generate
from pipeline.evaluate.likelihood import log_likelihoods
from pipeline.evaluate.system import Bare, System, batches
from pipeline.moelora import MoeLora
from pipeline.params import Params
from tests.conftest import ROOT
from tests.pipeline.evaluate.conftest import TASKS, make_adapter
from tests.pipeline.moelora.conftest import ARCHITECTURES
from tests.pipeline.moelora.conftest import tiny as tiny_model

Tiny = tuple[MoeLora, Any]
SLIDING = ("qwen2", "gemma3", "mistral", "phi3", "phimoe")


def prompts(count: int, longest: int = 40) -> list[list[int]]:
    random_ids = random.Random(5)
    return [
        [random_ids.randrange(2, 250) for _ in range(random_ids.randrange(1, longest))] for _ in range(count)
    ]


def systems(tiny: Tiny) -> list[System]:
    adapter, tokenizer = tiny
    return [
        System(adapter.model, tokenizer, adapter),
        System(adapter.model, tokenizer, Bare(adapter)),
    ]


@contextmanager
def own_attention(system: System) -> Iterator[None]:
    """The model as it was before the system packed its rows."""
    system.model.set_attn_implementation("sdpa")
    yield
    system.model.set_attn_implementation("packed")


def one_by_one(system: System, prompt: list[int], task: str, new: int) -> str:
    """transformers' own greedy generation of a single row."""
    with own_attention(system), system.router.tasks([task]):
        ids = system.model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=new,
        )
    answered = [token for token in ids[0, len(prompt) :].tolist() if token not in system.stops]
    text: str = system.tokenizer.decode(answered, skip_special_tokens=True)
    return text.strip()


@pytest.mark.parametrize("batch_tokens", [1, 90, 10_000])
def test_generation_in_mixed_batches_is_that_of_single_rows(tiny: Tiny, batch_tokens: int) -> None:
    given = prompts(12)
    tasks = [TASKS[i % 3] for i in range(12)]
    found = {}
    for name, system in zip(("candidate", "base"), systems(tiny), strict=True):
        found[name] = generate(system, given, tasks, 12, batch_tokens)
        expected = [one_by_one(system, p, t, 12) for p, t in zip(given, tasks, strict=True)]
        assert found[name] == expected
    assert found["candidate"] != found["base"]


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "mpt"])
def test_every_architecture_answers_as_row_by_row(tiny: Tiny, architecture: str) -> None:
    """MPT's attention is biased by distance, which rows in one cache have no common measure of."""
    model = tiny_model(architecture)
    system = System(model, tiny[1], make_adapter(model))
    assert system.packs == (architecture not in ("mpt", *SLIDING))
    given = [[token % 90 + 2 for token in prompt] for prompt in prompts(9)]
    tasks = [TASKS[i % 3] for i in range(9)]
    together = generate(system, given, tasks, 10, 10_000)
    alone = [generate(system, [p], [t], 10, 10_000)[0] for p, t in zip(given, tasks, strict=True)]
    assert together == alone
    if system.packs:
        assert together == [one_by_one(system, p, t, 10) for p, t in zip(given, tasks, strict=True)]


@pytest.mark.gpu
def test_a_gpu_answers_as_the_processor(base_folder: Path) -> None:
    found = []
    for device in ("cpu", "cuda"):
        compute = Params.load(ROOT / "params.yaml").compute.model_copy(update={"device": device})
        model, tokenizer = base.load(compute, base_folder)
        system = System(model, tokenizer, make_adapter(model))
        tasks = [TASKS[i % 3] for i in range(12)]
        scores = log_likelihoods(system, prompts(12), tasks, [[p[:3], p[:1]] for p in prompts(12)], 100)
        found.append((generate(system, prompts(12), tasks, 12, 10_000), scores))
    assert found[0][0] == found[1][0]
    for one, other in zip(found[0][1], found[1][1], strict=True):
        assert other == pytest.approx(one, abs=1e-3)


def test_products_in_bfloat16_leave_the_likelihoods_near(base_folder: Path) -> None:
    found = []
    for dtype in ("float32", "bfloat16"):
        compute = Params.load(ROOT / "params.yaml").compute.model_copy(update={"dtype": dtype})
        model, tokenizer = base.load(compute, base_folder)
        system = System(model, tokenizer, make_adapter(model))
        answers = [[prompt[:3]] for prompt in prompts(6)]
        found.append(log_likelihoods(system, prompts(6), [TASKS[i % 3] for i in range(6)], answers, 100))
    assert found[0] != found[1]
    for one, other in zip(*found, strict=True):
        assert other == pytest.approx(one, rel=0.03)


def test_answers_end_at_an_end_token_whatever_the_other_rows_do(tiny: Tiny, monkeypatch: Any) -> None:
    """Any token may be made the end: rows then leave the batch at different steps."""
    system = systems(tiny)[0]
    given, tasks = prompts(8), [TASKS[i % 3] for i in range(8)]
    monkeypatch.setattr(system.model.generation_config, "eos_token_id", list(range(0, 258, 5)))
    together = generate(system, given, tasks, 20, 10_000)
    assert together == [one_by_one(system, p, t, 20) for p, t in zip(given, tasks, strict=True)]
    assert len({len(text) for text in together}) > 2


def test_the_tasks_of_a_batch_matter(tiny: Tiny) -> None:
    system = systems(tiny)[0]
    given = prompts(1) * 3
    assert len(set(generate(system, given, list(TASKS), 12, 1000))) > 1


def by_full_passes(system: System, prompt: list[int], task: str, choice: list[int]) -> float:
    with torch.inference_mode(), own_attention(system), system.router.tasks([task]):
        logits = system.model(torch.tensor([prompt + choice])).logits[0].log_softmax(-1)
    places = range(len(prompt) - 1, len(prompt) + len(choice) - 1)
    return sum(float(logits[place, token]) for place, token in zip(places, choice, strict=True))


@pytest.mark.parametrize("batch_tokens", [1, 60, 10_000])
def test_choices_score_as_by_a_full_pass_each(tiny: Tiny, batch_tokens: int) -> None:
    random_ids = random.Random(6)
    given, tasks = prompts(9), [TASKS[i % 3] for i in range(9)]
    choices = [
        [[random_ids.randrange(2, 250) for _ in range(random_ids.randrange(1, 9))] for _ in range(1 + i % 5)]
        for i in range(9)
    ]
    for system in systems(tiny):
        expected = [
            [by_full_passes(system, p, t, choice) for choice in row]
            for p, t, row in zip(given, tasks, choices, strict=True)
        ]
        found = log_likelihoods(system, given, tasks, choices, batch_tokens)
        for row, wanted in zip(found, expected, strict=True):
            assert row == pytest.approx(wanted, abs=1e-3)
        assert [row.index(max(row)) for row in found] == [row.index(max(row)) for row in expected]


def test_of_equal_choices_the_first_is_the_answer(tiny: Tiny) -> None:
    question = Question("rqe", [5, 6], {"no": [7, 1], "yes": [7, 1]})
    assert answer(systems(tiny)[0], [question], 8, 100) == [Answer("no", 0.5)]


def test_batches_hold_every_row_once_longest_first_within_the_budget() -> None:
    lengths = [3, 50, 7, 7, 120, 1, 30]
    found = list(batches(lengths, 60))
    assert sorted(i for batch in found for i in batch) == list(range(7))
    assert found[0] == [4]  # longer than the budget: alone
    sizes = [[lengths[i] for i in batch] for batch in found]
    assert all(len(b) == 1 or sum(b) <= 60 for b in sizes)
    assert len(found) == 3
    assert list(batches([], 60)) == []


def test_questions_have_choices_only_where_the_answer_is_one(tiny: Tiny) -> None:
    _, tokenizer = tiny
    closed = question(tokenizer, "rqe", "nli", "A? B?", ["true", "false"], 64)
    assert closed.choices == {
        "true": answer_ids(tokenizer, "true", 64),
        "false": answer_ids(tokenizer, "false", 64),
    }
    assert closed.choices["true"][-1] == tokenizer.eos_token_id
    assert question(tokenizer, "ner", "ner", "x", ["Disease"], 64).choices is None
    assert question(tokenizer, "rqe", "nli", "x", None, 64).choices is None


def test_answers_come_back_in_the_order_of_the_questions(tiny: Tiny) -> None:
    system = systems(tiny)[0]
    tokenizer = system.tokenizer
    asked = [
        question(tokenizer, "summary", "summarization", "a long story " * 3, None, 64),
        question(tokenizer, "rqe", "nli", "A? B?", ["true", "false"], 64),
        question(tokenizer, "ner", "ner", "gout", ["Disease"], 64),
        question(tokenizer, "rqe", "nli", "C?", ["yes", "no", "maybe"], 64),
    ]
    counted: list[int] = []
    together = answer(system, asked, 6, 1000, counted.append)
    alone = [answer(system, [one], 6, 1000)[0] for one in asked]
    assert [each.text for each in together] == [each.text for each in alone]
    assert together[3].confidence == pytest.approx(alone[3].confidence, abs=1e-4)
    assert together[1].text in ("true", "false")
    assert together[3].text in ("yes", "no", "maybe")
    assert 1 / 3 <= together[3].confidence <= 1  # type: ignore[operator]
    assert together[0].confidence is together[2].confidence is None
    assert sum(counted) == 4
    assert answer(system, [], 6, 1000) == []


def test_the_likeliest_choice_comes_with_its_probability() -> None:
    found = likeliest(["a", "b", "c"], [math.log(0.02), math.log(0.06), math.log(0.04)])
    assert found.text == "b"
    assert found.confidence == pytest.approx(0.5)
    assert likeliest(["a", "b"], [-3.0, -3.0]) == Answer("a", 0.5)
    assert likeliest(["a", "b"], [-2000.0, -1.0]) == Answer("b", 1.0)


def test_a_stop_between_batches_is_passed_on(tiny: Tiny) -> None:
    def stop(_rows: int) -> None:
        raise Stopped("now")

    with pytest.raises(Stopped):
        answer(systems(tiny)[0], [Question("rqe", [5, 6], None)], 3, 100, stop)


def test_an_unknown_task_is_named_with_those_known(tiny: Tiny) -> None:
    with pytest.raises(InputError, match=r"'gout'.*ner, rqe, summary"):
        generate(systems(tiny)[0], [[5]], ["gout"], 3, 100)
