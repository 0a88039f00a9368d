"""Evaluation and gate, measured: metrics against reference libraries, simulated candidates, quickness.

    make bench-evaluate                        about an hour on 2 cores
    python -m tests.bench.evaluate --quick     minutes: 50 simulated candidates, nothing of the real model
    python -c "from tests.bench.evaluate import simulation; simulation.curve(300)"   the gate's power

The parts with the real model (adapters of 14 tasks, random and trained, others trained to recite
canaries and not) each run in processes of their own. Beside the table: reports/bench/evaluate.json.
"""

import argparse
import os
from collections.abc import Sequence

from tests.bench import records
from tests.bench.evaluate import bootstrap, inference, memorisation, metrics, simulation
from tests.bench.table import Row, show

SIMULATED = 2_000
"""Candidates of each kind."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few simulated candidates, no real model")
    quick = parser.parse_args(arguments).quick
    records.folder()
    rows: list[Row] = []
    for name, measure in (
        ("inference", inference.rows),
        ("memorisation", memorisation.rows),
        ("bootstrap", bootstrap.rows),
        ("simulation", lambda: simulation.rows(50 if quick else SIMULATED)),
        ("metrics", metrics.rows),
    ):
        if not quick or name not in ("inference", "memorisation"):
            print(f"bench-evaluate: {name}", flush=True)
            rows += measure()
    show("evaluate", rows, f"{os.cpu_count()} cores; {SIMULATED if not quick else 50} simulated candidates")


if __name__ == "__main__":
    main()
