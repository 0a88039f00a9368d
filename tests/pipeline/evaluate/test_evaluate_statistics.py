"""Intervals and tests that hold what they promise, for groups and not for rows."""

import numpy as np
import pytest

from pipeline.evaluate import statistics
from pipeline.gate import holm
from pipeline.metrics import METRICS, Floats

ACCURACY = METRICS["accuracy"]


def counts(correct: Floats) -> Floats:
    """Statistics of accuracy, ``[rows, 2]``, from right (1) and wrong (0) answers."""
    return np.stack([correct, np.ones_like(correct)], axis=1)


def two_systems(
    rng: np.random.Generator, rows: int, loss: float, discordance: float
) -> tuple[Floats, Floats, list[str]]:
    """Candidate and champion (accuracy 0.7) in groups of 1 to 5 rows whose answers hang together."""
    group = np.repeat(np.arange(rows), rng.integers(1, 6, rows))[:rows]

    def uniform() -> Floats:
        """A uniform number a row; with probability 0.3 ** 0.5 that of the row's group."""
        shared = rng.random(rows) < 0.3**0.5
        return np.where(shared, rng.random(rows)[group], rng.random(rows))

    champion = (uniform() < 0.7).astype(float)
    change = uniform()
    lost, gained = (discordance + loss) / 2 / 0.7, (discordance - loss) / 2 / 0.3
    candidate = np.where(champion == 1, change >= lost, change < gained).astype(float)
    return candidate, champion, [str(g) for g in group]


def p_worse(candidate: Floats, champion: Floats, groups: list[str], seed: int, draws: int = 999) -> float:
    a, b = (statistics.by_group(counts(rows), groups) for rows in (candidate, champion))
    rng = np.random.default_rng(seed)
    estimates = statistics.bootstrap(ACCURACY, {"a": a, "b": b}, 10, rng)
    return statistics.compare(ACCURACY, a, b, (estimates["a"], estimates["b"]), draws, rng).p_worse


def blocked(rng: np.random.Generator, tasks: int, losses: dict[int, float], rows: int = 200) -> list[int]:
    p_values = {}
    for task in range(tasks):
        loss = losses.get(task, 0.0)
        p_values[str(task)] = p_worse(*two_systems(rng, rows, loss, 0.2), seed=int(rng.integers(1 << 30)))
    return [int(task) for task, p in holm(p_values).items() if p < 0.05]


def test_twins_are_rarely_blocked() -> None:
    """14 tasks, 200 candidates that are no worse: at most 5 in 100 blocked, plus sampling error."""
    rng = np.random.default_rng(1)
    assert sum(bool(blocked(rng, 14, {})) for _ in range(200)) <= 20


def test_a_clear_loss_on_one_task_of_fourteen_is_blocked() -> None:
    rng = np.random.default_rng(2)
    found = [blocked(rng, 14, {3: 0.15}, rows=500) for _ in range(30)]
    assert sum(3 in tasks for tasks in found) >= 28


def test_p_of_few_groups_is_that_of_all_swaps() -> None:
    """Four groups, all lost: one swap of 16 is as bad as what was seen."""
    p = p_worse(np.zeros(4), np.ones(4), ["a", "b", "c", "d"], seed=0, draws=20_000)
    assert p == pytest.approx(1 / 16, abs=0.01)
    assert p_worse(np.ones(4), np.zeros(4), ["a", "b", "c", "d"], seed=0) == 1
    assert p_worse(np.ones(4), np.ones(4), ["a", "b", "c", "d"], seed=0) == 1


def test_rows_of_one_group_are_one_piece_of_evidence() -> None:
    alone = p_worse(np.zeros(20), np.ones(20), [str(i) for i in range(20)], seed=0)
    together = p_worse(np.zeros(20), np.ones(20), ["a"] * 20, seed=0)
    assert alone < 0.01 < 0.4 < together


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for seed in range(200):
        correct = (rng.random(150) < 0.7).astype(float)
        groups = statistics.by_group(counts(correct), [str(i) for i in range(150)])
        found = statistics.bootstrap(ACCURACY, {"a": groups}, 500, np.random.default_rng(seed))["a"]
        covered += found.low <= 0.7 <= found.high
    assert covered >= 180


def test_an_interval_of_answers_that_are_all_alike_has_a_width() -> None:
    groups = counts(np.ones(10))
    found = statistics.bootstrap(ACCURACY, {"a": groups, "b": groups}, 100, np.random.default_rng(0))
    assert (found["a"].score, found["a"].high) == (1, 1)
    assert found["a"].low == pytest.approx(1 - 0.3085, abs=1e-3)  # Clopper and Pearson, 10 of 10
    difference = statistics.compare(
        ACCURACY, groups, groups, (found["a"], found["b"]), 100, np.random.default_rng(0)
    )
    assert difference.low == pytest.approx(-0.3085, abs=1e-3)


def test_statistics_are_summed_by_group() -> None:
    rows = np.array([[1.0, 1], [0, 1], [1, 1]])
    assert statistics.by_group(rows, ["b", "a", "b"]).tolist() == [[0, 1], [2, 2]]


def test_random_numbers_depend_on_the_names_alone() -> None:
    def draw(*name: str) -> float:
        return float(statistics.generator(17, *name).random())

    assert draw("bootstrap", "rqe") == draw("bootstrap", "rqe")
    assert len({draw("bootstrap", "rqe"), draw("bootstrap", "ner"), draw("randomisation", "rqe")}) == 3


def test_chunks_do_not_change_the_number_of_resamples() -> None:
    groups = counts(np.arange(7) % 2.0)
    found = statistics.bootstrap(ACCURACY, {"a": groups}, 2 * statistics.CHUNK + 3, np.random.default_rng(0))
    assert found["a"].draws.shape == (2 * statistics.CHUNK + 3,)


def test_lower_losses_of_inserted_canaries_are_seen() -> None:
    rng = np.random.default_rng(0)
    held_back = rng.normal(5, 1, 64)
    assert statistics.rank_test(held_back - 3, held_back) < 0.001
    assert statistics.rank_test(rng.normal(5, 1, 64), held_back) > 0.001
