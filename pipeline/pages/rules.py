"""The gate's rules in words: what a rule is called, and what helps where it blocks."""

TITLES = {
    "floor": "Floor of the task",
    "no_harm": "No harm to the task",
    "no_harm_reference": "No harm against the reference",
    "task_gone": "No task gone",
    "test_set": "Test set not smaller",
    "other_base": "Same base model",
    "mean_not_worse": "Mean not worse",
    "worst_task": "Worst task not worse",
    "slices": "No slice worse",
    "phi_recall": "Identifiers found",
    "residual": "Identifiers left",
    "memorisation": "Nothing recited",
    "membership": "Training rows not recognisable",
    "extraction": "Training rows not extractable",
    "calibration": "Calibration",
    "effective_epochs": "Tasks repeated within bounds",
    "training_health": "Training healthy",
    "export_equal": "Exported files equal",
    "load_check": "Loads in stock PEFT",
    "release_digest": "Same files judged",
}

REMEDIES = {
    "floor": "give the task more data or training (resample.records), or look at its examples",
    "no_harm": "give the task a larger share (resample.alpha nearer to 0) or more data, and train again",
    "no_harm_reference": "small losses have added up: look at moelora trends, then give the task more data",
    "mean_not_worse": "train longer (resample.records), or look at what came in since the champion",
    "worst_task": "give the worst task more data or a larger share (resample.alpha nearer to 0)",
    "slices": "add records of that kind to the task, and train again",
    "phi_recall": "look at what is missed with moelora audit-phi before anything is trained again",
    "residual": "look at what is left with moelora deidentify, and lower deidentify.min_score",
    "memorisation": "repeat records less (resample.max_epochs), lower train.rank or raise train.dropout",
    "membership": "repeat records less (resample.max_epochs), lower train.rank or raise train.dropout",
    "extraction": "repeat records less (resample.max_epochs), lower train.rank or raise train.dropout",
    "calibration": "train less long (resample.records) or raise train.dropout: it is too sure of itself",
    "effective_epochs": "set resample.records and resample.max_epochs so that all tasks are in bounds",
    "training_health": "lower train.learning_rate",
    "export_equal": "run moelora stage export --force",
    "load_check": "run moelora stage export --force, then moelora stage evaluate --force",
    "release_digest": "run moelora stage evaluate --force",
}


def title(rule: str) -> str:
    """A rule's name for people."""
    return TITLES.get(rule, rule.replace("_", " ").capitalize())
