"""Which names of a model's hold."""

import pytest

from pipeline.deidentify.persons import Evidence, evidence, is_person

SURE = Evidence(agreed=True, first=False, sure=False, spoken=False)
ALONE = Evidence(agreed=False, first=False, sure=False, spoken=False)
FIRST = Evidence(agreed=False, first=True, sure=False, spoken=False)


@pytest.mark.parametrize(
    "name",
    [
        "Ada Moss",
        "Moyo",
        "Jasmine Kimura",
        "Vera McAllister",
        "Mark Young",
        "Haugsvær",
        "Rose",
        "SIDDHARTHA RAGHUNATHAN",
    ],
)
def test_names_hold(name: str) -> None:
    assert is_person(name, ALONE)


@pytest.mark.parametrize(
    "term",
    [
        "Famvir",
        "Hodgkin",
        "Guillain-Barré",
        "Parkinson",
        "COPD",
        "Metformin",
        "Myasthenia Gravis",
        "PKD1",
        "Mg/dL",
        "Dr",
        "",
    ],
)
def test_medicine_does_not(term: str) -> None:
    assert not is_person(term, SURE)


def test_a_word_that_begins_a_sentence_needs_both_models_or_one_that_is_sure() -> None:
    assert not is_person("Rose", FIRST)
    assert is_person("Rose", FIRST._replace(sure=True))
    assert is_person("Rose", FIRST._replace(agreed=True))


def test_evidence_is_read_from_the_text() -> None:
    text = "No fever. Rose came.\nrose came again"
    assert evidence(text, 10, 14, False, 0.6) == Evidence(False, True, False, False)
    assert evidence(text, 21, 25, True, 0.95) == Evidence(True, True, True, True)


def test_a_usual_surname_is_one_where_both_models_agree_though_a_disease_has_it() -> None:
    assert is_person("Wilson", SURE)
    assert not is_person("Wilson", ALONE)
    assert not is_person("Graves", SURE)


def test_strange_words_are_a_name_where_both_models_agree() -> None:
    assert is_person("Xiaojing Tsu", SURE)
    assert not is_person("Motor Skills", SURE)
