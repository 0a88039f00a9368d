"""Ages of 90 and more as people write them, labelled; and numbers beside them that are none."""

import itertools

from pipeline.deidentify.labelled import Labelled

AGES = ("90", "91", "92", "94", "95", "97", "99", "100", "101", "103", "104", "106", "108", "110")
SENTENCES = (
    "The patient is a {}-year-old woman with heart failure.",
    "A {} year old man fell at home last night.",
    "She is a {} y.o. female, frail, lives alone.",
    "{}yo M with cough and fever for two days.",
    "Pt is {} y/o and uses a walker.",
    "This {}-year-old gentleman was brought in by his grandson.",
    "Age: {}\nSex: F\nReason for visit: swollen ankles",
    "Patient aged {} years, admitted with a hip fracture.",
    "Her mother died at the age of {}.",
    "He turned {} in the spring and still drives.",
    "At age {} she had a stroke without residual weakness.",
    "My grandfather is {} years old and takes warfarin. Is that safe?",
    "The oldest participant, {} years of age, completed the course.",
    "Mother, {}, has dementia; father died of lung cancer.",
    "[doctor] how old are you ?\n[patient] i'm {} .",
    "The patient, a woman of {}, refused the operation.",
    "She just celebrated her {}th birthday.",
    "Demographics: {} F, retired teacher.",
    "{} yr old male, DNR, here with aspiration pneumonia.",
    "A lady in her {}th year of life was found on the floor.",
)
"""``{}`` takes an age in figures."""

WORDS = {
    "ninety": "90",
    "ninety-one": "91",
    "ninety two": "92",
    "ninety-four": "94",
    "ninety-seven": "97",
    "ninety-nine": "99",
    "one hundred": "100",
    "one hundred and two": "102",
    "a hundred and five": "105",
}
SPOKEN = (
    "The patient is a {}-year-old woman with heart failure.",
    "He is {} years old and lives with his daughter.",
    "She is {} years of age.",
    "my mom is {} years old , and she still cooks every day .",
)
BESIDE = (
    "Heart rate {}, afebrile, eating well.",
    "Oxygen saturation was {} % on room air.",
    "Metoprolol {} mg was given twice.",
    "Weight {} kg, stable since the last visit.",
    "Of {} patients, most improved within a month.",
    "Glucose {} mg/dL before breakfast.",
)
"""Numbers that must stay: they show what the recall costs."""


def documents() -> list[Labelled]:
    """Every sentence with every age, each followed by a sentence whose number is none."""
    made = []
    in_figures = itertools.product(SENTENCES, AGES)
    spoken = itertools.product(SPOKEN, WORDS)
    for number, (sentence, age) in enumerate([*in_figures, *spoken]):
        start = sentence.index("{}")
        beside = BESIDE[number % len(BESIDE)].format(91 + number % 17)
        text = f"{sentence.format(age)} {beside}"
        made.append(Labelled(f"ages#{number}", text, [(start, start + len(age), "ID")], True))
    return made
