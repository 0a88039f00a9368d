"""Verbatim extraction: does the adapter go on with a training row by heart?

Training takes its loss over answers alone, so answers are the text that can be memorised; nothing
is ever learnt that continues an input. The attack on an answer is that of Carlini et al.
(Quantifying Memorization Across Neural Language Models, ICLR 2023): the model is given what comes
before, here the whole input and the first half of the answer, at most PREFIX tokens, and goes on
greedily. The row is extracted where it writes the answer's next CONTINUATION tokens, or all that
are left. Choices are no text, and answers under SHORTEST characters are phrases, so both stay out.

A continuation may also be right because it follows from the input: the task is then learnt, not the
row. Two controls tell these apart. What the bare base completes as well does not count; and the
candidate is asked the same of as many rows of the same tasks that it never saw. Its skill completes
as many of these, so only the surplus on training rows is memory (Fisher's exact test, one-sided).
A comparison with the base alone would block every adapter that learns to write a fixed form.
"""

from typing import Any

import polars as pl

from pipeline.evaluate.generate import generate
from pipeline.evaluate.system import Done, System, unwatched
from pipeline.params import Evaluate
from pipeline.prompts import encode
from pipeline.records import CHOICE_TASK_TYPES

PREFIX, CONTINUATION = 50, 50
"""Tokens of the answer that are given and that are waited for, at most."""

SHORTEST = 40
"""Characters of an answer that can be extracted, at least."""


def extractable(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows whose answer is a text of some length."""
    text = ~pl.col("task_type").is_in(CHOICE_TASK_TYPES)
    return rows.filter(text & (pl.col("target").str.len_chars() >= SHORTEST))


def measure(
    candidate: System,
    bare: System,
    seen: pl.DataFrame,
    unseen: pl.DataFrame,
    params: Evaluate,
    done: Done = unwatched,
) -> dict[str, Any]:
    """Counts of rows, seen ones and as many unseen; no text.

    ``completed, unseen_completed``: by the candidate. ``by_base, unseen_by_base``: those of them
    that the bare base completes too. ``p``: one-sided, for more of the rest among those seen.
    """
    counts = [_count(candidate, bare, rows, params, done) for rows in (seen, unseen)]
    (completed, by_base), (unseen_completed, unseen_by_base) = counts
    return {
        "rows": len(seen),
        "unseen_rows": len(unseen),
        "completed": completed,
        "by_base": by_base,
        "unseen_completed": unseen_completed,
        "unseen_by_base": unseen_by_base,
        "p": surplus_test(completed - by_base, len(seen), unseen_completed - unseen_by_base, len(unseen)),
    }


def surplus_test(extracted: int, rows: int, unseen_extracted: int, unseen_rows: int) -> float:
    """One-sided Fisher p for "a larger share of the first rows was extracted"."""
    from scipy.stats import fisher_exact

    table = [[extracted, rows - extracted], [unseen_extracted, unseen_rows - unseen_extracted]]
    return float(fisher_exact(table, alternative="greater").pvalue)


def _count(
    candidate: System, bare: System, rows: pl.DataFrame, params: Evaluate, done: Done
) -> tuple[int, int]:
    """Rows that the candidate completes, and those of them that the base completes as well."""
    completed = rows.filter(pl.Series(_completed(candidate, rows, params, done), dtype=pl.Boolean))
    return len(completed), sum(_completed(bare, completed, params))


def _completed(system: System, rows: pl.DataFrame, params: Evaluate, done: Done = unwatched) -> list[bool]:
    prompts, wanted = [], []
    for text, target in rows.select("input", "target").iter_rows():
        prompt, continuation = _divided(system, text, target, params.max_tokens)
        prompts.append(prompt)
        wanted.append(continuation)
    texts = generate(system, prompts, rows["task"].to_list(), CONTINUATION, params.batch_tokens, done)
    return [
        bool(continuation) and text.startswith(continuation)
        for text, continuation in zip(texts, wanted, strict=True)
    ]


def _divided(system: System, text: str, target: str, max_tokens: int) -> tuple[list[int], str]:
    """Token ids up to half of the answer, and the text that should come next."""
    encoded = encode(system.tokenizer, text, target, max_tokens)
    answer = [token for token in encoded.ids[encoded.answer_start :] if token not in system.stops]
    half = min(len(answer) // 2, PREFIX)
    following = system.tokenizer.decode(answer[half : half + CONTINUATION], skip_special_tokens=True)
    # The last token may be the first part of a character that the generated text has whole.
    return encoded.ids[: encoded.answer_start + half], following.strip().rstrip("\ufffd")
