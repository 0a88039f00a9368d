"""The training loop: packed batches, answer-only loss, a state that survives any interruption."""

import hashlib
import math
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.attention import packed
from pipeline.errors import PipelineError, Stopped
from pipeline.moelora import MoeLora, saving
from pipeline.params import Train
from pipeline.stage import Progress
from pipeline.train import checkpoint
from pipeline.train.checkpoint import State
from pipeline.train.data import Batch, Sample, Tokens, batch, fit, part
from pipeline.train.loss import TaskSums, token_losses, token_shares, weights
from pipeline.train.ranks import Ranks


class Loop:
    """Training of one adapter, from its newest checkpoint on, by all ``ranks`` together.

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
        checkpoints: Path | None,
        progress: Progress,
        ranks: Ranks | None = None,
    ) -> None:
        """``order``, ``validation``: sample ids; ``checkpoints``: their folder, needed by rank 0 alone."""
        self.adapter = adapter
        self.params = params
        self.device = device
        self.row_tokens = row_tokens
        self.tokens = tokens
        self.order = order
        self.validation = validation
        self.checkpoints = checkpoints
        self.progress = progress
        self.ranks = ranks or Ranks()
        self.steps = math.ceil(len(order) / params.batch_records)
        self.parameters = adapter.adapter_parameters()
        self.gradients = flat_gradients(list(self.parameters.values()))
        slow = [parameter for name, parameter in self.parameters.items() if not name.endswith(".B")]
        fast = [parameter for name, parameter in self.parameters.items() if name.endswith(".B")]
        groups = [{"params": slow, "ratio": 1.0}, {"params": fast, "ratio": params.lora_plus_ratio}]
        # No weight decay, as in the paper's script; fused, since hundreds of small tensors step.
        self.optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=params.learning_rate,
            weight_decay=0.0,
            fused=True,
        )
        self.state = State()
        self.best: dict[str, Tensor] = {}
        self.saved = 0
        self._resume()
        self._started = (time.monotonic(), self.state.step)
        self._trained = 0
        self._real = self._computed = 0
        self._stopping = False

    def run(self) -> State:
        """Train to the end, or until ``train.patience`` validations in a row were no better.

        Raises Stopped after saving where a signal came to any rank, PipelineError where the loss
        is not finite; the last checkpoint is whole in both cases.
        """
        try:
            while True:
                self._leave_together()
                if self._validation_is_due():
                    self._validate()
                if self.state.step % self.params.checkpoint_every == 0:
                    self._save()
                if self.state.step == self.steps or self.stopped_early:
                    break
                self._train_step()
        except Stopped:
            self._save()
            raise
        if not self.best:
            self._keep_best()
        self._save()
        if self.checkpoints:
            checkpoint.prune(self.checkpoints, 1)
        saving.restore(self.adapter, self.best)
        return self.state

    @property
    def stopped_early(self) -> bool:
        """Whether patience ended the training before its last step."""
        since = sum(entry["step"] > (self.state.best_step or 0) for entry in self.state.validation)
        patience = self.params.patience
        return patience is not None and since >= patience and self.state.step < self.steps

    def _train_step(self) -> None:
        step = self.state.step
        size = self.params.batch_records
        samples = [self.tokens[sample_id] for sample_id in self.order[step * size : (step + 1) * size]]
        # Of the whole step, whichever rank computes a sample: the sum over ranks is the loss.
        shares = token_shares(samples, self.params.loss)
        rate = learning_rate(step, self.steps, self.params.warmup, self.params.learning_rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["ratio"]
        self.adapter.train()
        # Dropout's masks depend on seed, step and rank alone: nothing of them needs saving.
        torch.manual_seed(_seed(self.params.seed, step, self.ranks.rank))
        self.gradients.zero_()
        sums = TaskSums(shares, self.device)
        for row in self._rows(samples):
            self._check_stop()
            with routed(self.adapter, row):
                losses = token_losses(self.adapter, row)
                # Inside the context: gradient checkpointing runs the layers again.
                (losses * weights(row, shares)).sum().backward()  # type: ignore[no-untyped-call]
            sums.add(row, losses.detach())
            self._count(row)
        self.ranks.sum(self.gradients)
        self._gather(sums)
        norm = self._clip()
        tasks = sums.means()
        loss = math.fsum(shares[task] * total for task, total in sums.totals().items())
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise PipelineError(
                f"training stopped at step {step + 1}: loss {loss}, gradient norm {norm}, "
                f"tasks {_at_fault(tasks)}; lower train.learning_rate. The last checkpoint is kept"
            )
        self.optimizer.step()
        self.state.step += 1
        self._trained += sum(sample.length for sample in samples)
        self.state.curve.append(
            {"step": step + 1, "loss": loss, "learning_rate": rate, "gradient_norm": norm, "tasks": tasks}
        )
        self._tell(f"loss {loss:.3f}")

    def _rows(self, samples: Sequence[Sample]) -> list[Batch]:
        """What this rank computes of ``samples``.

        Where each rank holds a part of the base, no block can be computed by one rank alone: rows of
        one token without an answer, which add nothing to any sum, make the ranks' rows equally many.
        """
        ranks = range(self.ranks.count) if self.ranks.shard_base else (self.ranks.rank,)
        rows = {rank: fit(part(samples, rank, self.ranks.count), self.row_tokens) for rank in ranks}
        own = rows[self.ranks.rank]
        nothing = Sample(samples[0].task, np.zeros(2, dtype=np.int32), 2, False)
        own += [[nothing]] * (max(map(len, rows.values())) - len(own))
        return [batch(row, self.device) for row in own]

    def _clip(self) -> float:
        """The norm of all gradients, which are scaled down to ``train.clip`` where it is larger."""
        norm: float = torch.linalg.vector_norm(self.gradients).item()
        if norm > self.params.clip:
            self.gradients.mul_(self.params.clip / norm)
        return norm

    def _check_stop(self) -> None:
        """Between rows: several ranks wait for each other's sums, so that none may leave here."""
        if self.ranks.alone:
            self.progress.check_stop()

    def _leave_together(self) -> None:
        """Between steps: where a signal had come to any rank, or torchrun was gone, by their last sum."""
        if self._stopping:
            self.progress.stop_requested = True
            self.progress.check_stop()

    def _gather(self, sums: TaskSums) -> None:
        """Sum over ranks, and let all of them know whether one has to stop."""
        leave = self.progress.stop_requested or self.ranks.orphaned
        stop = torch.tensor([float(leave)], dtype=torch.float64)
        values = torch.cat([sums.values.cpu().flatten(), stop])
        self.ranks.sum(values)
        sums.values = values[:-1].view(2, -1)
        self._stopping = bool(values[-1])

    def _validation_is_due(self) -> bool:
        step = self.state.step
        done = bool(self.state.validation) and self.state.validation[-1]["step"] == step
        at = step == self.steps or step % self.params.validate_every == 0
        return bool(self.validation) and step > 0 and at and not done

    def _validate(self) -> None:
        """Mean token loss of each task, in evaluation mode; the mean over tasks picks the best."""
        samples = [self.tokens[sample_id] for sample_id in self.validation]
        sums = TaskSums(sorted({sample.task for sample in samples}), self.device)
        self.adapter.eval()
        for row in self._rows(samples):
            self._check_stop()
            with torch.no_grad(), routed(self.adapter, row):
                sums.add(row, token_losses(self.adapter, row))
            self._count(row)
        self._gather(sums)
        tasks = sums.means()
        mean = math.fsum(tasks.values()) / len(tasks)
        if not math.isfinite(mean):
            raise PipelineError(
                f"validation loss after step {self.state.step} is not finite for tasks {_at_fault(tasks)}; "
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

    def _count(self, row: Batch) -> None:
        self._real += sum(tokens for tokens, answer in zip(row.lengths, row.answers, strict=True) if answer)
        self._computed += row.ids.numel()

    def _tell(self, what: str) -> None:
        started, first = self._started
        seconds = time.monotonic() - started
        left = seconds / max(self.state.step - first, 1) * (self.steps - self.state.step)
        figures = (
            f"{self._trained / seconds:.0f} tokens/s",
            f"{1 - self._real / max(self._computed, 1):.0%} padding",
            f"{peak_memory(self.device) / 1e9:.1f} GB",
            f"{left / 60:.0f} min left",
        )
        self.progress.update(self.state.step, self.steps, ", ".join([what, *figures]))

    def _save(self) -> None:
        """Add a checkpoint of this step; one that is there already is never touched again."""
        if self.state.step <= self.saved or not self.checkpoints:
            return
        optimiser = {
            f"{name}/{key}": value
            for name, parameter in self.parameters.items()
            for key, value in self.optimizer.state[parameter].items()
        }
        groups = {"adapter": saving.tensors(self.adapter), "optimiser": optimiser, "best": self.best}
        checkpoint.save(self.checkpoints, self.state, groups)
        self.saved = self.state.step

    def _resume(self) -> None:
        found = self.ranks.share(checkpoint.load(self.checkpoints) if self.checkpoints else None)
        if found is None:
            return
        self.state, tensors = found
        self.saved = self.state.step
        saving.restore(self.adapter, tensors["adapter"])
        for name, value in tensors.get("optimiser", {}).items():
            parameter, _, key = name.rpartition("/")
            self.optimizer.state[self.parameters[parameter]][key] = value.to(self.device)
        self.best = tensors.get("best", {})
        self.progress.count(resumed_at_step=self.state.step)


def flat_gradients(parameters: Sequence[Tensor]) -> Tensor:
    """Zeros [total size] that the parameters' gradients are views of: summed over ranks, measured
    and clipped as one tensor. A parameter that no token reaches has zeros there, not None."""
    flat = torch.zeros(sum(p.numel() for p in parameters), device=parameters[0].device)
    sizes = [p.numel() for p in parameters]
    for parameter, view in zip(parameters, torch.split(flat, sizes), strict=True):
        parameter.grad = view.view_as(parameter)
    return flat


@contextmanager
def routed(adapter: MoeLora, row: Batch) -> Iterator[None]:
    """Within, the model takes ``row``: each sample's own task weights and attention."""
    with adapter.token_tasks(row.tasks, row.lengths), packed(row.lengths):
        yield


def learning_rate(step: int, steps: int, warmup: float, peak: float) -> float:
    """Rate of step ``step`` (from 0): linear up to ``peak`` over the first ``warmup`` of all
    steps, then half a cosine that would reach zero one step after the last."""
    rise = round(warmup * steps)
    if step < rise:
        return peak * (step + 1) / rise
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rise) / (steps - rise)))


def peak_memory(device: str) -> int:
    """Bytes: the most that this process has held, on the GPU where it computes on one."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _seed(*names: int) -> int:
    """63 bits that differ in no simple way where ``names`` do."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _at_fault(tasks: dict[str, float]) -> str:
    """The tasks whose loss is not finite; all of them where the gradient alone is not."""
    return ", ".join([task for task, loss in tasks.items() if not math.isfinite(loss)] or tasks)
