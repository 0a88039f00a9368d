"""How often the gate blocks whom it should, and whom it should not, on simulated candidates.

    python -c "from tests.bench.evaluate import simulation; simulation.curve(300)"

Each candidate has 14 tasks whose rows come in groups of 1 to 5. With probability sqrt(0.3) a row
has its group's outcome, of all systems at once, else one of its own: so any two rows of a group
are correlated by 0.3 in what each system answers and in how the systems differ. Statistics go
through the code of the stages from there: randomisation, step-down, and the gate's rules.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from itertools import chain
from multiprocessing import get_context
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate.comparison import Comparison, compare_over, figures_of_all, mean, worst
from pipeline.evaluate.randomisation import Swaps, randomise
from pipeline.evaluate.statistics import Estimate, by_group, group_names
from pipeline.gate import harm
from pipeline.metrics import METRICS, Floats
from pipeline.params import Params
from tests.bench.table import Row

TASKS = 14
TWIN_ROWS, HARMED_ROWS = 200, 500
CORRELATION = 0.3
CORRECT = 0.7
DISCORDANCE = 0.2
DRAWS = 9_999

LOSSES = (0.02, 0.03, 0.05, 0.07, 0.10, 0.12, 0.15)
DISCORDANCES = (0.1, 0.2, 0.3, 0.4, 0.5)

Result = TypeVar("Result")

Outcomes = Callable[[int, np.random.Generator], Floats]
"""Statistics of so many rows, ``[rows, systems, k]``; systems: candidate, champion, reference."""

Task = dict[str, Comparison]
"""Field of the report to comparison: ``comparison``, ``reference_comparison``."""


def rows(repeats: int) -> list[Row]:
    """The shares of ``repeats`` candidates that are blocked; the issue asks for 2,000."""
    jobs = [
        partial(_twins, "accuracy", alike_labels),
        partial(_twins, "set_micro_f1", alike_sets),
        partial(_twins, "accuracy", alike_labels, reference=True),
        _harmed,
    ]
    return [row for found in in_parallel(jobs, repeats) for row in found]


def curve(repeats: int) -> None:
    """Print the share of candidates blocked for one harmed task, by its loss and discordance."""
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "loss", title=f"one task of {TASKS} worse, {HARMED_ROWS} rows, {repeats} candidates: blocked"
    )
    for discordance in DISCORDANCES:
        table.add_column(f"discordance {discordance:g}", justify="right")
    jobs = [
        partial(harmed, [loss for loss in LOSSES if loss <= discordance], discordance)
        for discordance in DISCORDANCES
    ]
    cells = in_parallel(jobs, repeats)
    for loss in LOSSES:
        shares = [cell.get(loss) for cell in cells]
        table.add_row(
            f"{100 * loss:.0f} points",
            *("impossible" if share is None else f"{share['task']:.1%}" for share in shares),
        )
    Console().print(table)


def in_parallel(jobs: Sequence[Callable[[int], Result]], repeats: int) -> list[Result]:
    """What each job returns, in order; a process a core."""
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        return [started.result() for started in [pool.submit(job, repeats) for job in jobs]]


def _twins(metric: str, outcomes: Outcomes, repeats: int, reference: bool = False) -> list[Row]:
    shares = twins(metric, outcomes, repeats, reference)
    by_rule = ", ".join(f"{name} {share:.2%}" for name, share in shares.items() if name != "any")
    beside = " and a reference alike" if reference else ""
    figure = f"twins{beside} wrongly blocked, {metric}"
    return [Row(figure, shares["any"], None, "<=", 0.06, f"{repeats} candidates; {by_rule}")]


def _harmed(repeats: int) -> list[Row]:
    found = harmed((0.10, 0.15), DISCORDANCE, repeats)
    return [
        Row(
            f"one task of {TASKS} worse by {100 * loss:.0f} points, blocked",
            found[loss]["task"],
            found[loss]["holm"],
            ">=",
            bar,
            f"{repeats} candidates, no_harm names the task; any rule {found[loss]['any']:.1%}; another "
            f"task blocked {found[loss]['others']:.2%}; peer: Holm on the same p-values, all 5 % for it",
        )
        for loss, bar in ((0.10, 0.80), (0.15, 0.99))
    ]


def twins(metric: str, outcomes: Outcomes, repeats: int, reference: bool = False) -> dict[str, float]:
    """Share of candidates blocked by each rule, and by any, where all systems are alike."""
    counts: dict[str, int] = {"any": 0}
    for repeat in range(repeats):
        rng = np.random.default_rng([1, repeat])
        swaps = swaps_of(repeat, TWIN_ROWS)
        tasks = [task(metric, outcomes, number, TWIN_ROWS, rng, swaps, reference) for number in range(TASKS)]
        blocked = {name for name, _ in judged(tasks, reference)}
        counts["any"] += bool(blocked)
        for name in blocked:
            counts[name] = counts.get(name, 0) + 1
    return {name: count / repeats for name, count in counts.items()}


def harmed(losses: Sequence[float], discordance: float, repeats: int) -> dict[float, dict[str, float]]:
    """For each loss of task 0 the shares of candidates: ``task``, no_harm blocks it; ``any``, some
    rule blocks; ``others``, no_harm blocks a task that is not worse; ``holm``, the plain peer.

    All losses share the candidates' other tasks.
    """
    counts = {loss: dict.fromkeys(("task", "any", "others", "holm"), 0) for loss in losses}
    for repeat in range(repeats):
        rng = np.random.default_rng([2, repeat])
        swaps = swaps_of(repeat, HARMED_ROWS)
        alike = partial(labels, loss=0.0, discordance=discordance)
        others = [task("accuracy", alike, number, HARMED_ROWS, rng, swaps) for number in range(1, TASKS)]
        for loss, count in counts.items():
            worse = partial(labels, loss=loss, discordance=discordance)
            first = task("accuracy", worse, 0, HARMED_ROWS, np.random.default_rng([3, repeat]), swaps)
            blocked = judged([first, *others], reference=False)
            count["task"] += ("no_harm", "task00") in blocked
            count["any"] += bool(blocked)
            count["others"] += any(name == "no_harm" and which != "task00" for name, which in blocked)
            p_values = [each["comparison"].figures()["p_worse"] for each in (first, *others)]
            count["holm"] += holm(p_values)[0] <= 0.05
    return {loss: {name: n / repeats for name, n in count.items()} for loss, count in counts.items()}


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, the peer of the step-down."""
    order = np.argsort(p_values)
    stepped = np.minimum(1, np.array(p_values)[order] * np.arange(len(order), 0, -1))
    adjusted = np.empty(len(order))
    adjusted[order] = np.maximum.accumulate(stepped)
    return [float(p) for p in adjusted]


