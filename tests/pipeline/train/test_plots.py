"""What is drawn of a training, and that it can be read and compared."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import polars as pl
import pytest
import torch
import yaml
from matplotlib import rc_context
from matplotlib.image import imread
from transformers import AutoModelForCausalLM

from pipeline.moelora import MoeLora, MoeLoraConfig, inject
from pipeline.train import plots
from pipeline.train.checkpoint import State
from tests.conftest import ROOT
from tests.tiny import tiny_base

TASKS = ("mts-section", "rqe", "summary")
LONG = "a-task-of-the-longest-name-that-a-record-may-carry-as-its-task-x"


def adapter_of(folder: Path, experts: int = 4, **options: str) -> MoeLora:
    """An adapter of rank 8 on the tiny base whose B are no longer zero."""
    model = AutoModelForCausalLM.from_pretrained(tiny_base(folder / "base"))
    adapter = inject(model, MoeLoraConfig(TASKS, rank=8, experts=experts, **options))  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in adapter.layers.values():
            layer.B.normal_(generator=generator)
    return adapter


def state_of(tasks: Sequence[str], steps: int) -> State:
    """Losses that fall; a task is in every second step only, and the last is never validated."""
    curve = [
        {
            "step": step,
            "loss": 3 / step,
            "learning_rate": 0.1,
            "gradient_norm": 1.0,
            "tasks": {task: 2 / step + at for at, task in enumerate(tasks) if (step + at) % 2},
        }
        for step in range(1, steps + 1)
    ]
    validation = [
        {"step": step, "mean": 2 / step, "tasks": dict.fromkeys(tasks[:-1], 1 / step)}
        for step in range(5, steps + 1, 5)
    ]
    return State(steps, curve, validation, 5)


def gate_of(tasks: Sequence[str], experts: int) -> dict[str, list[float]]:
    total = experts * (experts + 1) / 2
    return {task: [(expert + 1) / total for expert in range(experts)] for task in tasks}


def names(count: int, name: str) -> list[str]:
    """``count`` task names of the length of ``name``."""
    return [f"{name[:-3]}-{number:02d}" for number in range(count)]


def test_experts_are_compared_as_their_full_matrices_are(tmp_path: Path) -> None:
    adapter = adapter_of(tmp_path)
    expected = torch.zeros(4, 4, dtype=torch.float64)
    for layer in adapter.layers.values():
        a, b = layer.A.detach().double(), layer.B.detach().double()
        updates = [(b[:, i : i + 2] @ a[i : i + 2]).flatten() for i in range(0, 8, 2)]
        expected += torch.tensor(
            [[torch.cosine_similarity(one, other, dim=0) for other in updates] for one in updates]
        )
    similarity = plots.expert_similarity(adapter)
    assert similarity.dtype == torch.float64
    assert torch.allclose(similarity, expected / len(adapter.layers), atol=1e-6)
    assert torch.allclose(similarity, similarity.T, atol=1e-12)


def test_equal_opposite_and_absent_experts_are_told_apart(tmp_path: Path) -> None:
    adapter = adapter_of(tmp_path)
    with torch.no_grad():
        for layer in adapter.layers.values():
            layer.A[2:4], layer.B[:, 2:4] = layer.A[:2], 5 * layer.B[:, :2]
            layer.A[4:6], layer.B[:, 4:6] = layer.A[:2], -layer.B[:, :2]
            layer.B[:, 6:] = 0
    expected = [[1, 1, -1, 0], [1, 1, -1, 0], [-1, -1, 1, 0], [0, 0, 0, 0]]
    assert torch.allclose(plots.expert_similarity(adapter), torch.tensor(expected).double())


def test_everything_is_written_and_the_tables_hold_what_is_drawn(tmp_path: Path) -> None:
    adapter = adapter_of(tmp_path)
    plots.write(state_of(TASKS, 20), adapter, tmp_path)
    for name in ("losses", "gate", "similarity"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    gate = pl.read_csv(tmp_path / "gate.csv")
    assert gate.columns == ["task", "expert", "weight"]
    for task in TASKS:
        rows = gate.filter(task=task)
        assert rows["expert"].to_list() == [1, 2, 3, 4]
        assert rows["weight"].to_list() == pytest.approx(adapter.weights(task).tolist())
    similarity = pl.read_csv(tmp_path / "similarity.csv")
    assert similarity.columns == ["expert", "other", "cosine"]
    assert similarity["cosine"].to_list() == pytest.approx(
        plots.expert_similarity(adapter).flatten().tolist()
    )
    assert pl.read_csv(tmp_path / "metrics/loss.tsv", separator="\t").height == 20


def test_one_expert_has_no_gate_to_draw(tmp_path: Path) -> None:
    adapter = adapter_of(tmp_path, method="lora")
    (tmp_path / "out").mkdir()
    plots.write(state_of(TASKS, 20), adapter, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"losses.png", "metrics"}


def test_of_per_layer_gates_the_mean_is_drawn(tmp_path: Path) -> None:
    adapter = adapter_of(tmp_path, gate="per_layer")
    plots.write(state_of(TASKS, 20), adapter, tmp_path)
    layers = torch.stack(list(adapter.layer_weights("rqe").values()))
    rows = pl.read_csv(tmp_path / "gate.csv").filter(task="rqe")
    assert rows["weight"].to_list() == pytest.approx(layers.mean(dim=0).tolist())


@pytest.mark.parametrize(
    ("tasks", "experts", "name"), [(1, 2, "rqe-00"), (14, 8, LONG), (30, 32, LONG), (30, 2, "rqe-00")]
)
def test_nothing_is_cut_at_the_edge_of_a_heat_map(tasks: int, experts: int, name: str) -> None:
    assert_whole(plots.gate_map(gate_of(names(tasks, name), experts)))


@pytest.mark.parametrize("experts", [2, 32])
def test_similarity_is_drawn_for_few_and_many_experts(experts: int) -> None:
    assert_whole(plots.similarity_map(torch.eye(experts).tolist()))


@pytest.mark.parametrize(("tasks", "name", "steps"), [(1, "rqe-00", 1), (14, LONG, 60)])
def test_nothing_is_cut_at_the_edge_of_the_losses(tasks: int, name: str, steps: int) -> None:
    assert_whole(plots.losses(state_of(names(tasks, name), steps)))


def assert_whole(png: bytes) -> None:
    """White all around, so that no label runs out of the picture; and no date or version in it."""
    pixels = imread(BytesIO(png), format="png")[..., :3]
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (edge == 1).all()
    assert not any(chunk in png for chunk in (b"tEXt", b"iTXt", b"tIME"))


def test_nobodys_matplotlibrc_changes_the_bytes() -> None:
    """That another process gives the same is shown with the stage's other outputs in test_train."""
    before = plots.losses(state_of(TASKS, 20)), plots.gate_map(gate_of(TASKS, 8))
    with rc_context({"font.size": 30, "image.cmap": "gray", "savefig.dpi": 50}):
        assert (plots.losses(state_of(TASKS, 20)), plots.gate_map(gate_of(TASKS, 8))) == before


@pytest.mark.parametrize("method", ["moelora", "lora"])
def test_dvc_shows_all_that_there_is(tmp_path: Path, method: str) -> None:
    folder = tmp_path / "reports/plots/train"
    folder.mkdir(parents=True)
    plots.write(state_of(TASKS, 20), adapter_of(tmp_path, method=method), folder)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=tmp_path, check=True)
    shutil.copytree(ROOT / ".dvc/plots", tmp_path / ".dvc/plots")
    definition = yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"]
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"plots": definition}))
    command = [sys.executable, "-m", "dvc", "plots", "show", "--json"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    plot = {Path(name).name: specs for name, specs in json.loads(shown.stdout)["data"].items() if specs}
    assert plot.keys() == {path.name for path in folder.rglob("*") if path.is_file()}
    if method == "moelora":
        spec = plot["gate.csv"][0]["content"]
        assert spec["spec"]["encoding"]["y"]["field"] == "task"
        assert len(spec["data"]["values"]) == len(TASKS) * 4
