"""Validation: false alarms of drift, what is caught, memory and speed at size, and after new files.

make bench-validate                        about 35 minutes on 2 cores, 3 GB of disk free
python -m tests.bench.validate --quick     about 3 minutes: fewer of everything
python -m tests.bench.validate --only size
"""

import argparse
import platform
from collections.abc import Sequence

from tests.bench.table import Row, show
from tests.bench.validate import drift, size

PARTS = ("drift", "size")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer of everything")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure")
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    if "drift" in options.only:
        rows += drift.rows(30 if options.quick else 1000)
    if "size" in options.only:
        rows += size.rows(100_000 if options.quick else 1_000_000)
    show("validate", rows, f"{platform.machine()}, one process")


if __name__ == "__main__":
    main()
