"""The layer against the formula written out: a loop over experts, in float64."""

import math

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from pipeline.moelora.layer import MoeLoraLinear, Routing, draw_dropped, drop, factor, fit

RANK, EXPERTS, ALPHA = 6, 3, 12.0


def layer(base: nn.Module, dropout: float = 0.0) -> tuple[MoeLoraLinear, Routing]:
    routing = Routing(ALPHA / RANK)
    made = MoeLoraLinear(base, "blocks.0.linear", RANK, dropout, 17, routing).double()
    with torch.no_grad():
        made.B.normal_(generator=torch.Generator().manual_seed(1))
    return made, routing


def literal(made: MoeLoraLinear, x: Tensor, weights: Tensor) -> Tensor:
    """y of row b = base(x) + alpha / r * sum_i w[b, i] (x A_i^T) B_i^T, one product at a time."""
    size = RANK // EXPERTS
    rows = []
    for b in range(len(x)):
        y = made.base(x[b])
        for i in range(EXPERTS):
            A = made.A[i * size : (i + 1) * size]  # noqa: N806
            B = made.B[:, i * size : (i + 1) * size]  # noqa: N806
            y = y + ALPHA / RANK * weights[b, i] * ((x[b] @ A.T) @ B.T)
        rows.append(y)
    return torch.stack(rows)


