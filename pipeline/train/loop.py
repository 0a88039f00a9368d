"""The training loop: packed batches, answer-only loss, a state that survives any interruption."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.errors import PipelineError, Stopped
from pipeline.moelora import MoeLora, saving
from pipeline.params import Train
from pipeline.stage import Progress
from pipeline.train import checkpoint
from pipeline.train.attention import packed
from pipeline.train.checkpoint import State
from pipeline.train.data import Batch, Sample, Tokens, pack


class Loop:
    """Training of one adapter, from its newest checkpoint on.

    After ``run`` the adapter holds the weights of ``state.best_step``.
    """

    def __init__(
        self,
        adapter: MoeLora,
        params: Train,
        device: str,
        row_tokens: int,
        tokens: Tokens,
        order: Sequence[str],
        validation: Sequence[str],
        checkpoints: Path,
        progress: Progress,
    ) -> None:
        self.adapter = adapter
        self.params = params
        self.device = device
        self.row_tokens = row_tokens
        self.tokens = tokens
        self.order = order
        self.validation = validation
        self.checkpoints = checkpoints
        self.progress = progress
        self.steps = math.ceil(len(order) / params.batch_records)
        self.parameters = adapter.adapter_parameters()
        # No weight decay, as in the paper's script; fused, since hundreds of small tensors step.
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=params.learning_rate, weight_decay=0.0, fused=True
        )
        self.state = State()
        self.best: dict[str, Tensor] = {}
        self.saved = 0
        torch.manual_seed(params.seed)
        self.random = checkpoint.random_state(device)
        self._resume()
        self._started = (time.monotonic(), self.state.step)
        self._computed = 0

    def run(self) -> State:
        """Train to the end.

        Raises Stopped after saving where a signal came, PipelineError where the loss is not
        finite; the last checkpoint is whole in both cases.
        """
        try:
            while True:
                if self._validation_is_due():
                    self._validate()
                if self.state.step % self.params.checkpoint_every == 0:
                    self._save()
                if self.state.step == self.steps:
                    break
                self._train_step()
        except Stopped:
            self._save()
            raise
        if not self.best:
            self._keep_best()
        self._save()
        checkpoint.prune(self.checkpoints, 1)
        saving.restore(self.adapter, self.best)
        return self.state

    def _train_step(self) -> None:
        step = self.state.step
        size = self.params.batch_records
        samples = [self.tokens[sample_id] for sample_id in self.order[step * size : (step + 1) * size]]
        shares = token_shares(samples, self.params.loss)
        rate = learning_rate(step, self.steps, self.params.warmup, self.params.learning_rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.adapter.train()
        checkpoint.restore_random_state(self.random, self.device)
        self.optimizer.zero_grad()
        loss = 0.0
        for row in pack(samples, self.row_tokens, self.device):
            self.progress.check_stop()
            with routed(self.adapter, row):
                part = (token_losses(self.adapter, row) * weights(row, shares)).sum()
                # Inside the context: gradient checkpointing runs the layers again.
                part.backward()  # type: ignore[no-untyped-call]
            loss += part.item()
            self._computed += sum(row.lengths)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.params.clip).item()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            tasks = ", ".join(sorted({sample.task for sample in samples}))
            raise PipelineError(
                f"training stopped at step {step + 1}: loss {loss}, gradient norm {norm}, tasks {tasks}; "
                "lower train.learning_rate. The last checkpoint is kept"
            )
        self.optimizer.step()
        self.random = checkpoint.random_state(self.device)
        self.state.step += 1
        self.state.curve.append(
            {"step": step + 1, "loss": loss, "learning_rate": rate, "gradient_norm": norm}
        )
        self._tell(f"loss {loss:.3f}")

    def _validation_is_due(self) -> bool:
        step = self.state.step
        done = bool(self.state.validation) and self.state.validation[-1]["step"] == step
        at = step == self.steps or step % self.params.validate_every == 0
        return bool(self.validation) and step > 0 and at and not done

    def _validate(self) -> None:
        """Mean token loss of each task, in evaluation mode; the mean over tasks picks the best."""
        sums: dict[str, list[float]] = {}
        samples = [self.tokens[sample_id] for sample_id in self.validation]
        rows = pack(samples, self.row_tokens, self.device)
        for task, loss, count in evaluate(self.adapter, rows, self.progress):
            entry = sums.setdefault(task, [0.0, 0.0])
            entry[0] += loss
            entry[1] += count
        tasks = {task: loss / count for task, (loss, count) in sorted(sums.items())}
        mean = math.fsum(tasks.values()) / len(tasks)
        if not math.isfinite(mean):
            raise PipelineError(
                f"validation loss after step {self.state.step} is not finite for "
                f"{', '.join(task for task, loss in tasks.items() if not math.isfinite(loss))}; "
                "lower train.learning_rate. The last checkpoint is kept"
            )
        best = min((entry["mean"] for entry in self.state.validation), default=math.inf)
        self.state.validation.append({"step": self.state.step, "mean": mean, "tasks": tasks})
        if mean < best:
            self._keep_best()
        self._tell(f"validation loss {mean:.3f}")

    def _keep_best(self) -> None:
        self.state.best_step = self.state.step
        self.best = {name: tensor.clone() for name, tensor in saving.tensors(self.adapter).items()}

    def _tell(self, what: str) -> None:
        started, first = self._started
        seconds = time.monotonic() - started
        left = seconds / max(self.state.step - first, 1) * (self.steps - self.state.step)
        speed = f"{self._computed / seconds:.0f} tokens/s"
        self.progress.update(self.state.step, self.steps, f"{what}, {speed}, {left / 60:.0f} min left")

    def _save(self) -> None:
        """Add a checkpoint of this step; one that is there already is never touched again."""
        if self.state.step <= self.saved:
            return
        optimiser = {
            f"{name}/{key}": value
            for name, parameter in self.parameters.items()
            for key, value in self.optimizer.state[parameter].items()
        }
        groups = {"adapter": saving.tensors(self.adapter), "optimiser": optimiser}
        checkpoint.save(self.checkpoints, self.state, groups | {"random": self.random, "best": self.best})

    def _resume(self) -> None:
        found = checkpoint.load(self.checkpoints)
        if found is None:
            return
        self.state, tensors = found
        self.saved = self.state.step
        saving.restore(self.adapter, tensors["adapter"])
        for name, value in tensors.get("optimiser", {}).items():
            parameter, _, key = name.rpartition("/")
            self.optimizer.state[self.parameters[parameter]][key] = value.to(self.device)
        self.random = tensors["random"]
        self.best = tensors.get("best", {})
        self.progress.count(resumed_at_step=self.state.step)


@contextmanager
def routed(adapter: MoeLora, row: Batch) -> Iterator[None]:
    """Within, the model takes ``row``: each sample's own task weights and attention."""
    with adapter.token_tasks(row.tasks, row.lengths), packed(row.lengths):
        yield


