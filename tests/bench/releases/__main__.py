"""Releases against a real SeaweedFS: faults, races, bytes, speed beside ``aws s3 cp``, rollback, tampering,
and the server under load.

    make bench-releases                        about 20 minutes on 2 cores, 25 GB of disk free
    python -m tests.bench.releases --quick     about 2 minutes: fewer of everything
    python -m tests.bench.releases --only races speed

Faults are made by a proxy of the benchmark's own (tests.bench.releases.proxy), and by killing the
publishers. The peer's command is installed in an environment of its own below reports/bench; where
that cannot be, its rows say so.
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.releases import faults, races, rollback, serving, speed, tampering
from tests.bench.releases.server import Server, running
from tests.bench.table import REPORTS, Row, show

PARTS = ("faults", "races", "speed", "rollback", "tampering", "serving")


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    publishes: int
    races: int
    twins: int
    megabytes: int
    repeats: int
    tamperings: int
    clients: int


FULL = Size(publishes=200, races=50, twins=5, megabytes=2000, repeats=3, tamperings=200, clients=200)
QUICK = Size(publishes=10, races=5, twins=1, megabytes=200, repeats=1, tamperings=20, clients=20)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer of everything")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure")
    parser.add_argument("--folder", type=Path, help="where data lies meanwhile; default: a temporary one")
    options = parser.parse_args(arguments)
    size = QUICK if options.quick else FULL
    # Only the benchmark's own server is spoken to.
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary)
        with running(folder) as server:
            for part in PARTS:
                if part in options.only:
                    print(f"bench-releases: {part}", flush=True)
                    rows += globals()[f"{part}_rows"](server, folder, size)
    show("releases", rows, f"SeaweedFS on loopback, {os.cpu_count()} cores")


def faults_rows(server: Server, folder: Path, size: Size) -> list[Row]:
    done = faults.drill(server, folder / "faults", size.publishes)
    struck = ", ".join(f"{kind} {count}" for kind, count in sorted(done.faults.items()))
    what = f"{done.publishes} publishes under faults"
    return [
        Row(
            f"{what}: releases a reader saw fail",
            len(done.bad),
            None,
            "<=",
            0,
            f"{done.listings} listings, {done.verified} verifications{_first(done.bad)}",
        ),
        Row(
            f"{what}: ended neither published nor absent",
            len(done.unclean),
            None,
            "<=",
            0,
            f"{done.runs} runs, {done.killed} killed; of {done.requests} requests: {struck}{_first(done.unclean)}",
        ),
        Row(
            f"{what}: not completed by running again",
            len(done.incomplete),
            None,
            "<=",
            0,
            f"{done.first_time} came through at once",
        ),
    ]


def races_rows(server: Server, folder: Path, size: Size) -> list[Row]:
    fair, missing = races.race(server, folder, size.races)
    worst = races.twins(server, folder, size.twins)
    return [
        Row(f"races of {races.PROMOTERS} promoters with one winner", fair, None, ">=", size.races),
        Row("entries that the history of the races lacks", missing, None, "<=", 0),
        Row(
            "two publishers of one release: objects / those of one upload",
            worst,
            None,
            "<=",
            1,
            f"worst of {size.twins}; one id, both succeed, whole",
        ),
    ]


def speed_rows(server: Server, folder: Path, size: Size) -> list[Row]:
    sent = speed.resent(server, folder)
    rows = [Row("one changed task: bytes sent / its files and manifest", sent, None, "<=", 1.05)]
    aws = speed.install_aws(REPORTS.absolute() / "awscli")
    figure = "{way} of " + f"{size.megabytes} MB: speed / aws s3 cp"
    if aws is None:
        note = "awscli could not be installed"
        return rows + [
            Row(figure.format(way=way), None, None, ">=", 0.9, note) for way in ("upload", "download")
        ]
    taken = speed.beside_aws(server, folder, aws, size.megabytes * 1_000_000, size.repeats)
    for way, each in taken.items():
        ours, theirs = size.megabytes / each["ours"], size.megabytes / each["aws"]
        note = f"{ours:.0f} and {theirs:.0f} MB/s, medians of {size.repeats}"
        rows.append(Row(figure.format(way=way), each["aws"] / each["ours"], None, ">=", 0.9, note))
    return rows


def rollback_rows(server: Server, folder: Path, size: Size) -> list[Row]:
    taken = rollback.seconds(server, folder, size.megabytes * 250_000, max(3, size.repeats))
    note = f"{size.megabytes // 4} MB a release, {rollback.PROMOTIONS} promotions before"
    return [Row("moelora rollback, s", taken, None, "<=", 2, note)]


def tampering_rows(server: Server, folder: Path, size: Size) -> list[Row]:
    return tampering.rows(size.tamperings)


def serving_rows(server: Server, folder: Path, size: Size) -> list[Row]:
    return serving.rows(size.clients)


def _first(problems: list[str]) -> str:
    return f"; first: {problems[0]}" if problems else ""


if __name__ == "__main__":
    main()
