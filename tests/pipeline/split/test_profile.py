import json

from tests.conftest import Checkout
from tests.pipeline.split.made import deidentified, frame, run_stage


def test_the_profile_names_common_labels_of_closed_tasks_only(checkout: Checkout) -> None:
    closed = [
        {
            "task": "triage",
            "task_type": "classification",
            "input": f"message {number}",
            "target": "soon" if number < 8 else "never",
            "answer_choices": ["soon", "never"],
        }
        for number in range(10)
    ]
    open_ = [
        {
            "task": "signer",
            "task_type": "qa_choice",
            "input": f"note {number}",
            "target": "Ada Moss",
            "answer_choices": ["Ada Moss", f"Ben Hill {number}"],
        }
        for number in range(10)
    ]
    rows = frame(closed + open_)
    deidentified(rows)
    report = run_stage()
    profile = report["profile"]
    assert profile["tasks"]["triage"]["labels"] == {"soon": 8, "other": 2}
    assert profile["tasks"]["signer"]["labels"] is None
    assert "Moss" not in json.dumps(report)
    assert profile["languages"] == {"en": 20}
    assert profile["task_types"] == {"classification": 10, "qa_choice": 10}
    for facts in profile["tasks"].values():
        assert sum(facts["input_lengths"]) == sum(facts["target_lengths"]) == facts["rows"] == 10
        assert len(facts["input_lengths"]) == len(profile["length_edges"])