def token_losses(adapter: MoeLora, row: Batch) -> Tensor:
    """Cross-entropy [K], float32, of every answer token; the head runs at those positions only."""
    output: Any = adapter.model(
        input_ids=row.ids, position_ids=row.positions, use_cache=False, logits_to_keep=row.predicting
    )
    return functional.cross_entropy(output.logits[0].float(), row.labels, reduction="none")


def token_shares(samples: Sequence[Sample], loss: str) -> dict[str, float]:
    """What one answer token of each task weighs in a step's loss; over all tokens it sums to 1.

    ``tokens``: all weigh the same. ``tasks``: every task of the step weighs the same, so that one
    with answers of a word is not drowned by one that writes reports.
    """
    counts: dict[str, int] = {}
    for sample in samples:
        counts[sample.task] = counts.get(sample.task, 0) + sample.answer_tokens
    if loss == "tokens":
        return dict.fromkeys(counts, 1 / sum(counts.values()))
    return {task: 1 / (len(counts) * count) for task, count in counts.items()}


def weights(row: Batch, shares: dict[str, float]) -> Tensor:
    """[K] float32: the share of each token that ``row`` predicts."""
    per_sample = torch.tensor([shares[task] for task in row.tasks], device=row.labels.device)
    return per_sample.repeat_interleave(torch.tensor(row.answers, device=row.labels.device))


def evaluate(adapter: MoeLora, rows: Sequence[Batch], progress: Progress) -> Iterator[tuple[str, float, int]]:
    """(task, summed token loss, tokens) of each sample, without gradients or dropout."""
    adapter.eval()
    for row in rows:
        progress.check_stop()
        with torch.no_grad(), routed(adapter, row):
            losses = torch.split(token_losses(adapter, row), list(row.answers))
        for task, part in zip(row.tasks, losses, strict=True):
            yield task, part.sum().item(), len(part)


def learning_rate(step: int, steps: int, warmup: float, peak: float) -> float:
    """Rate of step ``step`` (from 0): linear up to ``peak`` over the first ``warmup`` of all
    steps, then half a cosine that would reach zero one step after the last."""
    rise = round(warmup * steps)
    if step < rise:
        return peak * (step + 1) / rise
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rise) / (steps - rise)))
