"""The token classifier: whole words, and the same findings wherever a text is cut."""

import pytest

from pipeline.deidentify.classifier import WINDOW, Classifier, Entity


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier()


def found(text: str, entities: list[Entity]) -> list[tuple[str, str]]:
    return [(entity.kind, text[entity.start : entity.end]) for entity in entities]


def test_names_are_found_in_any_case(classifier: Classifier) -> None:
    for text in ("I spoke with Ingrid Solheim today.", "i spoke with ingrid solheim today."):
        assert [kind for kind, _ in found(text, classifier.find([text])[0])] == ["NAME"]
        assert found(text, classifier.find([text])[0])[0][1].lower() == "ingrid solheim"


def test_a_long_text_is_read_to_its_end(classifier: Classifier) -> None:
    text = "The cough has not changed since the last visit. " * 40 + "Call Ingrid Solheim."
    assert len(text) > 3 * WINDOW
    assert found(text, classifier.find([text])[0]) == [("NAME", "Ingrid Solheim")]


def test_texts_are_independent_and_scores_are_probabilities(classifier: Classifier) -> None:
    texts = ["Call Ingrid Solheim.", "", "No fever.", "Ask Tendai Moyo about it."]
    together = classifier.find(texts)
    assert [[entity[:3] for entity in each] for each in together] == [
        [entity[:3] for entity in classifier.find([text])[0]] for text in texts
    ]
    assert together[1] == []
    assert all(0 < entity.score <= 1 for each in together for entity in each)
