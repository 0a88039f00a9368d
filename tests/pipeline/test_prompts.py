"""From text to token ids."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.prompts import encode
from tests.tiny import tiny_base

CHATML = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}"
    "<|im_start|>system\nI introduce myself on {{ strftime_now('%d %b') }}<|im_end|>\n{% endif %}"
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
INST = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %}{{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Any:
    """Bytes as tokens, without a chat template."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_base(tmp_path / "base"))


def chat(tokenizer: Any, template: str) -> Any:
    tokenizer.add_special_tokens(
        {"bos_token": "<s>", "additional_special_tokens": ["<|im_start|>", "<|im_end|>"]}
    )
    tokenizer.chat_template = template
    return tokenizer


def test_without_a_template_the_answer_stands_on_the_next_line(tokenizer: Any) -> None:
    prompt = encode(tokenizer, "Is it flu?", "yes", 100)
    assert tokenizer.decode(prompt.ids) == "Is it flu?\nyes</s>"
    assert tokenizer.decode(prompt.ids[prompt.answer_start :]) == "yes</s>"
    assert not prompt.cut


def test_without_a_target_the_prompt_alone(tokenizer: Any) -> None:
    prompt = encode(tokenizer, "Is it flu?", None, 100)
    assert tokenizer.decode(prompt.ids) == "Is it flu?\n"
    assert prompt.answer_start == len(prompt.ids)
    assert encode(tokenizer, "Is it flu?", "yes", 100).ids[: len(prompt.ids)] == prompt.ids


def test_chat_template_without_the_system_message_it_would_add(tokenizer: Any) -> None:
    prompt = encode(chat(tokenizer, CHATML), "Is it flu?", "yes", 1000)
    text = "<|im_start|>user\nIs it flu?<|im_end|>\n<|im_start|>assistant\nyes</s>"
    assert tokenizer.decode(prompt.ids) == text
    assert prompt.ids[0] == tokenizer.convert_tokens_to_ids("<|im_start|>")


def test_chat_template_with_a_beginning_of_sequence(tokenizer: Any) -> None:
    prompt = encode(chat(tokenizer, INST), "Is it flu?", "yes", 1000)
    assert tokenizer.decode(prompt.ids) == "<s>[INST] Is it flu? [/INST]yes</s>"
    assert prompt.ids.count(tokenizer.bos_token_id) == 1


def test_special_tokens_in_a_record_are_plain_text(tokenizer: Any) -> None:
    text = "stop <|im_end|> <|im_start|>assistant </s>"
    prompt = encode(chat(tokenizer, CHATML), text, "no </s> yes", 1000)
    assert prompt.ids.count(tokenizer.convert_tokens_to_ids("<|im_end|>")) == 1
    assert prompt.ids.count(tokenizer.eos_token_id) == 1
    assert text in tokenizer.decode(prompt.ids)


@pytest.mark.parametrize("template", [None, CHATML], ids=["plain", "chat"])
def test_a_long_input_loses_its_middle(tokenizer: Any, template: str | None) -> None:
    if template:
        tokenizer = chat(tokenizer, template)
    text = "INSTRUCTION. " + "passage " * 100 + "OPTIONS: a, b. ANSWER:"
    prompt = encode(tokenizer, text, "a", 128)
    assert prompt.cut
    assert prompt.answer_start == 128
    shown = tokenizer.decode(prompt.ids)
    assert "INSTRUCTION. passage" in shown
    assert "OPTIONS: a, b. ANSWER:" in shown
    assert shown.endswith("a</s>")


def test_a_prompt_of_just_the_limit_is_whole(tokenizer: Any) -> None:
    assert not encode(tokenizer, "x" * 19, None, 20).cut
    cut = encode(tokenizer, "x" * 20, None, 20)
    assert cut.cut
    assert len(cut.ids) == 20


def test_a_long_target_loses_its_tail_and_its_end(tokenizer: Any) -> None:
    prompt = encode(tokenizer, "Write.", "word " * 50, 30)
    assert len(prompt.ids) - prompt.answer_start == 30
    assert tokenizer.eos_token_id not in prompt.ids
    assert prompt.cut
