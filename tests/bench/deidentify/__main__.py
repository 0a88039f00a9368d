"""De-identification against Presidio's defaults: recall, precision, what stays of medicine, speed.

    make bench-deidentify                        twenty minutes on 2 cores
    python -m tests.bench.deidentify --quick     minutes: no whole set, no growth, 1 repeat

Labelled text of others is halved by a hash of each document's id: detectors are tuned on one half, the
table is of the other, and the first is listed below it. Every measurement is a process of its own.
Beside the table: reports/bench/deidentify.json, and all recalls by kind with intervals, characters
changed by kind, and missed canaries by kind in reports/bench/deidentify-details.json.
"""

import argparse
import os
import statistics
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.digests import canonical_json
from pipeline.files import write_atomically
from tests.bench import records
from tests.bench.children import Result, measure
from tests.bench.table import REPORTS, Row, show

ROOM = "tests.bench.deidentify"
PEER_SHARE = 10
"""Presidio searches every tenth record's texts of the whole set: its speed does not depend on how many."""
ALLOWANCE = 10.0
"""Seconds that a stage may take beside its share of the full run."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="without the whole set; one repeat")
    quick = parser.parse_args(arguments).quick
    records.folder()
    results = measure_all(quick)
    write_atomically(REPORTS / "deidentify-details.json", canonical_json(results))
    show_details(results)
    show("deidentify", table(results), f"{os.cpu_count()} cores; halves by the last bit of SHA-256(doc_id)")


def measure_all(quick: bool) -> dict[str, Result]:
    """Each measurement's result by name."""
    wanted: dict[str, tuple[str, dict[str, Any]]] = {
        "accuracy": ("accuracy:on_labelled_text", {}),
        "speed": ("speed:one_thread", {"repeats": 1 if quick else 3}),
        "canaries": ("canaries:plant", {}),
    }
    if not quick:
        wanted |= {
            "whole": ("english:whole_set", {}),
            "growth": ("english:growth", {}),
            "all_ours": ("speed:whole_set_ours", {}),
            "all_presidio": ("speed:whole_set_presidio", {"share": PEER_SHARE}),
        }
    results = {}
    for name, (function, options) in wanted.items():
        print(f"bench-deidentify: {name}", flush=True)
        results[name] = measure(f"{ROOM}.{function}", **options)
    return results