def judged(tasks: Sequence[Task], reference: bool) -> set[tuple[str, str | None]]:
    """The rules that block a candidate, each with its task, by the gate's own code."""
    report: dict[str, Any] = {
        "champion": "a" * 16,
        "reference": "b" * 16 if reference else None,
        "tasks": {name_of(number): {"rows": 1, "slices": {}} for number in range(len(tasks))},
    }
    for field in ("comparison", "reference_comparison") if reference else ("comparison",):
        compared = {name_of(number): each[field] for number, each in enumerate(tasks)}
        for name, figures in figures_of_all(compared).items():
            report["tasks"][name][field] = figures
    with_champion = [each["comparison"] for each in tasks]
    for name, summary in (("mean", mean), ("worst", worst)):
        report[name] = {"comparison": compare_over(with_champion, summary).figures()}
    rules = harm.rules(report, PARAMS)
    return {(rule["rule"], rule["task"]) for rule in rules if rule["outcome"] == "blocked"}


PARAMS = Params.load().gate


def task(
    metric: str,
    outcomes: Outcomes,
    number: int,
    count: int,
    rng: np.random.Generator,
    swaps: Swaps,
    reference: bool = False,
) -> Task:
    """One task of ``count`` rows, compared by the stage's own code; its intervals have no width."""
    statistics, group = correlated(outcomes, count, rng)
    named = group_names_of(number, count)[group].tolist()
    names = group_names(named)[0]
    candidate, *others = (by_group(statistics[:, system], named) for system in range(2 + reference))
    found = {}
    for field, other in zip(("comparison", "reference_comparison"), others, strict=False):
        swapped = randomise(METRICS[metric], candidate, other, names, swaps)
        found[field] = Comparison(
            "champion", estimate(swapped.candidate[0]), estimate(swapped.other[0]), swapped
        )
    return found


