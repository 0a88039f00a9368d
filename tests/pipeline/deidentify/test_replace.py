"""Surrogates: consistent within a group, unlinkable outside it, shaped like what they replace."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.deidentify import audit
from pipeline.deidentify.drawing import pseudonym
from pipeline.deidentify.replace import Surrogates
from pipeline.deidentify.spans import CATEGORIES, Span
from pipeline.deidentify.vocabulary import STATES, countries

KEY = bytes(range(32))


def surrogates(
    *found: tuple[str, str], key: bytes = KEY, group: str = "g", dates: str = "shift"
) -> Surrogates:
    return Surrogates(key, group, found, dates)


def test_a_person_stays_one_person_in_all_forms_of_the_name() -> None:
    group = surrogates(("NAME", "Mary Johnson"), ("NAME", "Johnson, Mary"), ("NAME", "Mrs. Johnson"))
    first, last = group.of("NAME", "Mary Johnson").split(" ")
    assert group.of("NAME", "Johnson, Mary") == f"{last}, {first}"
    assert group.of("NAME", "Mrs. Johnson") == f"Mrs. {last}"
    assert group.of("NAME", "MARY") == first.upper()
    assert group.of("NAME", "johnson's") == f"{last.lower()}'s"
    assert group.of("NAME", "Mary J.") == f"{first} {last[0]}."
    assert {first, last}.isdisjoint({"Mary", "Johnson"})


def test_titles_and_first_names_keep_their_gender() -> None:
    from faker.providers.person.en_US import Provider

    for number in range(30):
        group = surrogates(("NAME", "Mr. Kim Olsen"), ("NAME", "Mary Olsen"), group=str(number))
        assert group.of("NAME", "Mr. Kim Olsen").split(" ")[1] in Provider.first_names_male
        assert group.of("NAME", "Mary Olsen").split(" ")[0] in Provider.first_names_female


def test_people_of_a_group_are_not_merged() -> None:
    found = [
        ("NAME", f"Person{chr(97 + i)}{chr(97 + j)} Name{chr(97 + j)}{chr(97 + i)}")
        for i in range(20)
        for j in range(9)
    ]
    group = surrogates(*found)
    assert len({group.of(*name) for name in found}) == len(found)


@pytest.mark.parametrize(
    ("kind", "text"),
    [("NAME", "Mary Johnson"), ("ID", "AB-123456"), ("PHONE", "217-555-0112"), ("EMAIL", "a@b.org"),
     ("ADDRESS", "12 Elm Street"), ("LOCATION", "Springfield"), ("FACILITY", "Mercy Clinic"),
     ("URL", "https://a.org/x"), ("IP", "10.1.2.3"), ("DATE", "2024-03-09"), ("ID", "84620175"), ("LOCATION", "Hungary"), ("ZIP", "62704")],
)  # fmt: skip
def test_surrogates_differ_from_the_original_and_between_groups_and_keys(kind: str, text: str) -> None:
    def of(**options: object) -> str:
        return surrogates((kind, text), **options).of(kind, text)  # type: ignore[arg-type]

    assert of() == of()
    assert of() != text
    if kind != "ZIP":
        assert len({of(group=str(number)) for number in range(40)}) > 20
        assert len({of(key=bytes([number] * 32)) for number in range(40)}) > 20


@pytest.mark.parametrize("text", ["AB-123456", "#SP-112233", "12345xj", "0012-34"])
def test_ids_keep_their_shape(text: str) -> None:
    shape = surrogates().of("ID", text)
    assert re.sub(r"\d", "0", re.sub(r"[A-Z]", "A", re.sub(r"[a-z]", "a", shape))) == re.sub(
        r"\d", "0", re.sub(r"[A-Z]", "A", re.sub(r"[a-z]", "a", text))
    )


def test_one_number_written_twice_is_one_number_after() -> None:
    group = surrogates()
    assert group.of("ID", "12-345678").replace("-", "") == group.of("ID", "12345678")


def test_phones_get_the_exchange_that_is_nobodys() -> None:
    assert re.fullmatch(r"\(\d{3}\) 555-\d{4} ext\. \d\d", surrogates().of("PHONE", "(309) 867-5309 ext. 12"))
    assert re.fullmatch(r"\+\d\d \d{3} \d{4}", surrogates().of("PHONE", "+46 928 5713"))


@pytest.mark.parametrize(
    ("text", "kept"), [("62704", "62700"), ("62704-1234", "62700-0000"), ("03601", "00000")]
)
def test_zip_codes_keep_three_digits_where_many_people_live(text: str, kept: str) -> None:
    assert surrogates().of("ZIP", text) == kept


def test_an_address_keeps_its_form_and_state() -> None:
    address = surrogates().of("ADDRESS", "12 Elm Street, Apt. 4, Springfield, IL 62704")
    assert re.fullmatch(r"\d\d \w+ Street, Apt\. \d, \w+, IL 62700", address)
    assert "Elm" not in address
    assert "Springfield" not in address
    assert surrogates().of("LOCATION", "Springfield") in address


def test_ages_over_89_are_one_class() -> None:
    assert surrogates().of("AGE", "93") == surrogates().of("AGE", "ninety-two") == "90+"


def test_dates_of_a_group_move_together() -> None:
    import datetime

    group = surrogates()
    first, second = (
        datetime.date.fromisoformat(group.of("DATE", date)) for date in ("2024-03-09", "2024-05-01")
    )
    assert second - first == datetime.date(2024, 5, 1) - datetime.date(2024, 3, 9)
    weeks = (first - datetime.date(2024, 3, 9)).days / 7
    assert weeks == int(weeks)
    assert 1 <= abs(weeks) <= 52
    moves = {surrogates(group=str(number)).of("DATE", "2024-03-09") for number in range(300)}
    assert len(moves) > 90
    assert surrogates(dates="year").of("DATE", "March 9, 2024") == "2024"


def test_fields_of_a_record_are_replaced_alike() -> None:
    text = "Patient: Mary Johnson, MRN 8462017, seen on 3/14 by Dr. Ada Moss."
    spans = [Span(9, 21, "NAME"), Span(27, 34, "ID"), Span(44, 48, "DATE"), Span(52, 64, "NAME")]
    fields = [text, "Moss", "Dr. Ada Moss", "JOHNSON, mrn 8462017", "3/14"]
    found = [(span.kind, text[span.start : span.end]) for span in spans]
    replaced = surrogates(*found).replace(fields, [spans, [], [], [], []])
    note, moss, doctor, rest, date = (field.text for field in replaced)
    assert doctor in note
    assert doctor.endswith(moss)
    assert not re.search(
        "mary|johnson|8462017|3/14|ada|moss", " ".join((note, moss, doctor, rest, date)).lower()
    )
    for field in replaced:
        assert all(0 <= span.start < span.end <= len(field.text) for span in field.spans)
    assert [note[span.start : span.end] for span in replaced[0].spans][2] == date


def test_a_name_that_is_a_word_or_a_disease_is_replaced_as_a_name_only() -> None:
    group = surrogates(("NAME", "John Brown"), ("NAME", "Kate Parkinson"))
    text = "Brown sputum of Mr. Brown; Parkinson has Parkinson's disease"
    replaced = group.replace([text], [[]])[0].text
    assert replaced.startswith("Brown sputum of Mr. ")
    assert "Mr. Brown" not in replaced
    assert "Parkinson has" not in replaced
    assert replaced.endswith("has Parkinson's disease")


def again(found: list[str], *fields: str) -> list[str]:
    """Fields in whose input the names are found, after replacement."""
    group = surrogates(*(("NAME", name) for name in found))
    first = [Span(fields[0].index(name), fields[0].index(name) + len(name), "NAME") for name in found]
    return [field.text for field in group.replace(fields, [first, *([[]] * (len(fields) - 1))])]


@pytest.mark.parametrize(
    ("found", "text", "kept", "gone"),
    [
        ("Dr. Sharp", "Dr. Sharp. She reports sharp pain. Sharp agrees, SHARP left.", "reports sharp pain.", "Sharp|SHARP"),
        ("Dr. Block", "Dr. Block placed a nerve block.", "placed a nerve block.", "Block"),
        ("Dr. May", "Dr. May came. May I ask? In May again, DR. MAY.", "came. May I ask? In May again, DR. ", "Dr. May|MAY"),
        ("Will Smith", "Will Smith came. Will he walk? Smith, Will; Will J. Smith", "came. Will he walk?", "Smith|, Will|Will J"),
        ("SHARP, MIA", "SHARP, MIA: Mia has sharp pain, says Sharp.", "has sharp pain, says", "Sharp|SHARP|Mia|MIA"),
        ("dr. kumar", "dr. kumar left. Kumar came, KUMAR went.", " came, ", "(?i:kumar)"),
    ],
)  # fmt: skip
def test_a_name_is_propagated_as_it_is_written(found: str, text: str, kept: str, gone: str) -> None:
    replaced = again([found], text)[0]
    assert kept in replaced
    assert not re.search(gone, replaced)
    # The audit looks for what is replaced, and for no word.
    patterns = audit.originals([("NAME", found)])
    assert audit.left_over(patterns, [kept]) == {}


def test_an_answer_that_is_a_name_follows_the_input() -> None:
    note, first, whole = again(["Will Smith"], "Will Smith came.", "Will", "Smith, Will")
    assert note.startswith(f"{first} ")
    assert first != "Will"
    assert whole.endswith(f", {first}")
    assert again(["Dr. May"], "Dr. May asked: may I?", "May")[1] == "May"


def test_a_day_is_no_score() -> None:
    text = "Seen on 5/10 for knee pain, pain 5/10 today."
    fields = surrogates(("DATE", "5/10")).replace([text, "5/10"], [[Span(8, 12, "DATE")], []])
    assert fields[0].text.endswith("for knee pain, pain 5/10 today.")
    assert "on 5/10" not in fields[0].text
    assert fields[1] == ("5/10", [], [])


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("LOCATION", [f"Town{chr(97 + i)}{chr(97 + j)}" for i in range(20) for j in range(20)]),
        ("FACILITY", [f"Name{chr(97 + i)}{chr(97 + j)} Clinic" for i in range(20) for j in range(20)]),
        ("LOCATION", sorted(STATES.values())[:-1]),
        ("LOCATION", list(countries())[:150]),
    ],
)  # fmt: skip
def test_places_of_a_group_are_not_merged(kind: str, names: list[str]) -> None:
    group = surrogates(*((kind, name) for name in names))
    assert len({group.of(kind, name) for name in names}) == len(names)
    assert all(group.of(kind, name) != name for name in names)
    assert group.of(kind, names[0]) == surrogates(*((kind, name) for name in reversed(names))).of(
        kind, names[0]
    )


def test_a_label_without_phi_stays() -> None:
    group = surrogates(("NAME", "Mary Johnson"), ("AGE", "93"))
    labels = ["urgent", "routine", "MAIN OUTCOME MEASURES", "193", ""]
    assert [field.text for field in group.replace(labels, [[]] * 5)] == labels


def test_pseudonyms_tell_lists_of_values_apart() -> None:
    assert pseudonym(KEY, "id", "ab", "c") != pseudonym(KEY, "id", "a", "bc")
    assert re.fullmatch("[0-9a-f]{20}", pseudonym(KEY, "id", "x"))


@st.composite
def texts_with_spans(draw: st.DrawFn) -> tuple[str, list[Span]]:
    text = draw(st.text(max_size=60))
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    kinds = st.sampled_from(sorted(CATEGORIES))
    return text, [Span(a, b, draw(kinds)) for a, b in zip(cuts[::2], cuts[1::2], strict=False) if a < b]


@given(texts_with_spans(), st.sampled_from(["shift", "year"]))
def test_any_text_is_replaced_with_right_offsets(case: tuple[str, list[Span]], dates: str) -> None:
    text, spans = case
    found = [(span.kind, text[span.start : span.end]) for span in spans]
    first, again = (surrogates(*found, dates=dates).replace([text], [spans])[0] for _ in range(2))
    assert first == again
    position = 0
    for span in first.spans:
        assert position <= span.start <= span.end <= len(first.text)
        position = span.end
    if not spans:
        assert first.text == text


@given(st.text())
def test_nothing_found_is_nothing_changed(text: str) -> None:
    assert surrogates().replace([text], [[]])[0] == (text, [], [])
