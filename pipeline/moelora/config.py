"""What decides an adapter's shape and its first values."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class MoeLoraConfig:
    """Shape of an adapter; contradictions are ValueErrors."""

    tasks: tuple[str, ...]
    """Names the gate knows, each once."""

    method: Literal["moelora", "lora"] = "moelora"
    """``lora`` is one expert without a gate: the plain baseline from the same code."""

    gate: Literal["shared", "per_layer", "uniform"] = "shared"
    """One gate for all layers; a gate with task embeddings of its own for each layer; or 1/N for
    every expert, with nothing to train; the last where the method is ``lora``."""

    rank: int = 16
    """Total over the experts: the parameter count is that of a plain LoRA of this rank."""

    experts: int = 8
    """Experts of rank ``rank / experts`` each; 1 where the method is ``lora``."""

    alpha: float = 32.0
    """The update is scaled by ``alpha / rank``, see ``scaling``."""

    scaling: Literal["standard", "rslora"] = "standard"
    """``rslora``: by ``alpha / sqrt(rank)`` instead (D. Kalajdzievski, arXiv 2312.03732)."""

    dropout: float = 0.0
    """Share of the adapter's input that is zeroed while training."""

    targets: str | tuple[str, ...] = "all-linear"
    """``all-linear``: every linear layer of the decoder's blocks; or the last parts of names."""

    seed: int = 17
    """Of the first values of A, task embeddings and gate."""

    def __post_init__(self) -> None:
        if not isinstance(self.targets, str):
            object.__setattr__(self, "targets", tuple(self.targets))
        object.__setattr__(self, "tasks", tuple(self.tasks))
        if self.method == "lora":
            object.__setattr__(self, "experts", 1)
            object.__setattr__(self, "gate", "uniform")
        if not self.tasks or len(set(self.tasks)) != len(self.tasks):
            raise ValueError("an adapter needs at least one task, and each once")
        if min(self.rank, self.experts) < 1 or self.rank % self.experts:
            raise ValueError(f"rank {self.rank} is not divisible by experts {self.experts}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout} is not in [0, 1)")

    @property
    def scale(self) -> float:
        """What the update is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.scaling == "rslora" else self.rank)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values; ``MoeLoraConfig(**values)`` gives the same configuration."""
        return (
            asdict(self)
            | {"tasks": list(self.tasks)}
            | ({} if isinstance(self.targets, str) else {"targets": list(self.targets)})
        )
