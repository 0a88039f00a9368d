"""Several processes as one training: the records of a step shared out, the gradients summed.

    torchrun --nproc-per-node 4 -m pipeline.train
    accelerate launch --multi_gpu --num_processes 4 --module pipeline.train

Every rank holds the whole adapter, and the whole base or its part of it (compute.shard_base), and
takes the same decisions from the same sums. Rank 0 alone reads and writes checkpoints, and writes
what the stage leaves.

The sum over ranks is one all-reduce of the adapter's flattened gradients after a step's last row.
torch's DistributedDataParallel would hide its communication behind the backward pass, but a few
million numbers have next to none to hide; it averages where the loss has been divided by the
global count already, sums once a row unless told otherwise, and a rank that has fewer rows
than another, or a layer that no token reaches, would need more of its options.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from pipeline.errors import ParamsError
from pipeline.moelora import MoeLora
from pipeline.params import Compute

Value = TypeVar("Value")

PATIENCE = timedelta(hours=2)
"""How long a rank waits for the others: as long as rank 0 may tokenise."""


@dataclass(frozen=True)
class Ranks:
    """This process among ``count``; without arguments, the only one."""

    rank: int = 0
    count: int = 1
    parent: int | None = None
    """Process that started this rank among others."""
    shard_base: bool = False
    """Whether each holds a part of the base: every rank must then compute equally many rows."""

    @property
    def alone(self) -> bool:
        """Whether there is no other."""
        return self.count == 1

    @property
    def main(self) -> bool:
        """Whether this one reads and writes for all."""
        return self.rank == 0

    @property
    def orphaned(self) -> bool:
        """Whether what started the ranks is gone: torchrun, killed, tells none of them."""
        return self.parent is not None and os.getppid() != self.parent

    def sum(self, values: Tensor) -> None:
        """Replace ``values``, of one shape on all ranks, by their sum: the same bits on every rank."""
        if not self.alone:
            distributed.all_reduce(values)

    def share(self, value: Value) -> Value:
        """The ``value`` of rank 0 (picklable), on every rank."""
        values = [value]
        if not self.alone:
            distributed.broadcast_object_list(values, src=0, device=torch.device("cpu"))
        return values[0]

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The block is run by rank 0, then by the others: they find what it left in the cache."""
        if not self.main:
            self.share(None)
        yield
        if self.main:
            self.share(None)


@contextmanager
def join(compute: Compute) -> Iterator[tuple[Ranks, str]]:
    """The ranks that torchrun or accelerate started, and this one's device: its own of several GPUs.

    Raises ParamsError where the parameters ask for what is not there.
    """
    device = compute.device
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        if compute.shard_base:
            raise ParamsError(
                "compute.shard_base: one process has nobody to share the base with: start several by "
                "torchrun --nproc-per-node N -m pipeline.train, or set it to false"
            )
        yield Ranks(), device
        return
    on_gpu = device.startswith("cuda")
    if on_gpu:
        if not torch.cuda.is_available():
            raise ParamsError(f"compute.device: {device!r} is not to be had: this torch sees no GPU")
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    # The processor's tensors too: flags, sums of losses and whole checkpoints travel by gloo.
    distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=PATIENCE)
    try:
        rank, count = distributed.get_rank(), distributed.get_world_size()
        yield Ranks(rank, count, os.getppid(), compute.shard_base), device
    finally:
        distributed.destroy_process_group()


def shard(adapter: MoeLora, device: str) -> None:
    """Leave each rank its part of the base's blocks, on ``device``, fetched from the others block by
    block when it is computed (FSDP2).

    The adapter, embedding and head stay whole: gradients and optimiser are those of unsharded
    training, and the head may share its weight with the embedding, outside the blocks.
    """
    model = adapter.model
    ends = (model.get_input_embeddings(), model.get_output_embeddings())  # type: ignore[no-untyped-call]
    whole = {*adapter.adapter_parameters().values(), *(p for end in ends for p in end.parameters())}
    mesh = init_device_mesh(torch.device(device).type, (distributed.get_world_size(),))
    for name in sorted({_block(name) for name in adapter.layers}):
        fully_shard(model.get_submodule(name), mesh=mesh, ignored_params=whole)
    fully_shard(model.base_model, mesh=mesh, ignored_params=whole)
    for parameter in whole:
        parameter.data = parameter.data.to(device)


def _block(name: str) -> str:
    """The numbered block that the layer ``name`` is in."""
    parts = name.split(".")
    number = next(i for i, part in enumerate(parts) if part.isdigit())
    return ".".join(parts[: number + 1])
