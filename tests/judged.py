"""Reports and predictions of a run without its training: answers by lot, all else computed by the
stages' own code."""

import hashlib
import random
from typing import Any

import polars as pl

from pipeline import paths
from pipeline.digests import canonical_json
from pipeline.evaluate.scores import score
from pipeline.gate.__main__ import judge
from pipeline.params import Params
from pipeline.records import CHOICE_TASK_TYPES

HOSTILE = '<script>document.title = "taken over"</script><img src=x onerror="throw 1">'

# task: type, rows, rows a group, chance that base, champion and candidate are right
TASKS: dict[str, tuple[str, int, int, tuple[float, float, float]]] = {
    "dialogue-intent": ("classification", 240, 2, (0.35, 0.71, 0.74)),
    "drug-entities": ("ner", 180, 3, (0.12, 0.58, 0.66)),
    "medquad-qtype": ("classification", 200, 1, (0.22, 0.64, 0.63)),
    "message-triage": ("classification", 300, 2, (0.41, 0.83, 0.71)),
    "mts-section": ("classification", 100, 1, (0.18, 0.52, 0.55)),
    "pubmedqa-yesno": ("qa_choice", 120, 1, (0.48, 0.61, 0.60)),
    "rqe": ("nli", 90, 2, (0.50, 0.72, 0.72)),
    "term-normalisation": ("normalization", 36, 1, (0.05, 0.47, 0.44)),
}

LABELS = ["urgent", "routine", "advice"]


def write(
    override: bool = False,
    champion: bool = True,
    slack: bool = False,
    tasks: dict[str, tuple[str, int, int, tuple[float, float, float]]] | None = None,
    resamples: int = 999,
) -> dict[str, dict[str, Any]]:
    """Fill reports/, data/split and data/predictions of the working directory; the reports.

    ``message-triage`` is worse than the champion, so the gate blocks; with ``slack`` no task is
    worse. ``override`` lets it through.
    """
    tasks = tasks or TASKS
    if slack:
        tasks = {
            task: (kind, n, size, (*p[:2], max(p[1:]) + 0.04)) for task, (kind, n, size, p) in tasks.items()
        }
    params = Params.load()
    evaluation = params.evaluate.model_copy(update={"resamples": resamples})
    systems = ("base", "champion", "candidate") if champion else ("base", "candidate")
    frames = answered(tasks)
    scores, scored = score(sorted(tasks), {name: frames[name] for name in systems}, evaluation)
    for folder in (paths.SPLIT, paths.PREDICTIONS, paths.REPORTS):
        folder.mkdir(parents=True, exist_ok=True)
    frames["base"].drop("prediction").write_parquet(paths.TEST_SPLIT)
    for name, frame in scored.items():
        frame.write_parquet(paths.PREDICTIONS / f"{name}.parquet")
    digest = "d" * 64
    rows = sum(len(frame) for frame in frames.values()) // 3
    reports: dict[str, dict[str, Any]] = {
        "deidentify": {
            "rows": {"in": 9000, "out": 9000},
            "found": {"NAME": 5210, "DATE": 8841, "ID": 977, "CONTACT": 412},
            "recall": {"NAME": {"recall": 0.957}, "DATE": {"recall": 0.991}, "ID": {"recall": 0.974}},
            "recall_overall": 0.978,
            "residual_records": 12,
            "key_id": "0" * 16,
        },
        "resample": {
            "draws": {"budget": 4000, "drawn": 4000, "short_of_budget": 0},
            "tasks": balance(list(tasks)),
        },
        "train": {
            "health": {"finite": True, "loss_first": 2.913, "loss_last": 0.862},
            "gate": {task: weights(task) for task in tasks},
        },
        "export": {
            "release_digest": digest,
            "tolerance": 1e-4,
            "tasks": {task: {"max_abs_difference": 3.1e-6} for task in tasks},
        },
        "evaluate": {
            "release_digest": digest,
            "champion": "1f2e3d4c5b6a7988" if champion else None,
            "reference": None,
            "other_base": {},
            "systems": list(systems),
            "rows": {"in": rows, "out": rows, "held_out": 0},
            "untrained": {},
            **scores,
            "champion_rows": {task: n for task, (_, n, _, _) in tasks.items()} if champion else None,
            "gone": [],
            "canaries": {
                "inserted": 64,
                "held_back": 64,
                "loss_inserted": 4.118,
                "loss_held_back": 4.131,
                "p": 0.381,
                "exposure": 1.412,
                "exposure_by_chance": 1.381,
                "exposure_limit": 6.022,
                "completed": 0,
                "held_back_completed": 0,
            },
            "extraction": {
                "extractable": 2210,
                "rows": 64,
                "unseen_rows": 64,
                "completed": 9,
                "by_base": 1,
                "unseen_completed": 7,
                "unseen_by_base": 1,
                "p": 0.391,
            },
            "membership": {
                "rows": 128,
                "unseen_rows": 128,
                "auc": 0.562,
                "low": 0.503,
                "high": 0.621,
                "loss_seen": 0.751,
                "loss_unseen": 0.823,
                "champion_auc": 0.541 if champion else None,
            },
            "calibration": {
                task: {name: round(0.21 - 0.05 * number, 3) for number, name in enumerate(systems)}
                for task, (kind, *_) in sorted(tasks.items())
                if kind in CHOICE_TASK_TYPES
            },
            "load_check": dict.fromkeys(tasks, 2.4e-6),
        },
    }
    settings = {"floors": {"default": 0.3}}
    if override:
        settings["override"] = {"release_digest": digest, "by": "A. Meyer", "reason": "triage is not in use"}
    gate = params.gate.model_validate(params.gate.model_dump() | settings)
    reports["gate"] = judge(reports, gate)
    for stage, report in reports.items():
        paths.report(stage).write_text(canonical_json(report))
    return reports


