"""Names by the lists alone, and by what only people do."""

import pytest

from pipeline.deidentify.subjects import find


def found(text: str) -> list[str]:
    return [text[start:end] for start, end, _ in sorted(find(text))]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Lombardi was quiet.", "Lombardi"),
        ("Did Csiszár sign the consent form?", "Csiszár"),
        ("Bolstad in bed 12 wants water.", "Bolstad"),
        ("Transfer of Höglund to the ward.", "Höglund"),
        ("- Valdet Muqa: stable", "Valdet Muqa"),
        ("Tolossa, Chizoba, 45M, chest pain", "Tolossa, Chizoba"),
        ("It was Hrvoje who found him.", "Hrvoje"),
        ("Have you been to a Slaven Prgomet concert?", "Slaven Prgomet"),
        ("I want to add Wasiu J Muqa as well.", "Wasiu J Muqa"),
        ("Veldhuis and Lombardi were late.", "Veldhuis"),
        ("my son sofie has a rash", "sofie"),
        ("this is mantu sahu calling", "mantu sahu"),
        ("serhii g walczak", "serhii g walczak"),
    ],
)
def test_people_are_found(text: str, name: str) -> None:
    assert name in found(text)


@pytest.mark.parametrize(
    "text",
    [
        "Metformin was discontinued and Lisinopril was not tolerated.",
        "Did Aspirin help? The Patient denies pain.",
        "Lombardi syndrome was ruled out.",
        "this is really painful and i am dizzy",
        "The Pearson correlation was high.",
        "Anemia and Leukopenia were found; Hepatitis B Virus was not.",
        "my son has a rash",
        "She lives in Georgia and Paris.",
    ],
)
def test_nobody_is_found(text: str) -> None:
    assert found(text) == []
