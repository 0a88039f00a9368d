"""Clinical texts for measuring PHI detection: other templates and other people than the records'."""

from collections.abc import Iterator

from pipeline.sample_data.markup import Draw, mark
from pipeline.sample_data.people import AREA_CODES, CITIES, MONTHS, Person, day, person, visit_date

FEMALE = (
    "Adele", "Bridget", "Cecilia", "Dolores", "Elaine", "Flora", "Hannah", "Imogen", "Jasmine", "Leila",
    "Monica", "Paula", "Renata", "Sylvia", "Tamara", "Vera",
)  # fmt: skip
MALE = (
    "Adrian", "Boris", "Caleb", "Diego", "Elias", "Franklin", "George", "Howard", "Isaac", "Julian",
    "Kofi", "Martin", "Neil", "Patrick", "Raymond", "Theodore",
)  # fmt: skip
LAST = (
    "Anders", "Baptiste", "Carver", "Dimitrov", "Echols", "Fontaine", "Goldberg", "Hendricks", "Iyer",
    "Johansson", "Kimura", "Lombardi", "McAllister", "Nguyen", "O'Brien", "Pereira", "Rutherford",
    "Santiago", "Talbot", "Underwood", "Villanueva", "Whitfield", "Youssef", "Ziegler",
)  # fmt: skip
HOSPITALS = ("Lakeview Hospital", "Mercy Medical Center", "St. Anne Hospital", "Riverside Clinic")
PROBLEMS = (
    "COPD with frequent exacerbations", "Guillain-Barré syndrome", "a Gleason 7 prostate cancer",
    "poorly controlled diabetes", "a healed hip fracture", "Crohn disease", "stage 3 kidney disease",
    "community-acquired pneumonia", "Parkinson disease", "recurrent cellulitis",
)  # fmt: skip
TREATMENTS = (
    "Lisinopril 10 mg daily", "insulin glargine 14 units at night", "Tylenol as needed",
    "Augmentin for 7 days", "weekly methotrexate", "oxygen at 2 L/min", "a Foley catheter for 48 hours",
)  # fmt: skip


def documents(count: int, seed: int) -> Iterator[str]:
    """``count`` texts with their PHI labelled (see markup)."""
    draw = Draw(seed, "documents")
    for _ in range(count):
        yield draw.pick(_TEMPLATES)(draw, _person(draw), _person(draw))


def _person(draw: Draw) -> Person:
    return person(draw, FEMALE, MALE, LAST)


def _identifier(draw: Draw) -> str:
    """A kind of number and the number."""
    digits = draw.digits(8)
    return draw.pick(
        (
            f"MRN: {mark('ID', digits[:7])}",
            f"MRN# {mark('ID', '00' + digits[:6])}",
            f"account number {mark('ID', f'{digits[:2]}-{digits[2:]}')}",
            f"Member ID {mark('ID', f'XQ{digits}')}",
            f"accession {mark('ID', f'S{digits[:2]}-{digits[3:]}')}",
            f"patient ID {mark('ID', digits)}",
            f"case no. {mark('ID', f'R-{digits[:5]}')}",
        )
    )


def _short_date(draw: Draw) -> str:
    """A date without its year."""
    date = day(draw, 2023, 2023)
    return mark("DATE", draw.pick((f"{MONTHS[date.month - 1]} {date.day}", f"{date.month}/{date.day}")))


def _referral(draw: Draw, who: Person, other: Person) -> str:
    return (
        f"{visit_date(draw)}\n\nDear Dr. {mark('NAME', other.last)},\n\nThank you for seeing {who.name} "
        f"(DOB {who.birth}, {_identifier(draw)}), {who.aged} with {draw.pick(PROBLEMS)}. "
        f"{who.formal} takes {draw.pick(TREATMENTS)} and lives at {who.address}. "
        f"The results can be faxed to {other.phone}.\n\nWith kind regards,\n{other.name}, MD"
    )


def _call(draw: Draw, who: Person, other: Person) -> str:
    return (
        f"Telephone note. {who.name} called at 9:40 about {draw.pick(PROBLEMS)}. Caller is the "
        f"patient's {'sister' if other.female else 'brother'} {mark('NAME', other.first)}. Advised "
        f"{draw.pick(TREATMENTS)}. Call back at {who.phone} after "
        f"{_short_date(draw)}, or write to {who.email}."
    )