def scale_of(weights: Tensor) -> Tensor:
    return ALPHA / RANK * weights.repeat_interleave(RANK // EXPERTS, dim=-1)


@pytest.mark.parametrize("base", [nn.Linear(5, 7), nn.Linear(5, 7, bias=False), Conv1D(7, 5)], ids=repr)
@pytest.mark.parametrize(("batch", "length"), [(4, 4), (4, 9), (1, 3), (3, 1)])
def test_equals_the_formula_forward_and_backward(base: nn.Module, batch: int, length: int) -> None:
    generator = torch.Generator().manual_seed(batch * 100 + length)
    made, routing = layer(base.double())
    x = torch.randn(batch, length, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    logits = torch.randn(batch, EXPERTS, generator=generator, dtype=torch.float64, requires_grad=True)
    probe = torch.randn(batch, length, 7, generator=generator, dtype=torch.float64)
    inputs = [x, logits, made.A, made.B]

    routing.scale = scale_of(logits.softmax(-1))[:, None]
    stacked = made(x)
    gradients = torch.autograd.grad((stacked * probe).sum(), inputs)
    wanted = literal(made, x, logits.softmax(-1))
    wanted_gradients = torch.autograd.grad((wanted * probe).sum(), inputs)
    assert (stacked - wanted).abs().max() < 1e-10
    for gradient, wanted_gradient in zip(gradients, wanted_gradients, strict=True):
        assert (gradient - wanted_gradient).abs().max() < 1e-10


def test_one_task_for_the_whole_batch_equals_the_formula_forward_and_backward() -> None:
    made, routing = layer(nn.Linear(5, 7).double())
    x = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)
    logits = torch.randn(EXPERTS, dtype=torch.float64, requires_grad=True)
    probe = torch.randn(3, 4, 7, dtype=torch.float64)
    inputs = [x, logits, made.A, made.B]
    routing.weights = logits.softmax(-1).repeat_interleave(RANK // EXPERTS)
    folded = made(x)
    gradients = torch.autograd.grad((folded * probe).sum(), inputs)
    wanted = literal(made, x, logits.softmax(-1).expand(3, -1))
    wanted_gradients = torch.autograd.grad((wanted * probe).sum(), inputs)
    assert (folded - wanted).abs().max() < 1e-10
    for gradient, wanted_gradient in zip(gradients, wanted_gradients, strict=True):
        assert (gradient - wanted_gradient).abs().max() < 1e-10


def test_a_packed_row_gives_each_token_its_own_weights() -> None:
    made, routing = layer(nn.Linear(5, 7).double())
    x = torch.randn(1, 6, 5, dtype=torch.float64)
    weights = torch.rand(6, EXPERTS, dtype=torch.float64)
    routing.scale = scale_of(weights)[None]
    assert (made(x)[0] - literal(made, x[0][:, None], weights)[:, 0]).abs().max() < 1e-10


def test_a_flattened_batch_gives_each_row_its_own_weights() -> None:
    """As in models that reshape [B, S, d] to [B * S, d] inside a block."""
    made, routing = layer(nn.Linear(5, 7).double())
    x = torch.randn(4, 6, 5, dtype=torch.float64)
    routing.scale = scale_of(torch.rand(4, EXPERTS, dtype=torch.float64))[:, None]
    assert (made(x.reshape(24, 5)) - made(x).reshape(24, 7)).abs().max() < 1e-10


@pytest.mark.parametrize(
    ("scale", "h"), [((3, 1), (4, 5)), ((1, 6), (1, 5)), ((3, 1), (10,)), ((1, 6), (5,))]
)
def test_weights_of_another_batch_are_an_error_not_a_broadcast(
    scale: tuple[int, ...], h: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="tasks are set for"):
        fit(torch.ones(*scale, RANK), torch.ones(*h, RANK))


def test_running_without_a_task_is_an_error() -> None:
    made, _ = layer(nn.Linear(5, 7).double())
    with pytest.raises(ValueError, match=r"with adapter\.tasks"):
        made(torch.ones(1, 1, 5, dtype=torch.float64))


def test_starts_as_the_bare_base_with_small_a() -> None:
    base = nn.Linear(300, 200)
    routing = Routing(1.0, scale=torch.ones(1, 1, 16))
    made = MoeLoraLinear(base, "x", 16, 0.0, 17, routing)
    x = torch.randn(2, 3, 300)
    assert torch.equal(made(x), base(x))
    assert made.A.std().item() == pytest.approx(0.01, rel=0.05)
    assert made.A.mean().item() == pytest.approx(0, abs=0.001)


def test_float32_adapter_on_a_bfloat16_base() -> None:
    made = MoeLoraLinear(nn.Linear(8, 8).bfloat16(), "x", 4, 0.0, 17, Routing(1.0, scale=torch.ones(1, 1, 4)))
    nn.init.normal_(made.B)
    y = made(torch.randn(2, 3, 8, dtype=torch.bfloat16))
    assert y.dtype == torch.bfloat16
    assert made.A.dtype == made.B.dtype == torch.float32
    y.sum().backward()
    assert made.A.grad is not None
    assert made.A.grad.dtype == torch.float32


def test_in_training_a_multiplies_in_the_bases_dtype_and_sums_stay_exact() -> None:
    """Against the same layer in float64: an error of bfloat16's size, in the outputs and in all gradients."""
    torch.manual_seed(0)
    base = nn.Linear(256, 128, bias=False).bfloat16()
    x = torch.randn(1, 500, 256)
    tops = torch.randn(1, 500, 128, dtype=torch.float64)
    results = []
    for dtype in (torch.float32, torch.float64):
        linear = nn.Linear(256, 128, bias=False, dtype=dtype)
        linear.load_state_dict(base.state_dict())
        made = MoeLoraLinear(linear, "x", 16, 0.0, 17, Routing(1.0, scale=torch.ones(1, 1, 16, dtype=dtype)))
        nn.init.constant_(made.B, 0.5)
        made = made.to(dtype).train()
        if dtype == torch.float32:
            made.base.bfloat16()
        given = x.to(dtype, copy=True).requires_grad_()
        y = made(given)
        (y.double() * tops).sum().backward()
        results.append([y, given.grad, made.A.grad, made.B.grad])
    for found, wanted in zip(*results, strict=True):
        assert found is not None
        assert wanted is not None
        error = (found.double() - wanted).norm() / wanted.norm()
        assert 1e-5 < error < 0.01
    assert made.A.grad is not None


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5])
def test_dropout_drops_its_share_and_keeps_the_mean(share: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(1000, 1001)
    dropped = draw_dropped(x, share)
    y = drop(x.clone(), dropped)
    assert (y == 0).float().mean().item() == pytest.approx(share, abs=0.002)
    assert y.mean().item() * factor(x, dropped) == pytest.approx(1, abs=0.004)
    assert len(y.unique()) == 2
    # No stripes: neighbours are dropped independently of one another.
    flat = y.double().flatten()
    assert torch.corrcoef(torch.stack([flat[:-1], flat[1:]]))[0, 1].abs() < 0.005


@pytest.mark.parametrize("size", [1, 2, 7])
def test_dropout_of_a_handful_of_numbers_keeps_their_mean(size: int) -> None:
    torch.manual_seed(0)
    x = torch.ones(size)
    total = 0.0
    for _ in range(4000):
        dropped = draw_dropped(x, 0.5)
        total += drop(x.clone(), dropped).mean().item() * factor(x, dropped)
    assert total / 4000 == pytest.approx(1, abs=0.06)


def test_in_training_all_experts_see_the_input_through_one_mask() -> None:
    """The one difference from the published code, which draws a mask for each expert."""
    made, routing = layer(nn.Linear(5, 7).double(), dropout=0.5)
    weights = torch.rand(3, EXPERTS, dtype=torch.float64)
    routing.scale = scale_of(weights)[:, None]
    x = torch.randn(3, 4, 5, dtype=torch.float64)
    torch.manual_seed(1)
    y = made(x)
    torch.manual_seed(1)
    places = draw_dropped(x, 0.5)
    dropped = drop(x.clone(), places) * factor(x, places)
    wanted = made.base(x) + literal(made, dropped, weights) - made.base(dropped)
    assert (y - wanted).abs().max() < 1e-10


def test_dropout_acts_in_training_only_and_follows_the_seed() -> None:
    made, routing = layer(nn.Linear(5, 7).double(), dropout=0.5)
    routing.scale = torch.ones(1, 1, RANK, dtype=torch.float64)
    x = torch.randn(2, 3, 5, dtype=torch.float64)
    torch.manual_seed(1)
    first, second = made(x), made(x)
    torch.manual_seed(1)
    assert torch.equal(made(x), first)
    assert not torch.equal(first, second)
    made.eval()
    assert torch.equal(made(x), made(x))


def test_gradients_with_dropout_are_those_of_the_dropped_input() -> None:
    made, routing = layer(nn.Linear(5, 7).double(), dropout=0.5)
    routing.scale = torch.rand(1, 1, RANK, dtype=torch.float64)
    x = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)

    def run(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(1)
        return torch.func.functional_call(made, {"A": a, "B": b}, (x,))

    assert torch.autograd.gradcheck(run, (x, made.A, made.B))


def test_layers_of_one_input_keep_it_once_for_the_backward_pass() -> None:
    """Query, key and value: what dropout needs again is where it was dropped."""
    layers = [layer(nn.Linear(64, 8).double().requires_grad_(False), dropout=0.1) for _ in range(3)]
    x = torch.randn(2, 50, 64, dtype=torch.float64, requires_grad=True)
    storages = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        for made, routing in layers:
            routing.scale = torch.ones(1, 1, RANK, dtype=torch.float64)
            made(x)
    inputs = [tensor for tensor in storages.values() if tensor.numel() == x.numel()]
    assert len(inputs) == 1
    places = [tensor for tensor in storages.values() if tensor.dtype == torch.int64]
    assert [tensor.numel() / x.numel() for tensor in places] == pytest.approx([-math.log(0.9)] * 3, rel=1e-3)
