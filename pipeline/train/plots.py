"""What a person looks at after a training: losses of each task, the gate's weights, and how alike
the experts are.

    reports/plots/train/metrics/      DVCLive's metric files: losses, learning rate, gradient norm
                        losses.png    training and validation loss, one panel a task
                        gate.png      tasks by experts; gate.csv: task, expert, weight
                        similarity.png  experts by experts; similarity.csv: expert, other, cosine

Same training, same bytes. An adapter of one expert has nothing to gate or to compare: the last two
are not drawn then. dvc.yaml shows them all.
"""

import io
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from pipeline.moelora import MoeLora
from pipeline.train.checkpoint import State

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Line = Sequence[tuple[int, float]]
"""(step, loss), steps ascending."""

TRAINING, VALIDATION, QUIET = "#0072b2", "#d55e00", "#666666"
"""Told apart by every kind of colour vision (Okabe and Ito), and by their markers."""

ROOM_FOR_VALUES = 16
"""Columns of a heat map up to which its cells carry their values."""


def write(state: State, adapter: MoeLora, folder: Path) -> None:
    """Write all of the above into ``folder``, which exists; ``adapter`` is the trained one."""
    _write_metrics(state, folder)
    (folder / "losses.png").write_bytes(losses(state))
    if adapter.config.experts > 1:
        gate = {task: adapter.weights(task).tolist() for task in sorted(adapter.config.tasks)}
        averaged = ", mean over layers" if adapter.config.gate == "per_layer" else ""
        (folder / "gate.png").write_bytes(gate_map(gate, averaged))
        _table("task", "expert", "weight", gate).write_csv(folder / "gate.csv")
        similarity = expert_similarity(adapter).tolist()
        (folder / "similarity.png").write_bytes(similarity_map(similarity))
        alike = {str(expert): row for expert, row in enumerate(similarity, start=1)}
        _table("expert", "other", "cosine", alike).write_csv(folder / "similarity.csv")


def expert_similarity(adapter: MoeLora) -> Tensor:
    """Cosine between the experts' updates B_i A_i of a layer, averaged over layers: [N, N] float64.

    1: two experts do the same, 0: nothing in common. An expert whose update of a layer is zero
    counts as 0 there, with itself too. No B_i A_i [d_out, d_in] is formed, since

        <B_i A_i, B_j A_j> = sum( (B_i^T B_j) * (A_i A_j^T) )        over [r/N, r/N]
    """
    experts = adapter.config.experts
    rank = adapter.config.rank // experts
    total = torch.zeros(experts, experts, dtype=torch.float64)
    for layer in adapter.layers.values():
        a, b = layer.A.detach().cpu().double(), layer.B.detach().cpu().double()
        inner = ((b.T @ b) * (a @ a.T)).reshape(experts, rank, experts, rank).sum(dim=(1, 3))
        norms = inner.diagonal().sqrt()
        total += inner / (norms[:, None] * norms).clamp_min(torch.finfo(torch.float64).tiny)
    return total / len(adapter.layers)


def gate_map(gate: Mapping[str, Sequence[float]], averaged: str = "") -> bytes:
    """A PNG of the gate's weights, tasks by experts; ``averaged`` goes into the title."""
    experts = len(next(iter(gate.values())))
    highest = max(2 / experts, *(max(weights) for weights in gate.values()))
    title = f"Gate weights{averaged} (uniform would be 1/{experts})"
    return _heat_map(gate, title, "weight", "viridis", (0.0, highest))


def similarity_map(similarity: Sequence[Sequence[float]]) -> bytes:
    """A PNG of ``expert_similarity``, on the same scale from -1 to 1 every time."""
    rows = {f"expert {expert}": row for expert, row in enumerate(similarity, start=1)}
    return _heat_map(rows, "How alike the experts' updates are", "cosine", "RdBu_r", (-1.0, 1.0))


def losses(state: State) -> bytes:
    """A PNG of training and validation loss: all tasks together (training as train.loss weighs
    them, validation as the mean over tasks), then one panel a task.

    A panel's loss axis is its own, since answers of a word and whole reports differ too much; the
    training loss, one step's few answers, is drawn pale and its running mean in full.
    """
    panels: dict[str, tuple[Line, Line]] = {
        "all tasks": (
            [(entry["step"], entry["loss"]) for entry in state.curve],
            [(entry["step"], entry["mean"]) for entry in state.validation],
        )
    }
    entries = [*state.curve, *state.validation]
    for task in sorted({task for entry in entries for task in entry["tasks"]}):
        panels[task] = (_line(state.curve, task), _line(state.validation, task))

    def draw(figure: "Figure") -> None:
        # Few, for a page that shows the picture a third smaller.
        columns = min(len(panels), 3 if len(panels) <= 18 else 4)
        rows = math.ceil(len(panels) / columns)
        # The legend above the panels needs room even over few of them.
        figure.set_size_inches(max(2.6 * columns + 0.4, 7.0), 2.1 * rows + 0.7)
        grid = figure.subplots(rows, columns, sharex=True, squeeze=False).flatten()
        for axes, (name, (training, validation)) in zip(grid, panels.items(), strict=False):
            _draw_losses(axes, training, validation, state.best_step)
            axes.set_title(textwrap.fill(name, 34), fontsize=9)
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False, fontsize=9)
        figure.supxlabel("step", fontsize=9)
        figure.supylabel("mean token loss", fontsize=9)

    return _png(draw)


