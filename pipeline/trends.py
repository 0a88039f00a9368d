"""How releases changed over time: scores, identifiers found, data volume, from the registry alone."""

import json
from typing import Any

from pipeline.registry import Registry, Release

FILES = ("gate.json", "metrics.json", "profile.json")
"""Of each release; no adapter is read."""


def collect(registry: Registry, last: int) -> list[dict[str, Any]]:
    """The ``last`` releases, the oldest first, a JSON-able entry each.

    ``release, published_at, champion`` (now), ``verdict``, ``override``, ``tasks`` {task: metric,
    rows, score, low, high}, ``mean`` {score, low, high}, ``rows`` of data, ``identifiers``
    {recall, worst_kind, worst_recall, residual_rate, per_1000_records}; null where a release does
    not say. Releases that are refused, as unsigned, damaged or withdrawn, are left out. Raises
    RegistryError.
    """
    champion = registry.channel()
    releases = registry.releases()[-last:]
    files = [registry.read_each([each.id for each in releases], name) for name in FILES]
    return [
        _entry(each, champion.release if champion else None, *(json.loads(file[each.id]) for file in files))
        for each in releases
        if all(each.id in file for file in files)
    ]


def _entry(
    release: Release,
    champion: str | None,
    gate: dict[str, Any],
    metrics: dict[str, Any],
    profile: dict[str, Any],
) -> dict[str, Any]:
    return {
        "release": release.id,
        "published_at": release.published_at,
        "champion": release.id == champion,
        "verdict": gate["verdict"],
        "override": gate.get("override"),
        "tasks": {
            task: {"metric": each.get("metric"), "rows": each["rows"], **_score(each["candidate"])}
            for task, each in sorted(metrics["tasks"].items())
        },
        "mean": _score(metrics["mean"]["candidate"]),
        "rows": profile.get("rows"),
        "identifiers": _identifiers(gate, profile),
    }


def _score(system: dict[str, Any]) -> dict[str, Any]:
    return {key: system[key] for key in ("score", "low", "high")}


def _identifiers(gate: dict[str, Any], profile: dict[str, Any]) -> dict[str, Any]:
    figures = {rule["rule"]: rule["figures"] for rule in gate["rules"]}
    recall, residual = figures.get("phi_recall", {}), figures.get("residual", {})
    found = profile.get("deidentification")
    rate = 1000 * sum(found["found"].values()) / found["rows"] if found and found["rows"] else None
    return {
        "recall": recall.get("recall"),
        "worst_kind": recall.get("worst_kind"),
        "worst_recall": recall.get("worst_recall"),
        "residual_rate": residual.get("rate"),
        "per_1000_records": None if rate is None else round(rate, 2),
    }
