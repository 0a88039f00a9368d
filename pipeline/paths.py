"""Every path of the project below its root, written once.

All are relative to the working directory, which is the root of a checkout, so that
reports and dvc.lock never hold a path of one machine.
"""

import os
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

PARAMS = Path("params.yaml")
DVC_LOCK = Path("dvc.lock")

TRUSTED_KEYS = Path("infra/trusted-keys")
"""Committed public keys whose signatures are accepted, see pipeline.signing."""

# Raw text: private remote only, mode 700, opened by pipeline.RAW_STAGES alone.
INBOX = Path("data/inbox")
INGESTED = Path("data/ingested")
QUARANTINE = Path("data/quarantine")

DEIDENTIFIED = Path("data/deidentified")
SPLIT = Path("data/split")
TRAIN_SPLIT = SPLIT / "train.parquet"
VALIDATION_SPLIT = SPLIT / "validation.parquet"
TEST_SPLIT = SPLIT / "test.parquet"
RESAMPLED = Path("data/resampled")
ORDER = RESAMPLED / "order.parquet"
CANARIES = RESAMPLED / "canaries.parquet"
PREDICTIONS = Path("data/predictions")

BASE = Path("models/base")
ADAPTER = Path("models/adapter")
RELEASE = Path("models/release")
RELEASE_NATIVE = RELEASE / "moelora"
RELEASE_TASKS = RELEASE / "tasks"

REPORTS = Path("reports")
DATA_DOCS = REPORTS / "data_docs"
PLOTS = REPORTS / "plots"
EVALUATION_PAGE = REPORTS / "evaluation.html"
TRENDS_PAGE = REPORTS / "trends.html"

KEY_ID = Path("data/key.id")
"""Public id of the de-identification key in use; git-ignored, a DVC dependency."""

SCRATCH = Path("scratch")
STATUS = SCRATCH / "status"
SERVICES = SCRATCH / "services"


def report(stage: str) -> Path:
    """The JSON report of a stage."""
    return REPORTS / f"{stage}.json"


def status(stage: str) -> Path:
    """The outcome a stage leaves of its last run: not reproducible, ignored by git and DVC."""
    return STATUS / f"{stage}.json"


def cache_root() -> Path:
    """``MOELORA_CACHE``, or ``scratch/``: checkpoints, finished shards, pulled releases."""
    return Path(os.environ.get("MOELORA_CACHE", SCRATCH))


def matches(path: Path, include: Iterable[str]) -> bool:
    """Whether a file's name matches one of the patterns of ``ingest.include``, in whatever case: exports
    are called EXPORT.CSV as often."""
    return any(fnmatchcase(path.name.lower(), pattern.lower()) for pattern in include)
