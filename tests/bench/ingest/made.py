"""Made-up records of about 1 kB, in JSON lines, of any number and always the same."""

import random
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl

BLOCK = 100_000
SENTENCES = 4_000
OF_A_RECORD = 8
GROUP = 5
"""Records of one patient."""

MISSING, REPEATED = 100, 200
"""One record in so many has no input, or says what the one before it says."""

WORDS = """
patient chest pain fever cough dyspnoea oedema nausea since yesterday morning blood pressure elevated
heart rate regular lungs clear abdomen soft no known allergies takes aspirin metformin lisinopril daily
denies smoking reports mild severe intermittent headache left right knee shoulder lower back follow up
in two weeks with laboratory results imaging shows small effusion without fracture discharged home
"""
CHOICES = ["cardiology", "dermatology", "neurology", "orthopaedics"]
TASKS = pl.DataFrame(
    {
        "task": ["triage", "message-type", "note-summary", "report-draft"],
        "task_type": ["classification", "classification", "summarization", "report_generation"],
        "answer_choices": [CHOICES, CHOICES, None, None],
    }
)


def write(file: Path, first: int, count: int) -> None:
    """Records ``first`` to ``first + count - 1`` into ``file``."""
    with file.open("wb") as target:
        for start in range(first, first + count, BLOCK):
            _block(start, min(BLOCK, first + count - start)).write_ndjson(target)


def _block(first: int, count: int) -> pl.DataFrame:
    numbers = np.arange(first, first + count)
    draw = np.random.default_rng(first)
    texts = _sentences()
    chosen = [texts.gather(draw.integers(0, SENTENCES, count)).alias(f"s{at}") for at in range(OF_A_RECORD)]
    tasks = TASKS[(numbers // 3 % TASKS.height).tolist()]
    frame = pl.DataFrame({"number": numbers}).hstack(tasks).hstack(chosen)
    frame = frame.select(
        pl.format("r{}", "number").alias("sample_id"),
        "task",
        "task_type",
        pl.format("Visit {}. {}", "number", pl.concat_str(pl.col("^s\\d$"), separator=" ")).alias("input"),
        pl.when(pl.col("answer_choices").is_null())
        .then("s0")
        .otherwise(pl.Series([CHOICES[number % len(CHOICES)] for number in numbers.tolist()]))
        .alias("target"),
        "answer_choices",
        pl.format("p{}", pl.col("number") // GROUP).alias("group_id"),
        language=pl.lit("en"),
        source=pl.lit("ward"),
        number="number",
    )
    again = pl.col("number") % REPEATED == 7
    missing = pl.col("number") % MISSING == 3
    same = ("task", "task_type", "input", "target", "answer_choices")
    return frame.with_columns(
        pl.when(again).then(pl.col(name).shift(1)).otherwise(name).alias(name) for name in same
    ).select(pl.when(missing).then(None).otherwise("input").alias("input"), pl.exclude("input", "number"))


@cache
def _sentences() -> pl.Series:
    draw = random.Random(17)
    return pl.Series(
        [f"{' '.join(draw.choices(WORDS.split(), k=draw.randint(10, 20)))}." for _ in range(SENTENCES)]
    )
