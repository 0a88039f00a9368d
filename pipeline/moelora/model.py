"""MOELoRA in any Hugging Face causal model: which layers, and whose task a row is."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from pipeline.errors import InputError
from pipeline.moelora.config import MoeLoraConfig
from pipeline.moelora.gate import Gate
from pipeline.moelora.layer import MoeLoraLinear, Routing

Task = str | Sequence[str]
"""A task's name, or several: a sample of several tasks is gated by the mean of their embeddings."""


class UnknownTask(InputError):
    """The gate has no such task."""


class MoeLora(nn.Module):
    """An adapter in its base model. ``model`` is called inside ``tasks`` or ``token_tasks``.

    Made by ``inject``; ``unload`` gives the bare base back.
    """

    def __init__(
        self, model: PreTrainedModel, config: MoeLoraConfig, layers: dict[str, MoeLoraLinear]
    ) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.layers = layers
        self.routing = next(iter(layers.values())).routing
        device = next(iter(layers.values())).A.device
        self.gate: Gate | None = None
        if config.method == "moelora":
            self.gate = Gate(config.tasks, config.experts, config.seed).to(device)

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """The trained tensors by name, sorted: ``gate.*``, ``layers.<module>.A`` and ``.B``."""
        named = {
            f"layers.{name}.{part}": getattr(layer, part)
            for name, layer in self.layers.items()
            for part in ("A", "B")
        }
        if self.gate is not None:
            named |= {f"gate.{name}": parameter for name, parameter in self.gate.named_parameters()}
        return dict(sorted(named.items()))

    def weights(self, task: Task) -> Tensor:
        """Expert weights [N] of a task, float32, detached; ones for plain LoRA."""
        with torch.no_grad():
            return self._weights([task])[0]

    @contextmanager
    def tasks(self, names: Sequence[Task]) -> Iterator[None]:
        """Within, row i of every batch is of task ``names[i]``; a single name serves all rows.

        Where all names are the same, logits equal those of the exported LoRA in stock PEFT to
        the last bit; a mixed batch differs by float32's rounding.

        One backward pass for each entry. Raises UnknownTask that names the known.
        """
        if len(set(map(_group, names))) == 1:
            with self._routed(weights=self._columns(names[:1])[0]):
                yield
        else:
            with self._routed(scale=self.routing.scaling * self._columns(names)[:, None]):
                yield

    @contextmanager
    def token_tasks(self, names: Sequence[Task], lengths: Sequence[int]) -> Iterator[None]:
        """Within, a batch is one packed row [1, T]: ``lengths[i]`` tokens of task ``names[i]``
        after one another, T their sum."""
        scale = self.routing.scaling * self._columns(names)
        repeats = torch.tensor(lengths, device=scale.device)
        with self._routed(scale=scale.repeat_interleave(repeats, dim=0)[None]):
            yield

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Within, the model is the bare base, bit for bit."""
        self.routing.enabled = False
        try:
            yield
        finally:
            self.routing.enabled = True

    def unload(self) -> PreTrainedModel:
        """Take the adapter out of the model again; another may be injected then."""
        for name, layer in self.layers.items():
            _replace(self.model, name, layer.base)
        return self.model

    def _weights(self, names: Sequence[Task]) -> Tensor:
        """[len(names), N] with gradients."""
        known = {task: index for index, task in enumerate(self.config.tasks)}
        groups = [_group(name) for name in names]
        for task in {task for group in groups for task in group} - known.keys():
            raise UnknownTask(f"the adapter knows no task {task!r}: it knows {', '.join(sorted(known))}")
        if self.gate is None:
            return torch.ones(len(groups), 1, device=next(iter(self.layers.values())).A.device)
        mixture = torch.zeros(len(groups), len(known))
        for row, group in enumerate(groups):
            for task in group:
                mixture[row, known[task]] += 1 / len(group)
        weights: Tensor = self.gate(mixture.to(self.gate.embedding))
        return weights

    def _columns(self, names: Sequence[Task]) -> Tensor:
        """[len(names), r]: each expert's weight, repeated for its rank."""
        return self._weights(names).repeat_interleave(self.config.rank // self.config.experts, dim=-1)

    @contextmanager
    def _routed(self, weights: Tensor | None = None, scale: Tensor | None = None) -> Iterator[None]:
        before = self.routing.weights, self.routing.scale
        self.routing.weights, self.routing.scale = weights, scale
        try:
            yield
        finally:
            self.routing.weights, self.routing.scale = before


def inject(model: PreTrainedModel, config: MoeLoraConfig) -> MoeLora:
    """Freeze ``model`` and put the experts beside its linear layers, in place.

    B begins as zeros, so that the model's output is unchanged at first. Raises InputError
    that lists the candidates where ``config.targets`` fits no linear layer.
    """
    if any(isinstance(module, MoeLoraLinear) for module in model.modules()):
        raise ValueError("the model has an adapter already: unload() that one first")
    model.requires_grad_(False)
    routing = Routing(config.alpha / config.rank)
    layers = {}
    for name in target_names(model, config.targets):
        layer = MoeLoraLinear(
            model.get_submodule(name), name, config.rank, config.dropout, config.seed, routing
        )
        layer.train(model.training)
        _replace(model, name, layer)
        layers[name] = layer
    return MoeLora(model, config, layers)


def target_names(model: PreTrainedModel, targets: str | Sequence[str]) -> list[str]:
    """Full names of the linear layers that ``targets`` selects, in the model's order.

    ``all-linear``: every one inside the numbered blocks of the decoder, so neither the
    embedding nor the language-model head. Otherwise names match by their last parts:
    ``q_proj``, ``self_attn.q_proj``. Every given name must match.
    """
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    candidates = [
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and module is not head and _in_a_block(name)
    ]
    if targets == "all-linear":
        wanted = candidates
    else:
        suffixes = (targets,) if isinstance(targets, str) else tuple(targets)
        for suffix in suffixes:
            if not any(_ends_with(name, suffix) for name in candidates):
                raise InputError(
                    f"train.targets: {_why_not(model, suffix)}; linear layers: {_kinds(candidates)}"
                )
        wanted = [name for name in candidates if any(_ends_with(name, suffix) for suffix in suffixes)]
    if not wanted:
        raise InputError(f"{type(model).__name__} has no linear layer inside its blocks to adapt")
    return wanted


def _group(task: Task) -> tuple[str, ...]:
    return (task,) if isinstance(task, str) else tuple(task)


def _in_a_block(name: str) -> bool:
    return any(part.isdigit() for part in name.split("."))


def _ends_with(name: str, suffix: str) -> bool:
    return name == suffix or name.endswith(f".{suffix}")


def _kinds(names: Sequence[str]) -> str:
    return ", ".join(sorted({name.rsplit(".", 1)[-1] for name in names})) or "none"


def _why_not(model: PreTrainedModel, suffix: str) -> str:
    """Why no linear layer carries a name: none has it, or what has it is of another kind."""
    for name, module in model.named_modules():
        if _ends_with(name, suffix):
            return f"{suffix!r} is a {type(module).__name__} (fused experts, say), no linear layer of a block"
    return f"no layer is called {suffix!r}"


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
