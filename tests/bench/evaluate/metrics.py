"""Metrics against the libraries that define them, and PromptCBLUE's answer formats."""

import random

from pipeline.metrics import malformed, score
from pipeline.metrics.promptcblue import TASKS
from tests.bench.evaluate.references import CASES, largest_difference
from tests.bench.table import Row
from tests.promptcblue import GOLD, mutated

RANDOM_CASES = 1_000
MUTATED_ANSWERS = 1_000


def rows() -> list[Row]:
    """A row for each metric and reference, and two for PromptCBLUE's 16 tasks."""
    differences = [
        Row(
            f"{figure}: largest difference from {library}",
            largest_difference(case, RANDOM_CASES),
            None,
            "<=",
            1e-9,
            f"{RANDOM_CASES:,} random cases",
        )
        for figure, (library, case) in CASES.items()
    ]
    gold = {task: score(TASKS[task], rows, [row.target for row in rows]) for task, rows in GOLD.items()}
    return [
        *differences,
        Row("PromptCBLUE: lowest score of gold", min(gold.values()), None, ">=", 1.0, f"{len(gold)} tasks"),
        Row(
            "PromptCBLUE: crashes on mutated answers",
            crashes(),
            None,
            "<=",
            0.0,
            f"{MUTATED_ANSWERS:,} answers",
        ),
    ]


def crashes(answers: int = MUTATED_ANSWERS) -> int:
    """Mutated gold answers, spread over the tasks, that raise or score outside 0 to 1."""
    rng = random.Random(17)
    tasks = [(TASKS[task], row) for task, gold in sorted(GOLD.items()) for row in gold]
    count = 0
    for i in range(answers):
        metric, row = tasks[i % len(tasks)]
        answer = mutated(row.target, rng)
        try:
            malformed("extraction", row, answer, metric)
            count += not 0 <= score(metric, [row], [answer]) <= 1
        except Exception:
            count += 1
    return count