def _draw_losses(axes: "Axes", training: Line, validation: Line, best_step: int | None) -> None:
    from matplotlib.ticker import MaxNLocator

    steps, values = _columns(training)
    window = max(5, len(values) // 10)
    running = pl.Series(values, dtype=pl.Float64).rolling_mean(window, min_samples=1, center=True)
    axes.plot(steps, values, color=TRAINING, alpha=0.25, linewidth=1, label="training, each step")
    # A line of one point is invisible without.
    dot = "." if len(steps) == 1 else None
    axes.plot(steps, running, color=TRAINING, linewidth=1.6, marker=dot, label="training, running mean")
    axes.plot(*_columns(validation), color=VALIDATION, marker="o", markersize=3, label="validation")
    if best_step is not None:
        axes.axvline(best_step, color=QUIET, linestyle=":", linewidth=1.2, label="saved step")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(labelsize=7, labelbottom=True)
    axes.spines[["top", "right"]].set_visible(False)


def _heat_map(
    rows: Mapping[str, Sequence[float]],
    title: str,
    unit: str,
    colours: str,
    limits: tuple[float, float],
) -> bytes:
    """Named rows of N values as a PNG, columns numbered from 1."""
    count = len(next(iter(rows.values())))
    valued = count <= ROOM_FOR_VALUES

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        image = axes.imshow(list(rows.values()), colours, aspect="auto", vmin=limits[0], vmax=limits[1])
        axes.set_yticks(range(len(rows)), list(rows), fontsize=9)
        axes.set_xticks(range(count), [str(expert) for expert in range(1, count + 1)], fontsize=9)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("expert")
        # Over the whole figure: beside long names the map alone may be narrower than its title.
        figure.suptitle(title, fontsize=11)
        figure.colorbar(image, label=unit, pad=0.02).outline.set_visible(False)
        names = 0.08 * max(map(len, rows))
        cell = 0.46 if valued else 0.28
        figure.set_size_inches(max(cell * count + names + 1.2, 5.5), 0.3 * len(rows) + 1.1)
        for at, values in enumerate(rows.values() if valued else ()):
            for column, value in enumerate(values):
                red, green, blue, _ = image.to_rgba(np.array([value]))[0]
                light = 0.299 * red + 0.587 * green + 0.114 * blue > 0.5
                colour = "black" if light else "white"
                axes.text(column, at, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)

    return _png(draw)


def _png(draw: "Callable[[Figure], None]") -> bytes:
    """The bytes of what ``draw`` draws; same figures, same bytes."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    picture = io.BytesIO()
    # A person's matplotlibrc must not change the bytes.
    with mpl.rc_context():
        mpl.rcdefaults()
        figure = Figure(layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        figure.savefig(picture, format="png", dpi=110, metadata={"Software": None})
    return picture.getvalue()


def _write_metrics(state: State, folder: Path) -> None:
    """DVCLive's metric files, from the whole curve at once: the same after any interruption.

    Its ``Live`` is not used: it opens the git repository and fails in one without commits.
    """
    from dvclive.plots.metric import Metric

    def write(name: str, step: int, value: float) -> None:
        metric = Metric(name, str(folder))
        metric.step = step
        metric.dump(value)

    for entry in state.curve:
        for name in ("loss", "learning_rate", "gradient_norm"):
            write(name, entry["step"], entry[name])
    for entry in state.validation:
        write("validation/mean", entry["step"], entry["mean"])
        for task, loss in entry["tasks"].items():
            write(f"validation/tasks/{task}", entry["step"], loss)


def _line(entries: Sequence[dict[str, Any]], task: str) -> Line:
    return [(entry["step"], entry["tasks"][task]) for entry in entries if task in entry["tasks"]]


def _columns(line: Line) -> tuple[list[int], list[float]]:
    return [step for step, _ in line], [value for _, value in line]


def _table(row: str, column: str, value: str, values: Mapping[str, Sequence[float]]) -> pl.DataFrame:
    """One line a cell; columns are numbered from 1."""
    cells = [
        (name, number, each) for name, line in values.items() for number, each in enumerate(line, start=1)
    ]
    return pl.DataFrame(cells, schema=[row, column, value], orient="row")
