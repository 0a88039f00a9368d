"""The adapted layer, forward and backward, against plain LoRA and a literal loop over experts.

make bench-train
"""

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.moelora.layer import MoeLoraLinear, Routing
from tests.bench.table import Row, medians, show

WIDTH, RANK, EXPERTS, ALPHA = 1024, 16, 8, 32.0


def expert_loop(base: nn.Linear, experts: list[tuple[Tensor, Tensor]], x: Tensor, weights: Tensor) -> Tensor:
    """The published code's way: each expert's full-width output is gated, then summed."""
    y = base(x)
    for index, (a, b) in enumerate(experts):
        update = functional.linear(functional.linear(x, a), b)
        y = y + ALPHA / RANK * weights[:, index, None, None] * update
    return y


def step(forward: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], None]:
    def work() -> None:
        forward(x).square().mean().backward()

    return work


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="three repeats instead of fifteen")
    repeats = 3 if parser.parse_args().quick else 15
    torch.set_num_threads(2)
    torch.manual_seed(0)
    base = nn.Linear(WIDTH, WIDTH, bias=False).requires_grad_(False)
    weights = torch.softmax(torch.randn(4, EXPERTS), dim=-1)
    x = torch.randn(4, 256, WIDTH, requires_grad=True)

    scale = (ALPHA / RANK * weights).repeat_interleave(RANK // EXPERTS, dim=-1)[:, None]
    ours = MoeLoraLinear(base, "layer", RANK, 0.0, 0, Routing(scale))
    plain = MoeLoraLinear(base, "layer", RANK, 0.0, 0, Routing(torch.full((1, 1, RANK), ALPHA / RANK)))
    experts = [
        (nn.Parameter(ours.A[i : i + 2].detach().clone()), nn.Parameter(torch.randn(WIDTH, 2) * 0.01))
        for i in range(0, RANK, RANK // EXPERTS)
    ]
    with torch.no_grad():
        ours.B.copy_(torch.cat([b for _, b in experts], dim=1))
    difference = (expert_loop(base, experts, x, weights) - ours(x)).abs().max().item()

    seconds = medians(
        repeats,
        ours=step(ours, x),
        plain=step(plain, x),
        loop=step(lambda x: expert_loop(base, experts, x, weights), x),
    )
    show(
        "train",
        [
            Row("layer, MOELoRA / plain LoRA", seconds["ours"] / seconds["plain"], 1.0, "<=", 1.05),
            Row("layer, expert loop / MOELoRA", seconds["loop"] / seconds["ours"], 1.0, ">=", 2.0),
            Row("output against the loop", difference, 0.0, "<=", 1e-5, "largest difference, float32"),
        ],
    )


if __name__ == "__main__":
    main()
