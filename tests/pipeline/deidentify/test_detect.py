"""What is found in clinical English, and what is left alone."""

import pytest

from pipeline.deidentify.detect import Detector, detect_shapes, detector


@pytest.fixture(scope="module")
def engine() -> Detector:
    return detector(0.4)


def found(engine: Detector, text: str) -> set[tuple[str, str]]:
    return {(span.kind, text[span.start : span.end]) for span in engine.detect([text])[0]}


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("Seen by Dr. Thomas Green today.", "NAME", "Dr. Thomas Green"),
        ("Seen by Dr. Ada Moss.", "NAME", "Dr. Ada Moss"),
        ("April Lopez called.", "NAME", "April Lopez"),
        ("so , martha , how are you ?", "NAME", "martha"),
        ("Patient: Lopez, Ana", "NAME", "Lopez, Ana"),
        ("Follow-up of Mary S., 61, with COPD.", "NAME", "Mary S."),
        ("Signed: Karen Whitfield, RN", "NAME", "Karen Whitfield"),
        ("i spoke to dr. kumar about it", "NAME", "dr. kumar"),
        ("This is Ana Lopez. I have a cough.", "NAME", "Ana Lopez"),
        ("MRN: AB-123456", "ID", "AB-123456"),
        ("medical record 12345-JH needs review", "ID", "12345-JH"),
        ("account number 12-345678", "ID", "12-345678"),
        ("SSN 123-45-6789", "ID", "123-45-6789"),
        ("paid by card 4969800024734372", "ID", "4969800024734372"),
        ("Insurance#: HBP-234987", "ID", "HBP-234987"),
        ("call (217) 555-0112 now", "PHONE", "(217) 555-0112"),
        ("Fax: +46 (0)8 928 571 38", "PHONE", "+46 (0)8 928 571 38"),
        ("mail ana.lopez@example.org.", "EMAIL", "ana.lopez@example.org"),
        ("see https://portal.example.org/a?b=1.", "URL", "https://portal.example.org/a?b=1"),
        ("from host 172.61.42.192", "IP", "172.61.42.192"),
        ("a 93-year-old woman", "AGE", "93"),
        ("patient aged 95 with", "AGE", "95"),
        ("Age: 101", "AGE", "101"),
        ("a ninety-two year old man", "AGE", "ninety-two"),
        ("Doctor: How old are you?\nPatient: 94.", "AGE", "94"),
        (
            "lives at 12 Elm Street, Springfield, IL 62704 alone",
            "ADDRESS",
            "12 Elm Street, Springfield, IL 62704",
        ),
        ("from Miami (ZIP: 33101)", "ZIP", "33101"),
        ("he moved to Bangor last year", "LOCATION", "Bangor"),
        ("lives in Sunnyvale, CA and", "LOCATION", "Sunnyvale, CA"),
        ("admitted to St. Mary's Hospital on", "FACILITY", "St. Mary's Hospital"),
        ("born on 03/09/1931", "DATE", "03/09/1931"),
        ("next patient is christine cooper , date of birth", "NAME", "christine cooper"),
        ("hello , mr . ward . nice to", "NAME", "mr . ward"),
        ("so tyler is a 56 -year-old male", "NAME", "tyler"),
        ("Mason Ward is a pleasant 80-year-old male", "NAME", "Mason Ward"),
        ("hey it's nice to see you jack i know", "NAME", "jack"),
        ("Okafor, Reed and White were the founders.", "NAME", "White"),
        ("pt from NYC, last seen", "LOCATION", "NYC"),
        ("I'm in Tromsø, at a meeting", "LOCATION", "Tromsø"),
        ("He will be travelling to United States next week", "LOCATION", "United States"),
        ("She just celebrated her 95th birthday", "AGE", "95"),
        ("Her mother died at the age of 94.", "AGE", "94"),
        ("Mother, 97, has dementia", "AGE", "97"),
        ("a woman of 101, frail", "AGE", "101"),
        ("Demographics: 92 F, retired", "AGE", "92"),
        ("She is a 96 y.o. female", "AGE", "96"),
        ("seen at General Hospital, then sent home", "FACILITY", "General Hospital"),
        (
            "to 17 Timms Drive Suite 215 Albany\n New Zealand 79879 now",
            "ADDRESS",
            "17 Timms Drive Suite 215 Albany\n New Zealand 79879",
        ),
        (
            "lives at 12 Elm Street, Dayton, OH 45410. Call 555-867-5309.",
            "ADDRESS",
            "12 Elm Street, Dayton, OH 45410",
        ),
        ("the Loorenstrasse 149 in town", "ADDRESS", "Loorenstrasse 149"),
        ("on Rua Nova 36, upstairs", "ADDRESS", "Rua Nova 36"),
        (
            "my new address is the corner of 12 Elm Way and Mill Road",
            "ADDRESS",
            "the corner of 12 Elm Way and Mill Road",
        ),
    ],
)
def test_phi_is_found(engine: Detector, text: str, kind: str, value: str) -> None:
    assert (kind, value) in found(engine, text)


