"""Made-up records with words as frequent as those of a language, and near-duplicates planted among them."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from pipeline.records import RECORD_SCHEMA
from tests.bench import records as real

SYLLABLES = [
    "ba",
    "co",
    "di",
    "fe",
    "gu",
    "ha",
    "jo",
    "ka",
    "li",
    "me",
    "no",
    "pu",
    "ra",
    "si",
    "to",
    "ve",
    "wa",
    "xi",
    "yo",
    "zu",
    "car",
    "der",
    "lin",
    "mor",
    "pen",
    "ros",
    "tan",
    "vul",
]
VOCABULARY = 20_000
LENGTHS = (30, 400)
"""Words of an input at least and at most; half of them have fewer than 90."""

TASKS = 10
INSTRUCTION = 30
"""Words that all inputs of a task begin with."""

GROUP = 4
"""Records of one patient."""

EDITS = 0.05
OTHER_EDITS = 0.5
"""Share of its words that a near-duplicate, and a record of another patient with much the same, has edited."""

Draw = np.random.Generator


class Planted(NamedTuple):
    """``records`` (RECORD_SCHEMA), and the sample_id of the planted copies of one in a stronger split."""

    records: pl.DataFrame
    copies: set[str]


def records(first: int, count: int) -> pl.DataFrame:
    """Records ``first`` to ``first + count - 1``, RECORD_SCHEMA; no owner's split."""
    draw = np.random.default_rng(first)
    lengths = np.exp(draw.normal(4.5, 0.6, count)).clip(*LENGTHS).astype(np.int64)
    words = _vocabulary()[_ranks(int(lengths.sum()), draw)]
    ends = np.cumsum(lengths)
    numbers = range(first, first + count)
    instructions = [_instruction(task) for task in range(TASKS)]
    inputs = [
        f"{instructions[number % TASKS]}\n\n{' '.join(words[end - length : end])}"
        for number, end, length in zip(numbers, ends, lengths, strict=True)
    ]
    return _frame(
        {
            "sample_id": [f"s{number:08}" for number in numbers],
            "task": [f"task-{number % TASKS}" for number in numbers],
            "input": inputs,
            "target": [f"answer {number % 3}" for number in numbers],
            "group_id": [f"g{number // GROUP // TASKS:08}-{number % TASKS}" for number in numbers],
        }
    )


def _frame(columns: dict[str, list[str]]) -> pl.DataFrame:
    return (
        pl.DataFrame(columns)
        .select(
            "sample_id",
            "task",
            "input",
            "target",
            "group_id",
            task_type=pl.lit("summarization"),
            answer_choices=pl.lit(None, pl.List(pl.String)),
            language=pl.lit("en"),
            source=pl.lit("ward"),
            split=pl.lit(None, pl.String),
        )
        .select(RECORD_SCHEMA.names())
    )


@cache
def _vocabulary() -> np.ndarray:
    draw = np.random.default_rng(17)
    found = ("".join(draw.choice(SYLLABLES, draw.integers(1, 5))) for _ in range(4 * VOCABULARY))
    return np.array([*dict.fromkeys(found)][:VOCABULARY], dtype=object)


def _ranks(count: int, draw: Draw) -> np.ndarray:
    """Words by Zipf's law, of which the first is one in about ten."""
    shares = 1 / np.arange(1, len(_vocabulary()) + 1)
    return np.searchsorted(np.cumsum(shares / shares.sum()), draw.random(count)).clip(0, len(shares) - 1)


def _instruction(task: int) -> str:
    return " ".join(_vocabulary()[_ranks(INSTRUCTION, np.random.default_rng(task))])


def plant(rows: pl.DataFrame, copies: int) -> Planted:
    """``rows``, a group each, of which ``copies`` have a near-duplicate in a weaker split, and as many a
    record there that half agrees with them; of texts so long that EDITS of their words are one at least."""
    draw = np.random.default_rng(17)
    rows = rows.with_columns(group_id="sample_id")
    long_enough = np.array([len(_said(text)[1].split()) * EDITS >= 1 for text in rows["input"]])
    order = draw.permutation(np.flatnonzero(long_enough))[: 2 * copies]
    strong = draw.choice(["validation", "test"], 2 * copies)
    weak = np.where((strong == "test") & (draw.random(2 * copies) < 0.3), "validation", "train")
    chosen = rows[order].with_columns(split=pl.Series(strong))
    shares = np.repeat([EDITS, OTHER_EDITS], copies)
    texts = [_edited(text, share, draw) for text, share in zip(chosen["input"], shares, strict=True)]
    added = chosen.with_columns(
        sample_id=pl.format("{}-again", "sample_id"),
        group_id=pl.format("{}-again", "group_id"),
        input=pl.Series(texts),
        split=pl.Series(weak),
    )
    others = rows.filter(~pl.int_range(pl.len()).is_in(order))
    every = pl.concat([others, chosen, added]).sort("sample_id")
    return Planted(every, set(added["sample_id"][:copies]))


def _said(text: str) -> tuple[str, str]:
    """A text's instruction, and what follows it."""
    instruction, _, said = text.rpartition("\n\n")
    return instruction, said


def _edited(text: str, share: float, draw: Draw) -> str:
    """``text`` with this share of the words after its instruction substituted, inserted and deleted."""
    instruction, said = _said(text)
    words = said.split()
    at = set(draw.choice(len(words), max(1, round(share * len(words))), replace=False).tolist())
    found = []
    for number, word in enumerate(words):
        kind = draw.integers(3) if number in at else None
        other = str(_vocabulary()[draw.integers(VOCABULARY)])
        found += {0: [other], 1: [word, other], 2: []}.get(kind, [word])  # type: ignore[arg-type]
    return f"{instruction}\n\n{' '.join(found)}"


def real_records(count: int) -> pl.DataFrame:
    """Real English training records, where there are any beside the checkout."""
    return real.read("train").sample(count, seed=17).with_columns(split=pl.lit(None, pl.String))


def write(folder: Path, number: int, rows: pl.DataFrame) -> None:
    """A shard as deidentify writes it."""
    name = f"{number:016x}"
    rows.with_columns(shard=pl.lit(name)).write_parquet(folder / f"{name}.parquet")
