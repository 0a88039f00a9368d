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


EXPERTS = {"gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"}
"""Names of an expert's layers before transformers 5 fused them. In a model with fused experts PEFT
0.21 takes every target of such a name for the experts, dense layers and shared experts too
(huggingface/peft issue 3711): a LoRA for those it could not load."""


class UnknownTask(InputError):
    """The gate has no such task."""


class MoeLora(nn.Module):
    """An adapter in its base model. ``model`` is called inside ``tasks`` or ``token_tasks``.

    Made by ``inject``; ``unload`` gives the bare base back. Where every layer has its own gate,
    the gates are stacked in the order of ``layers``, that of their names.
    """

    def __init__(
        self, model: PreTrainedModel, config: MoeLoraConfig, layers: dict[str, MoeLoraLinear]
    ) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.layers = layers
        first = next(iter(layers.values()))
        self.routings = [first.routing]
        """One for each gate."""
        self.gate: Gate | None = None
        if config.gate == "shared":
            self.gate = Gate(config.tasks, config.experts, config.seed).to(first.A.device)
        elif config.gate == "per_layer":
            self.gate = Gate(config.tasks, config.experts, config.seed, list(layers)).to(first.A.device)
            self.routings = [layer.routing for layer in layers.values()]

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
        """Expert weights [N] of a task, float32, detached: the mean over layers where each has its
        own gate, 1 for plain LoRA."""
        with torch.no_grad():
            return self._weights([task])[:, 0].mean(dim=0)

    def layer_weights(self, task: Task) -> dict[str, Tensor]:
        """Expert weights [N] of a task in every layer, by the layer's name, float32, detached."""
        with torch.no_grad():
            rows = self._weights([task])[:, 0].expand(len(self.layers), -1)
        return dict(zip(self.layers, rows, strict=True))

    @contextmanager
    def tasks(self, names: Sequence[Task]) -> Iterator[None]:
        """Within, row i of every batch is of task ``names[i]``; a single name serves all rows.

        Where all names are the same, logits equal those of the exported LoRA in stock PEFT to
        the last bit; a mixed batch differs by float32's rounding.

        One backward pass for each entry. Raises UnknownTask that names the known.
        """
        if len(set(map(_group, names))) == 1:
            with self._routed(weights=self._columns(names[:1])[:, 0]):
                yield
        else:
            with self._routed(scale=self.config.scale * self._columns(names)[:, :, None]):
                yield

    @contextmanager
    def token_tasks(self, names: Sequence[Task], lengths: Sequence[int]) -> Iterator[None]:
        """Within, a batch is one packed row [1, T]: ``lengths[i]`` tokens of task ``names[i]``
        after one another, T their sum."""
        scale = self.config.scale * self._columns(names)
        repeats = torch.tensor(lengths, device=scale.device)
        with self._routed(scale=scale.repeat_interleave(repeats, dim=1)[:, None]):
            yield

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Within, the model is the bare base, bit for bit."""
        for routing in self.routings:
            routing.enabled = False
        try:
            yield
        finally:
            for routing in self.routings:
                routing.enabled = True

    def unload(self) -> PreTrainedModel:
        """Take the adapter out of the model again; another may be injected then."""
        for name, layer in self.layers.items():
            _replace(self.model, name, layer.base)
        return self.model

    def _weights(self, names: Sequence[Task]) -> Tensor:
        """[gates, len(names), N] with gradients."""
        known = {task: index for index, task in enumerate(self.config.tasks)}
        groups = [_group(name) for name in names]
        for task in {task for group in groups for task in group} - known.keys():
            raise UnknownTask(f"the adapter knows no task {task!r}: it knows {', '.join(sorted(known))}")
        if self.gate is None:
            shape = (1, len(groups), self.config.experts)
            return next(iter(self.layers.values())).A.new_full(shape, 1 / self.config.experts)
        mixture = torch.zeros(len(groups), len(known), dtype=self.gate.embedding.dtype)
        for row, group in enumerate(groups):
            for task in group:
                mixture[row, known[task]] += 1 / len(group)
        weights: Tensor = self.gate(mixture.to(self.gate.embedding))
        return weights if weights.dim() == 3 else weights[None]

    def _columns(self, names: Sequence[Task]) -> Tensor:
        """[gates, len(names), r]: each expert's weight, repeated for its rank."""
        return self._weights(names).repeat_interleave(self.config.rank // self.config.experts, dim=-1)

    @contextmanager
    def _routed(self, weights: Tensor | None = None, scale: Tensor | None = None) -> Iterator[None]:
        """Within, gate g's layers apply row g of ``weights`` [gates, r] or ``scale`` [gates, ..]."""
        before = [(routing.weights, routing.scale) for routing in self.routings]
        # Split at once: an index for each gate would give each a gradient of the size of all.
        none = [None] * len(self.routings)
        now = zip(none if weights is None else weights, none if scale is None else scale, strict=True)
        try:
            for routing, values in zip(self.routings, now, strict=True):
                routing.weights, routing.scale = values
            yield
        finally:
            for routing, values in zip(self.routings, before, strict=True):
                routing.weights, routing.scale = values


def inject(model: PreTrainedModel, config: MoeLoraConfig) -> MoeLora:
    """Freeze ``model`` and put the experts beside its linear layers, in place.

    B begins as zeros, so that the model's output is unchanged at first. Raises InputError
    that lists the candidates where ``config.targets`` fits no linear layer.
    """
    if any(isinstance(module, MoeLoraLinear) for module in model.modules()):
        raise ValueError("the model has an adapter already: unload() that one first")
    model.requires_grad_(False)
    routing = Routing(config.scale)
    layers = {}
    for name in sorted(target_names(model, config.targets)):
        if config.gate == "per_layer":
            routing = Routing(config.scale)
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
    embedding nor the language-model head; of a mixture-of-experts model no router, nor what PEFT
    takes for its fused experts. Otherwise names match by their last parts: ``q_proj``,
    ``self_attn.q_proj``. Every given name must match.
    """
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    taken = EXPERTS if _has_fused_experts(model) else set()
    candidates = [
        name
        for name, module in model.named_modules()
        if _is_linear(module) and module is not head and _in_a_block(name) and _last(name) not in taken
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


def _is_linear(module: nn.Module) -> bool:
    """A plain product with one weight; subclasses of nn.Linear may be quantised, or quite another thing."""
    other = type(module).__name__.endswith(("Router", "GroupedLinear"))
    return isinstance(module, (nn.Linear, Conv1D)) and not other


def _has_fused_experts(model: nn.Module) -> bool:
    return any(_ends_with(name, "experts.gate_up_proj") for name, _ in model.named_parameters())


def _in_a_block(name: str) -> bool:
    return any(part.isdigit() for part in name.split("."))


def _ends_with(name: str, suffix: str) -> bool:
    return name == suffix or name.endswith(f".{suffix}")


def _kinds(names: Sequence[str]) -> str:
    return ", ".join(sorted(set(map(_last, names)))) or "none"


def _last(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def _why_not(model: PreTrainedModel, suffix: str) -> str:
    """Why no linear layer carries a name: none has it, or what has it is of another kind."""
    if _has_fused_experts(model) and {*suffix.split(".")} & {*EXPERTS, "experts", "gate_up_proj"}:
        return f"{suffix!r} is, or PEFT takes it for, the fused experts, which are not adapted"
    for name, module in model.named_modules():
        if _ends_with(name, suffix):
            return f"{suffix!r} is a {type(module).__name__}, no linear layer of a block"
    return f"no layer is called {suffix!r}"


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
