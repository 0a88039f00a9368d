"""Which sentences the models read."""

import pytest

from pipeline.deidentify.screen import is_capitalised, stretches


def read(text: str) -> str:
    return "|".join(text[start:end] for start, end in stretches(text))


@pytest.mark.parametrize(
    "sentence",
    [
        "Seen by Irenka today.",
        "Irenka has a cough.",
        "GRACE HILL was seen.",
        "the nurse called rukhsana back.",
        "mr . ward has pain.",
        "She lives in Kiruna.",
        "Faith said she felt better.",
        "my doctor is tendai moyo",
        "i think malcolm phillips is my doctor.",
        "Has anyone seen Anna-Carin today?",
        "MBEKI came back for his results.",
        "Call McNeil or O'Rourke.",
    ],
)
def test_a_sentence_that_may_name_somebody_is_read(sentence: str) -> None:
    assert read(sentence) == sentence


@pytest.mark.parametrize(
    "sentence",
    [
        "The pain is mild and has not changed.",
        "Metformin and Lisinopril were continued.",
        "I've had headaches; it's worse at night.",
        "mRNA and IgA levels were normal, HbA1c 7.9 %.",
        "Thrombocytopenia was noted.",
        "patients with cardiomyopathy were randomised.",
        "CT of the chest showed COPD.",
        "the doctor will prescribe a new inhaler and a shampoo.",
        "Known NINDS and RFLP were not found.",
        "A Papanicolaou smear and a Doppler were done.",
        "PARTICIPANTS were followed for two years.",
        "",
        "\n\n",
    ],
)
def test_medicine_alone_is_not_read(sentence: str) -> None:
    assert read(sentence) == ""


def test_neighbours_are_read_as_one_and_others_left_out() -> None:
    text = "No fever was seen. Ada Moss called. Tell Tom Reed. The dose was halved at night."
    assert read(text) == "Ada Moss called. Tell Tom Reed. "


def test_short_lines_beside_a_name_are_read_with_it() -> None:
    assert read(
        "Ingrid Solheim\n12 main st\nThe dose was halved and then given every second day at night, by mouth."
    ) == ("Ingrid Solheim\n12 main st\n")


def test_names_have_one_capital_a_part() -> None:
    assert all(map(is_capitalised, ("Moyo", "O'Brien", "McNeil", "Al-Harbi", "Þórunn", "Nguyễn")))
    assert not any(map(is_capitalised, ("mRNA", "IgG", "cough", "COPD", "MetS")))


def test_a_long_scream_costs_no_more_than_its_length() -> None:
    # With a quantifier inside a quantifier this would not end within the age of the universe.
    assert read("He cried " + "A" * 500 + "RRGGHH and left.") == ""