def _discharge(draw: Draw, who: Person, other: Person) -> str:
    return (
        f"DISCHARGE SUMMARY\nPatient: {mark('NAME', f'{who.last}, {who.first}')}\n{_identifier(draw)}\n"
        f"Admitted: {visit_date(draw)}\nDischarged: {visit_date(draw)}\nAttending: {other.name}\n\n"
        f"The patient, {who.aged}, was admitted to {mark('LOCATION', draw.pick(HOSPITALS))} "
        f"with {draw.pick(PROBLEMS)} and improved on {draw.pick(TREATMENTS)}. Smoked from 1985 to 2009."
    )


def _nursing(draw: Draw, who: Person, other: Person) -> str:
    return (
        f"Night shift: {mark('NAME', who.last)} in bed 4, {who.age} y/o, slept poorly. "
        f"{draw.pick(TREATMENTS)} given at 22:00. BP 132/78, pulse 88. {mark('NAME', other.first)} "
        f"from the night team informed. Family to visit on {_short_date(draw)}."
    )


def _laboratory(draw: Draw, who: Person, other: Person) -> str:
    return (
        f"Specimen for {who.name}, {_identifier(draw)}, collected {visit_date(draw)}. Ordered by Dr. "
        f"{other.name}. Hemoglobin 11.2 g/dL, HbA1c 7.9 %, creatinine 1.3 mg/dL, TSH 2.4. "
        f"Indication: {draw.pick(PROBLEMS)}."
    )


def _mail(draw: Draw, who: Person, other: Person) -> str:
    return (
        f"From: {who.email}\nTo: {other.email}\n\nHello Dr. {mark('NAME', other.last)}, my appointment on "
        f"{visit_date(draw)} does not suit me because I moved to {mark('LOCATION', draw.pick(CITIES)[0])}. "
        f"I still take {draw.pick(TREATMENTS)}. My {_identifier(draw)}. Best, {mark('NAME', who.first)}"
    )


def _social(draw: Draw, who: Person, other: Person) -> str:
    return (
        f"{who.formal} is a retired teacher who lives in {mark('LOCATION', draw.pick(CITIES)[0])} with "
        f"{'a cousin' if draw.chance(0.5) else 'a friend'}, {other.name}. Emergency contact: {other.phone}. "
        f"Walks a mile daily, no alcohol since 2015. Known for {draw.pick(PROBLEMS)}."
    )


def _dialogue(draw: Draw, who: Person, other: Person) -> str:
    return (
        f"Doctor: Good morning, I am Dr. {mark('NAME', other.last)}. Can you confirm your date of birth?\n"
        f"Patient: It is {who.birth}, and my name is {who.name}.\n"
        f"Doctor: And how old are you now?\nPatient: {who.age}.\nDoctor: You came in with "
        f"{draw.pick(PROBLEMS)}?\nPatient: Yes, it began around {_short_date(draw)}."
    )


def _plain(draw: Draw, who: Person, other: Person) -> str:
    """A text without PHI, so that precision can be seen too."""
    del who, other
    return (
        f"The patient has {draw.pick(PROBLEMS)} and was started on {draw.pick(TREATMENTS)}. ADA guidelines "
        f"were discussed. Follow-up in {draw.between(2, 12)} weeks; "
        f"{draw.between(40, 89)}-year-old parent well."
    )


def _pager(draw: Draw, who: Person, other: Person) -> str:
    extension = f"{draw.pick(AREA_CODES)}-555-01{draw.between(0, 99):02d}"
    return (
        f"Page Dr. {other.name} at {mark('CONTACT', extension)} re {who.name} ({_identifier(draw)}): "
        f"{draw.pick(PROBLEMS)}, transferred from {mark('LOCATION', draw.pick(HOSPITALS))} "
        f"on {_short_date(draw)}."
    )


_TEMPLATES = (
    _referral,
    _call,
    _discharge,
    _nursing,
    _laboratory,
    _mail,
    _social,
    _dialogue,
    _plain,
    _pager,
)