def answered(
    tasks: dict[str, tuple[str, int, int, tuple[float, float, float]]],
) -> dict[str, pl.DataFrame]:
    """The test rows with the answers of base, champion and candidate, which depend on each other as
    those of models do: a hard row is hard for all."""
    rows: list[dict[str, Any]] = []
    for task, (kind, count, size, chances) in tasks.items():
        by_lot = random.Random(task)
        for number in range(count):
            wanted, choices = _target(kind, by_lot)
            hard = by_lot.random()
            answers = {
                name: wanted if hard < chance and by_lot.random() < 0.96 else _wrong(kind, wanted, by_lot)
                for name, chance in zip(("base", "champion", "candidate"), chances, strict=True)
            }
            text = f"{task} {number}: the patient writes about chest pain since the morning."
            rows.append(
                {
                    "sample_id": hashlib.sha256(f"{task}/{number}".encode()).hexdigest()[:16],
                    "task": task,
                    "task_type": kind,
                    "group_id": f"{task}/g{number // size}",
                    "input": text if number else f"{text} {HOSTILE}",
                    "target": wanted,
                    "answer_choices": choices,
                    "language": "en",
                    "source": "s",
                    **answers,
                }
            )
    frame = pl.DataFrame(rows, infer_schema_length=None).sort("task", "sample_id")
    systems = ("base", "champion", "candidate")
    return {name: frame.drop(systems).with_columns(prediction=frame[name]) for name in systems}


def _target(kind: str, by_lot: random.Random) -> tuple[str, list[str] | None]:
    if kind == "ner":
        return f"Drug: {by_lot.choice(['aspirin', 'metformin', 'insulin'])}", ["Drug"]
    if kind == "normalization":
        return by_lot.choice(["hypertension", "angina pectoris", "gout"]), None
    return by_lot.choice(LABELS), LABELS


def _wrong(kind: str, wanted: str, by_lot: random.Random) -> str:
    if kind in ("ner", "normalization"):
        return by_lot.choice(["Drug: ibuprofen", "none", "pain"])
    return by_lot.choice([label for label in LABELS if label != wanted])


def balance(tasks: list[str]) -> dict[str, dict[str, Any]]:
    """Uneven tasks, evened."""
    records = {task: 90 * 2**number for number, task in enumerate(tasks)}
    draws = {task: 260 + 70 * number for number, task in enumerate(tasks)}
    return {
        task: {
            "records": records[task],
            "draws": draws[task],
            "effective_epochs": round(draws[task] / records[task], 4),
            "share_before": records[task] / sum(records.values()),
            "share_after": draws[task] / sum(draws.values()),
        }
        for task in tasks
    }


def weights(task: str) -> list[float]:
    """Eight weights that add up to 1."""
    by_lot = random.Random(task)
    raw = [by_lot.random() ** 2 + 0.05 for _ in range(8)]
    return [each / sum(raw) for each in raw]
