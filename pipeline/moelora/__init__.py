"""MOELoRA: one adapter for many tasks, a mixture of low-rank experts gated by the task alone.

Q. Liu et al., "When MOE Meets LLMs: Parameter Efficient Fine-tuning for Multi-task Medical
Applications", SIGIR 2024, arXiv 2310.18339. ``layer`` holds the formula, ``gate`` the weights
of a task, ``model`` puts both into any Hugging Face causal model, ``saving`` is the only part
that touches files.

>>> adapter = inject(model, MoeLoraConfig(tasks=("rqe", "pubmedqa-yesno")))
>>> with adapter.tasks(["rqe", "pubmedqa-yesno"]):  # one name a row of the batch
...     logits = adapter.model(input_ids).logits
"""

from pipeline.moelora.config import MoeLoraConfig
from pipeline.moelora.model import MoeLora, inject

__all__ = ["MoeLora", "MoeLoraConfig", "inject"]
