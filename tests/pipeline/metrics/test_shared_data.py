"""Gold as prediction on real data."""

import gzip
import json
from collections import defaultdict
from pathlib import Path

from pipeline.metrics import Row, malformed, metric_for, score
from pipeline.params import Params
from tests.conftest import ROOT


def test_gold_scores_one_on_every_task_and_is_never_malformed(shared_data: Path) -> None:
    params = Params.load(ROOT / "params.yaml").evaluate
    tasks = defaultdict(list)
    for path in sorted(shared_data.glob("??.*.jsonl.gz")):
        for line in gzip.decompress(path.read_bytes()).decode().split("\n")[:-1]:
            record = json.loads(line)
            choices = record["answer_choices"]
            row = Row(record["target"], record["language"], tuple(choices) if choices else None)
            tasks[record["task"], record["task_type"]].append(row)
    assert tasks
    for (task, task_type), rows in tasks.items():
        metric = metric_for(task, task_type, params)
        assert score(metric, rows, [row.target for row in rows]) == 1, task
        assert not any(malformed(task_type, row, row.target, metric) for row in rows), task
