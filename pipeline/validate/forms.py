"""Is a target of the form that its task kind's answers have?

The form is what the task's metric reads (pipeline.metrics): of entities, relations and events with
types of the task's inventory, and the formats of PromptCBLUE. A target of another form is an answer
that nobody can give right, and that a model should not learn.
"""

import numpy as np
import polars as pl

from pipeline.params import Evaluate
from pipeline.records import CHOICE_TASK_TYPES, INVENTORY_TASK_TYPES, TASK_TYPES


def in_form(records: pl.DataFrame, evaluate: Evaluate) -> pl.Series:
    """Whether each target is of its form (bool).

    True for choices, which are compared as they are, and where any text will do. Raises ParamsError
    where ``evaluate.tasks`` names no metric.
    """
    found = np.ones(records.height, dtype=np.bool_)
    kinds = records.select("task", "task_type").drop_nulls().unique().rows()
    kinds = [kind for kind in kinds if kind[1] in TASK_TYPES and kind[1] not in CHOICE_TASK_TYPES]
    if not kinds:
        return pl.Series(found)
    from pipeline.metrics import METRICS, Row, malformed, metric_for

    metrics = {(task, kind): metric_for(task, kind, evaluate) for task, kind in kinds}
    formed = {kind for kind in kinds if METRICS[metrics[kind]].malformed or kind[1] in INVENTORY_TASK_TYPES}
    columns = ("task", "task_type", "target", "answer_choices")
    for number, (task, task_type, target, choices) in enumerate(records.select(columns).iter_rows()):
        if (task, task_type) in formed and target is not None:
            row = Row(target, "", tuple(choices) if choices else None)
            found[number] = not malformed(task_type, row, target, metrics[task, task_type])
    return pl.Series(found)
