"""A release's README.md, read as the Hugging Face Hub reads it."""

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard, metadata_load
from huggingface_hub.repocard_data import model_index_to_eval_results

from pipeline.pages.card import model_card
from tests import judged
from tests.conftest import Checkout

PROFILE = {"rows": 1400, "languages": {"en": 1300, "zh-Hans": 100}, "tasks": {}}


def card(reports: dict[str, dict[str, Any]], *licences: str) -> str:
    return model_card("org/base", reports["evaluate"], reports["gate"], PROFILE, licences)


def test_its_metadata_is_what_model_hubs_read(checkout: Checkout) -> None:
    reports = judged.write(slack=True)
    text = card(reports)
    Path("README.md").write_text(text)
    metadata = metadata_load(Path("README.md"))
    assert metadata["base_model"] == "org/base"
    assert metadata["license"] == "other"
    assert metadata["license_name"]
    assert metadata["language"] == ["en", "zh"]
    read = ModelCard(text).data
    assert read.model_name == "moelora"
    _, results = model_index_to_eval_results(metadata["model-index"])
    found = {result.dataset_type: (result.metric_type, result.metric_value) for result in results}
    tasks = reports["evaluate"]["tasks"]
    assert found["rqe"] == ("accuracy", tasks["rqe"]["candidate"]["score"])
    assert found["drug-entities"] == ("f1", tasks["drug-entities"]["candidate"]["score"])
    assert set(found) == set(tasks)


def test_a_task_without_test_rows_has_no_result(checkout: Checkout) -> None:
    reports = judged.write(slack=True)
    nothing = {"score": None, "low": None, "high": None, "malformed": 0}
    reports["evaluate"]["tasks"]["tiny"] = {"metric": None, "rows": 0, "base": nothing, "candidate": nothing}
    text = card(reports)
    assert "| tiny |  | 0 | not measured | not measured | not measured |" in text
    assert "tiny" not in str(ModelCard(text).data.to_dict())


def test_an_override_is_red_and_told_before_all_else(checkout: Checkout) -> None:
    reports = judged.write(override=True)
    reports["gate"]["override"]["reason"] = "a | b\n# <b>"
    text = card(reports)
    assert text.index("[!CAUTION]") < text.index("Low-rank adapter")
    assert "🟥 **Overridden.**" in text
    assert "a &#124; b &#35; &#60;b&#62; – A. Meyer" in text
    assert "| 🟥 blocked | No harm to the task | message-triage |" in text
    assert "CAUTION" not in card(judged.write(slack=True))


@pytest.mark.parametrize(
    ("licences", "wanted"),
    [((), "The operator has stated no licence"), (("MTSamples: CC0-1.0",), "- MTSamples: CC0-1.0")],
)
def test_data_licences_use_and_limits_are_said(
    checkout: Checkout, licences: tuple[str, ...], wanted: str
) -> None:
    text = card(judged.write(slack=True), *licences)
    assert wanted in text
    assert "Not a medical device." in text
    assert "## Intended use" in text
    assert "1,400 records (en 1,300, zh-Hans 100)" in text