@pytest.mark.parametrize(
    "text",
    [
        "A 60-year-old man takes Lisinopril 10 mg daily for hypertension.",
        "Known Parkinson disease, Hodgkin's lymphoma and Guillain-Barré syndrome.",
        "Gleason 7, Apgar 9, Foley catheter in place, Crohn's disease, Down syndrome.",
        "MRN was not given; COPD, ADA guidelines and HbA1c 7.9 % were discussed.",
        "BP 132/78, pulse 88, temperature 98.6, oxygen at 2 L/min, 1985 mL drained.",
        "Patient: Yes, it hurts. Doctor: Okay, good.",
        "Metformin 500 mg, Tylenol as needed, insulin glargine 14 units at night.",
        "Survived 95 % of cases; 92 patients; weight 101 kg; dose 95 mg.",
        "Common in Africa and the United States.",
        "The doctor said she is fine. He said yes. The nurse asks, the dr. told him.",
        "",
    ],
)
def test_medicine_is_left_alone(engine: Detector, text: str) -> None:
    assert found(engine, text) == set()


@pytest.mark.parametrize(
    "text",
    [
        "Mr. Smith has cancer.",
        "Irenka has anemia.",
        "I saw Ada Moss for anemia.",
        "Did Christensen test positive for it?",
    ],
)
def test_a_verb_between_a_name_and_a_disease_leaves_the_name_one(engine: Detector, text: str) -> None:
    assert [span.kind for span in engine.detect([text])[0]] == ["NAME"]


@pytest.mark.parametrize(
    "text",
    [
        "Becker and Duchenne muscular dystrophy.",
        "Peters ' anomaly and Potter ' s facies.",
        "sirolimus ( Srl ) was given; Srl was stopped.",
    ],
)
def test_medicine_named_after_people_stays(engine: Detector, text: str) -> None:
    assert engine.detect([text]) == [[]]


def test_organisations_and_nationalities_are_not_asked_for(engine: Detector) -> None:
    assert found(engine, "The Microbilt Corporation hired a Norwegian engineer.") == set()


def test_labels_are_searched_by_shape_only() -> None:
    assert detect_shapes("MAIN OUTCOME MEASURES") == []
    assert detect_shapes("Problem") == []
    assert [span.kind for span in detect_shapes("Dr. Thaddeus Quillfeather")] == ["NAME"]


def test_a_text_has_the_same_findings_in_any_company(engine: Detector) -> None:
    texts = [
        f"Mary Johnson was seen on March {day}, 2024 at Mercy Clinic. " * (day % 4 + 1)
        for day in range(1, 20)
    ]
    alone = [engine.detect([text])[0] for text in texts]
    assert engine.detect(texts) == alone
    assert engine.detect(texts[::-1]) == alone[::-1]
