"""Measurements in processes of their own, one after another: a model that is gone leaves no memory
behind, and the peak of one is not the peak of another.

    python -m tests.bench.children MODULE:FUNCTION OPTIONS RESULT

calls the function with the JSON options and writes what it returns, a JSON-able dict, with
``peak`` (bytes that the process held at most), ``threads`` and ``instructions`` (torch's).
"""

import importlib
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pipeline.digests import canonical_json
from pipeline.files import write_atomically

Result = dict[str, Any]


class ChildFailed(Exception):
    """A measurement ended with another exit status than 0; negative: killed by that signal."""


def measure(function: str, **options: Any) -> Result:
    """What ``MODULE:FUNCTION`` returns in a process of its own. Raises ChildFailed.

    The caller should hold no torch: Linux counts the peak of the process that started a child
    into the child's own.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, "-m", __name__, function, json.dumps(options), str(result)]
        status = subprocess.run(command, check=False).returncode
        if status:
            raise ChildFailed(f"{function} ended with {status}")
        measured: Result = json.loads(result.read_text())
        return measured


def measure_once(file: Path, function: str, **options: Any) -> Result:
    """What ``measure`` returned when it wrote ``file``, or returns now and writes there."""
    if not file.is_file():
        write_atomically(file, canonical_json(measure(function, **options)))
    found: Result = json.loads(file.read_text())
    return found


def peak() -> int:
    """Bytes of memory this process has held at most."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> None:
    import torch

    name, options, target = sys.argv[1:]
    if sys.platform == "linux":
        # Where memory runs out, it is the measurement that the system ends.
        Path("/proc/self/oom_score_adj").write_text("1000")
    module, _, function = name.partition(":")
    result: Result = getattr(importlib.import_module(module), function)(**json.loads(options))
    facts = {
        "peak": peak(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }
    Path(target).write_text(json.dumps(result | facts))


if __name__ == "__main__":
    main()