def estimate(score: float) -> Estimate:
    """A score whose interval nobody asks for: blocking does not depend on it."""
    return Estimate(float(score), float(score), float(score), np.array([score]))


def name_of(number: int) -> str:
    """Of a task, sorted by number."""
    return f"task{number:02}"


def correlated(outcomes: Outcomes, count: int, rng: np.random.Generator) -> tuple[Floats, NDArray[np.intp]]:
    """Statistics of ``count`` rows, ``[rows, systems, k]``, and the group of each."""
    group = groups(count, rng)
    together = rng.random(count) < CORRELATION**0.5
    return np.where(together[:, None, None], outcomes(count, rng)[group], outcomes(count, rng)), group


def groups(count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """The group of each of ``count`` rows: sizes of 1 to 5, equally likely."""
    return np.repeat(np.arange(count), rng.integers(1, 6, count))[:count]


@cache
def group_names_of(number: int, count: int) -> NDArray[np.str_]:
    """Names of all groups that a task of ``count`` rows can have."""
    return np.array([f"{name_of(number)}-{group:04}" for group in range(count)])


def swaps_of(repeat: int, count: int) -> Swaps:
    """Swaps of all groups that tasks of ``count`` rows can have."""
    names = (group_names_of(number, count).tolist() for number in range(TASKS))
    return Swaps(repeat, DRAWS, chain.from_iterable(names))


def labels(count: int, rng: np.random.Generator, loss: float, discordance: float) -> Floats:
    """Right or wrong answers of candidate and champion, ``[rows, 2, 2]``; the champion's accuracy
    is CORRECT, the candidate's lower by ``loss``, and they differ on ``discordance`` of rows."""
    lost, gained = (discordance + loss) / 2, (discordance - loss) / 2
    kind = np.searchsorted(np.cumsum([lost, gained, CORRECT - lost]), rng.random(count), side="right")
    candidate, champion = np.array([0.0, 1, 1, 0])[kind], np.array([1.0, 0, 1, 0])[kind]
    right = np.stack([candidate, champion], axis=1)
    return np.stack([right, np.ones_like(right)], axis=2)


def alike_labels(count: int, rng: np.random.Generator) -> Floats:
    """Right or wrong answers of three systems that are alike, ``[rows, 3, 2]``, any two of which
    differ on DISCORDANCE of rows."""
    right = _mostly_shared(lambda shape: rng.random(shape) < CORRECT, count, rng)[..., None]
    return np.concatenate([right, np.ones_like(right)], axis=2)


def alike_sets(count: int, rng: np.random.Generator) -> Floats:
    """True positives, false positives and false negatives of three systems that are alike,
    ``[rows, 3, 3]``: 1 to 4 wanted mentions a row."""
    wanted = rng.integers(1, 5, (count, 1))
    found = _mostly_shared(lambda shape: rng.binomial(wanted, CORRECT, shape), count, rng)
    extra = _mostly_shared(lambda shape: rng.binomial(wanted, 1 - CORRECT, shape), count, rng)
    return np.stack([found, extra, wanted - found], axis=2)


def _mostly_shared(
    draw: Callable[[tuple[int, int]], NDArray[Any]], count: int, rng: np.random.Generator
) -> Floats:
    """``[rows, 3]``: systems share a drawn value unless they draw their own, just so often that two
    of them differ on DISCORDANCE of rows where the value is right or wrong."""
    own = 1 - (1 - DISCORDANCE / (2 * CORRECT * (1 - CORRECT))) ** 0.5
    return np.where(rng.random((count, 3)) < own, draw((count, 3)), draw((count, 1))).astype(np.float64)
