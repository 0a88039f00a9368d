"""The ten stages from files of medical task data to a published adapter.

Each stage is a program, ``python -m pipeline.<stage>``, that reads files and
``params.yaml`` and writes files. Nothing in here knows Prefect or DVC.
"""

STAGES = (
    "ingest",
    "validate",
    "deidentify",
    "split",
    "resample",
    "train",
    "export",
    "evaluate",
    "gate",
    "publish",
)
"""Stage names in the order they run: the one list that dvc.yaml, params.yaml, modules,
reports, flows and tests are held to."""

RAW_STAGES = ("ingest", "validate", "deidentify")
"""The stages that may open raw text; their failures are reported without any value."""