def table(results: dict[str, Result]) -> list[Row]:
    """The issue's rows; what was not measured has no value."""
    held_out = results["accuracy"]["held_out"]
    asq, worldwide = (_recall(held_out, source, "PHI") for source in ("asq", "presidio"))
    names = _recall(held_out, "presidio", "NAME")
    weak = _recall(held_out, "weak", "NAME")
    ages = _recall(results["accuracy"]["ages"], "ages", "PHI")
    one = results["speed"]
    ours, presidio = (one["characters"] / statistics.median(one[name]) for name in ("ours", "presidio"))
    canaries = results["canaries"]
    planted, missed = (sum(canaries[name].values()) for name in ("planted", "missed"))
    whole, growth = results.get("whole"), results.get("growth")
    gold = whole["gold"] if whole else None
    all_ours, all_presidio = (
        result["characters"] / result["seconds"][0] if result else None
        for result in (results.get("all_ours"), results.get("all_presidio"))
    )
    limit = growth["full"] * 0.04 + ALLOWANCE if growth else None
    return [
        Row("asq: PHI recall", asq["recall"], None, ">=", 0.98, _interval(asq)),
        Row("asq: character precision", asq["precision"], None, ">=", 0.90),
        Row("presidio: PHI recall", worldwide["recall"], None, ">=", 0.95, _interval(worldwide)),
        Row("presidio: character precision", worldwide["precision"], None, ">=", 0.90),
        Row("presidio: names, recall", names["recall"], None, ">=", 0.97, _interval(names)),
        Row("ages of 90 and more, recall", ages["recall"], None, ">=", 0.99, _interval(ages)),
        Row("dialogue names, recall", weak["recall"], None, ">=", 0.97, _interval(weak)),
        Row(
            "aci-*, mts-*: characters changed outside known names",
            _share(whole, "notes"),
            None,
            "<=",
            0.02,
        ),
        Row(
            "gold diseases and chemicals unchanged",
            gold["kept"] / gold["all"] if gold else None,
            None,
            ">=",
            0.998,
            f"{gold['kept']} of {gold['all']}" if gold else "",
        ),
        Row("public text: characters changed", _share(whole, "public"), None, "<=", 0.01),
        Row(
            "characters/s, one thread, ours / Presidio",
            ours / presidio,
            1.0,
            ">=",
            2.0,
            f"{ours:,.0f} against {presidio:,.0f} over {one['texts']} texts",
        ),
        Row(
            "characters/s, all English records and cores, ours / Presidio",
            all_ours / all_presidio if all_ours and all_presidio else None,
            1.0,
            ">=",
            5.0,
            f"{all_ours:,.0f} against {all_presidio:,.0f}, the latter on every {PEER_SHARE}th record"
            if all_ours and all_presidio
            else "",
        ),
        Row(
            "1 % new records: seconds of the stage",
            growth["again"] if growth else None,
            growth["full"] if growth else None,
            "<=",
            limit or ALLOWANCE,
            "bar: 4 % of the full run, which stands as the peer, and 10 s",
        ),
        Row(
            "1 % new records: documents detected / new",
            growth["detected"] / growth["new_documents"] if growth else None,
            1.0,
            "<=",
            1.1,
            f"{growth['detected']} for {growth['new_records']} new of {growth['records']} records"
            if growth
            else "",
        ),
        Row(
            "planted canaries missed",
            missed / planted,
            None,
            "<=",
            0.005,
            f"{missed} of {planted}",
        ),
        Row(
            "all English records out of the stage",
            whole["rows"]["out"] if whole else None,
            whole["rows"]["in"] if whole else None,
            ">=",
            whole["rows"]["in"] - whole["rows"]["quarantined"] if whole else 0,
            f"{whole['rows']['quarantined']} quarantined; {whole['seconds'][0]:.0f} s, {whole['memory'] / 1e9:.1f} GB"
            if whole
            else "",
        ),
    ]


def show_details(results: dict[str, Result]) -> None:
    """Recalls by kind on both halves, changed characters and missed canaries by kind."""
    console = Console()
    recalls = Table("half", "source", "kind", "found", "recall", "95 %", "precision", title="labelled text")
    for half in ("held_out", "tuned_on", "ages"):
        for row in results["accuracy"][half]:
            precision = "" if row["precision"] is None else f"{row['precision']:.3f}"
            recalls.add_row(
                half,
                row["source"],
                row["category"],
                f"{row['found']}/{row['labelled']}",
                f"{row['recall']:.4f}",
                f"{row['low']:.3f} to {row['high']:.3f}",
                precision,
            )
    console.print(recalls)
    canaries = Table("canary", "planted", "missed", title="planted canaries")
    for kind, count in sorted(results["canaries"]["planted"].items()):
        canaries.add_row(kind, str(count), str(results["canaries"]["missed"][kind]))
    console.print(canaries)
    if "whole" in results:
        changed = Table("text", "kind", "characters", "share", title="characters changed")
        for text in ("public", "notes"):
            found = results["whole"][text]
            for kind, count in found["changed"].items():
                changed.add_row(text, kind, str(count), f"{count / found['characters']:.4%}")
        console.print(changed)


def _recall(rows: Sequence[dict[str, Any]], source: str, category: str) -> dict[str, Any]:
    return next(row for row in rows if (row["source"], row["category"]) == (source, category))


def _interval(row: dict[str, Any]) -> str:
    return f"{row['found']}/{row['labelled']}, 95 % {row['low']:.3f} to {row['high']:.3f}"


def _share(whole: Result | None, text: str) -> float | None:
    if whole is None:
        return None
    characters: int = whole[text]["characters"]
    return sum(whole[text]["changed"].values()) / characters


if __name__ == "__main__":
    main()
