"""A release's README.md: its model card, with the metadata that model hubs read.

The metadata follows the Hugging Face Hub's model card specification; its ``model-index`` holds
each task's score.
"""

from collections.abc import Sequence
from typing import Any

import yaml

from pipeline.pages import render
from pipeline.pages.evaluation import SYSTEMS, rules, scores, verdict

METRICS = {"set_micro_f1": "f1", "macro_f1": "f1", "micro_f1": "f1", "weighted_f1": "f1"} | dict.fromkeys(
    ("rouge_1", "rouge_2", "rouge_l"), "rouge"
)
"""Our names of metrics under the hub's where they differ; the full name stands beside it."""


def model_card(
    base: str,
    metrics: dict[str, Any],
    gate: dict[str, Any],
    profile: dict[str, Any],
    data_licences: Sequence[str] = (),
) -> str:
    """README.md: metadata and Markdown.

    ``metrics`` and ``gate`` are the reports of evaluate and gate, ``profile`` that of split;
    ``data_licences``: what the operator states of the training data, a line each.
    """
    tasks = metrics["tasks"]
    return render(
        "card.md",
        front=yaml.safe_dump(_metadata(base, tasks, profile), sort_keys=False, allow_unicode=True),
        base=base,
        tasks=len(tasks),
        first=min(tasks, default="TASK"),
        systems=[name for name in SYSTEMS if name in metrics.get("systems", ("base", "candidate"))],
        scores=scores(metrics, gate),
        rules=rules(gate),
        verdict=verdict(gate),
        champion=metrics.get("champion"),
        data_licences=data_licences,
        languages=profile["languages"],
        rows=profile["rows"],
    )


def _metadata(base: str, tasks: dict[str, Any], profile: dict[str, Any]) -> dict[str, Any]:
    results = [
        {
            "task": {"type": "text-generation", "name": task},
            "dataset": {"type": task, "name": f"{task}, test split of this release", "split": "test"},
            "metrics": [
                {
                    "type": METRICS.get(entry["metric"], entry["metric"]),
                    "name": _interval(entry["metric"], entry["candidate"]),
                    "value": entry["candidate"]["score"],
                }
            ],
        }
        for task, entry in sorted(tasks.items())
        if entry["candidate"]["score"] is not None
    ]
    return {
        "library_name": "peft",
        "base_model": base,
        "license": "other",
        "license_name": "stated-by-the-operator",
        "license_link": "README.md",
        "language": sorted({tag.split("-")[0].lower() for tag in profile["languages"]}),
        "pipeline_tag": "text-generation",
        "tags": ["lora", "medical", "moelora", "multi-task", "peft"],
        # The specification wants at least one result.
        **({"model-index": [{"name": "moelora", "results": results}]} if results else {}),
    }


def _interval(metric: str, system: dict[str, Any]) -> str:
    return f"{metric}, 95 % interval {system['low']:.3f} to {system['high']:.3f}"
