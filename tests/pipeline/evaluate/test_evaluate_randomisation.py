"""Tests that call harm what is harm, and chance chance."""

from itertools import product

import numpy as np
import pytest

from pipeline.evaluate import randomisation
from pipeline.evaluate.randomisation import Randomised, Swaps, over_tasks, p_worse, randomise, step_down
from pipeline.metrics import METRICS, Floats
from tests.bench.evaluate import simulation
from tests.pipeline.evaluate.test_evaluate_statistics import ACCURACY, counts, labelled

SETS = METRICS["set_micro_f1"]


def named(count: int) -> list[str]:
    return [f"g{i:04}" for i in range(count)]


def by_enumeration(metric: str, candidate: Floats, other: Floats) -> float:
    """p of all 2 ** groups swaps, each as likely."""
    score = METRICS[metric].score
    real = score(candidate.sum(axis=0)) - score(other.sum(axis=0))
    worse = 0
    for swapped in product([False, True], repeat=len(candidate)):
        chosen = np.array(swapped)[:, None]
        a, b = np.where(chosen, other, candidate), np.where(chosen, candidate, other)
        worse += score(a.sum(axis=0)) - score(b.sum(axis=0)) <= real + 1e-12
    return float(worse) / 2 ** len(candidate)


@pytest.mark.parametrize("metric", ["accuracy", "set_micro_f1", "macro_f1"])
@pytest.mark.parametrize("seed", range(3))
def test_p_is_that_of_all_swaps(metric: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = 10

    def system() -> Floats:
        if metric == "accuracy":
            return np.stack([rng.integers(0, 4, groups), np.full(groups, 3)], axis=1).astype(float)
        if metric == "set_micro_f1":
            return rng.integers(0, 4, (groups, 3)).astype(float)
        return labelled(rng, groups, 3)

    candidate, other = system(), system()
    if metric == "macro_f1":
        other[:, :3] = candidate[:, :3]  # the same gold
        other[:, 6:] = other[:, :3] * other[:, 3:6]
    draws = 60_000
    found = randomise(METRICS[metric], candidate, other, named(groups), Swaps(seed, draws, named(groups)))
    exact = by_enumeration(metric, candidate, other)
    error = 4 * (exact * (1 - exact) / draws) ** 0.5 + 2 / draws
    assert p_worse(found.differences) == pytest.approx(exact, abs=error)


def p_of_accuracy(candidate: Floats, champion: Floats) -> float:
    names = named(len(candidate))
    return p_worse(
        randomise(ACCURACY, counts(candidate), counts(champion), names, Swaps(0, 9_999, names)).differences
    )


def test_the_real_outcome_is_one_of_the_draws() -> None:
    """Twenty groups, all lost: no p is smaller than one in the number of draws."""
    assert p_of_accuracy(np.zeros(20), np.ones(20)) == pytest.approx(1e-4, abs=1e-5)
    assert p_of_accuracy(np.ones(20), np.zeros(20)) == 1
    assert p_of_accuracy(np.ones(20), np.ones(20)) == 1


def test_a_group_is_swapped_in_all_its_tasks_at_once() -> None:
    """The same rows as two tasks say nothing more than once; other groups would."""
    rng = np.random.default_rng(0)
    candidate, other = (counts((rng.random(60) < rate).astype(float)) for rate in (0.6, 0.7))
    swaps = Swaps(0, 4_999, [*named(60), *(f"h{i}" for i in range(60))])
    task = randomise(ACCURACY, candidate, other, named(60), swaps)
    twice = over_tasks([task, task], lambda tasks: tasks.mean(axis=0))
    assert p_worse(twice.differences) == p_worse(task.differences)
    assert step_down([task.differences, task.differences]) == [p_worse(task.differences)] * 2
    apart = randomise(ACCURACY, candidate, other, [f"h{i}" for i in range(60)], swaps)
    both = over_tasks([task, apart], lambda tasks: tasks.mean(axis=0))
    assert p_worse(both.differences) < p_worse(task.differences)


def test_every_group_is_swapped_half_the_time_and_alone() -> None:
    names = named(11)
    swaps = Swaps(3, 20_000, names)
    identity = np.eye(11)
    moved = np.stack(
        [
            randomise(ACCURACY, counts(identity[i]), counts(np.zeros(11)), names, swaps).candidate[1:] == 0
            for i in range(11)
        ]
    )
    assert np.abs(moved.mean(axis=1) - 0.5).max() < 0.02
    assert np.abs(np.corrcoef(moved) - np.eye(11)).max() < 0.03


def test_chunks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 3, (2, 30, 3)).astype(float)

    def draws() -> Randomised:
        return randomise(SETS, a, b, named(30), Swaps(0, 301, named(30)))

    whole = draws()
    monkeypatch.setattr(randomisation, "TOTALS", 30)
    assert (draws().candidate == whole.candidate).all() and (draws().other == whole.other).all()


def test_the_adjusted_p_is_that_of_the_smallest_p_by_hand() -> None:
    """Four randomisations, two comparisons: a's p by draw is 1/4 2/4 4/4 4/4, b's 2/4 1/4 4/4 4/4."""
    a, b = np.array([-2.0, -1.0, 0.0, 0.0]), np.array([-1.0, -2.0, 0.0, 0.0])
    assert step_down([a, b]) == [0.5, 0.5]
    assert step_down([a]) == [0.25]
    assert step_down([]) == []


def test_adjusted_p_values_lie_between_the_plain_ones_and_those_of_holm() -> None:
    rng = np.random.default_rng(2)
    found = [rng.normal(size=2_000) for _ in range(8)]
    for place, share in enumerate((0.001, 0.004, 0.02, 0.03)):
        found[place][0] = np.quantile(found[place], share)
    plain = [p_worse(each) for each in found]
    adjusted = step_down(found)
    assert all(low <= p for low, p in zip(plain, adjusted, strict=True))
    # Holm's bound holds for exact p-values; 2,000 draws know theirs to about 0.005.
    assert all(p <= high + 0.02 for p, high in zip(adjusted, simulation.holm(plain), strict=True))
    assert sorted(range(8), key=plain.__getitem__) == sorted(range(8), key=lambda i: (adjusted[i], plain[i]))


def test_twins_are_rarely_blocked_by_any_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """5 in 100 at most may be; 40 candidates show 7 or more of them once in 400 times."""
    monkeypatch.setattr(simulation, "DRAWS", 999)
    assert simulation.twins("accuracy", simulation.alike_labels, 40)["any"] <= 6 / 40
    assert simulation.twins("set_micro_f1", simulation.alike_sets, 40, reference=True)["any"] <= 6 / 40


def test_a_clear_loss_on_one_task_of_fourteen_is_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "DRAWS", 999)
    found = simulation.harmed([0.10, 0.15], 0.2, 40)
    assert found[0.15]["task"] >= 38 / 40
    assert found[0.10]["task"] >= 26 / 40
    assert found[0.15]["others"] <= 6 / 40
