"""The expectations, kept as code: what each means, and what mends it."""

from dataclasses import dataclass
from typing import Any, Literal

from pipeline.params import Validate

Level = Literal["critical", "warning"]


@dataclass(frozen=True)
class Expectation:
    """One expectation of Great Expectations on a derived column, what it means, what mends it.

    A column of booleans must be true; a column of numbers lies within the limits.
    """

    column: str
    level: Level
    meaning: str
    remedy: str
    least: float | None = None
    most: float | None = None

    @property
    def type(self) -> str:
        between = self.least is not None or self.most is not None
        return "expect_column_values_to_be_between" if between else "expect_column_values_to_be_in_set"

    @property
    def kwargs(self) -> dict[str, Any]:
        if self.least is None and self.most is None:
            return {"column": self.column, "value_set": [True]}
        limits = {"min_value": self.least, "max_value": self.most}
        return {"column": self.column} | {name: value for name, value in limits.items() if value is not None}

    def __str__(self) -> str:
        limits = "".join(
            f" {word} {limit:g}"
            for word, limit in (("at least", self.least), ("at most", self.most))
            if limit is not None
        )
        return f"{self.type}({self.column}{limits})"


def shard_suite() -> list[Expectation]:
    """What every shard must be."""
    return [
        Expectation(
            "schema_fits",
            "critical",
            "a shard has the columns of a record",
            "run ingest again, with this version of the code",
        )
    ]


def record_suite(validate: Validate) -> list[Expectation]:
    """What every record must be."""
    return [*_critical(), *_doubtful(validate)]


def _critical() -> list[Expectation]:
    rules = {
        "task_name_valid": (
            "a task has a name that can be a folder's",
            "rename the task: a-z, 0-9 and hyphens, at most 64",
        ),
        "task_known": (
            "a task is one of validate.tasks",
            "add the task to validate.tasks, or take its files away",
        ),
        "task_type_known": (
            "a task type is one of pipeline/records.py",
            "use a task type of pipeline/records.py",
        ),
        "task_has_one_type": (
            "all records of a task have one task_type",
            "give all records of the task the same task_type",
        ),
        "choices_fit": (
            "a choice offers two different answers or more",
            "list at least two different answer_choices",
        ),
        "target_in_choices": (
            "the target of a choice is one of its answer_choices",
            "write the target as it stands in answer_choices",
        ),
        "language_valid": ("a language is a BCP 47 tag", "write the language as a BCP 47 tag"),
        "split_known": (
            "a split is train, validation, test or none",
            "use train, validation or test as split, or none",
        ),
        "sample_unique": (
            "a source uses a sample_id once",
            "give every record of a source its own sample_id",
        ),
        "group_in_one_owner_split": (
            "a patient or document is in one split",
            "keep a patient or document in one split",
        ),
    }
    filled = [
        Expectation(
            f"{name}_characters", "critical", f"the {name} is not empty", f"fill in the {name}", least=1
        )
        for name in ("input", "target")
    ]
    return [Expectation(name, "critical", *texts) for name, texts in rules.items()] + filled


def _doubtful(validate: Validate) -> list[Expectation]:
    return [
        Expectation(
            "target_in_form",
            "warning",
            "a target has the form that the task's metric reads",
            "write entities, relations and events as pipeline/metrics says, with types of answer_choices, "
            "or name another metric in evaluate.tasks",
        ),
        Expectation(
            "target_differs_from_input",
            "warning",
            "a target is not the input over again",
            "look whether one field was taken for input and target",
        ),
        Expectation(
            "summary_is_shorter",
            "warning",
            "a summary is shorter than what it sums up",
            "look whether input and target of the summary are exchanged",
        ),
        Expectation(
            "input_characters",
            "warning",
            "an input is not longer than validate.max_input_characters",
            "training cuts the middle out of long inputs; shorten them",
            most=validate.max_input_characters,
        ),
        Expectation(
            "target_characters",
            "warning",
            "a target is not longer than validate.max_target_characters",
            "a target beyond the context is never learnt; shorten it",
            most=validate.max_target_characters,
        ),
    ]


def task_suite() -> list[Expectation]:
    """What every task must offer to be trained and measured at all."""
    return [
        Expectation(
            "records",
            "warning",
            "a task has two records or more",
            "one record is either learnt or measured, not both; add some",
            least=2,
        ),
        Expectation(
            "several_groups",
            "warning",
            "a task has records of two patients or documents or more",
            "records of one group stay in one split; add other groups",
        ),
        Expectation(
            "several_answers",
            "warning",
            "the answers to a task's choices differ",
            "a choice that is always the same teaches nothing; add others",
        ),
    ]


def drift_suite(validate: Validate) -> list[Expectation]:
    """How far a share may have moved from the baseline's, beyond chance, see pipeline.validate.drift."""
    return [
        Expectation(
            "share_change",
            "warning",
            "no share moved from the baseline's by more than validate.max_drift, beyond chance",
            "look whether the new data is what it should be; raise validate.max_drift if it is",
            most=validate.max_drift,
        )
    ]
