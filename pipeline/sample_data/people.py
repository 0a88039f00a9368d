"""Made-up people: patients and clinicians with all that identifies them, each piece labelled."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.sample_data.markup import Draw, mark

FEMALE = (
    "Agnes", "Alma", "Beatriz", "Carla", "Claire", "Daniela", "Deborah", "Eileen", "Fatima", "Frances",
    "Grace", "Gwen", "Helen", "Ingrid", "Janet", "Joyce", "Karen", "Lena", "Lucia", "Marta", "Mei",
    "Nadia", "Noreen", "Olga", "Patricia", "Priya", "Rosa", "Ruth", "Sandra", "Simone", "Teresa",
    "Ursula", "Wanda", "Yvonne",
)  # fmt: skip
MALE = (
    "Albert", "Andrew", "Bruno", "Carlos", "Curtis", "Dennis", "Edwin", "Emeka", "Felix", "Gerald",
    "Harold", "Hiroshi", "Ivan", "Jerome", "Joel", "Kenneth", "Lars", "Leonard", "Luis", "Marvin", "Miguel",
    "Nathan", "Omar", "Oscar", "Pavel", "Quentin", "Ravi", "Roland", "Samuel", "Stefan", "Tomas", "Victor",
    "Walter", "Xavier",
)  # fmt: skip
LAST = (
    "Abbott", "Alvarez", "Bennett", "Bianchi", "Brandt", "Callahan", "Chandra", "Collins", "Cortez",
    "Dawson", "Delgado", "Donnelly", "Eriksen", "Farrell", "Fischer", "Garland", "Gibbons", "Haddad",
    "Hartley", "Hoang", "Ibrahim", "Jennings", "Kaplan", "Keller", "Kowalski", "Lambert", "Larsen",
    "Lindqvist", "Lopez", "Maddox", "Mahoney", "Marsh", "Mendoza", "Moreau", "Nakamura", "Novak", "Odell",
    "Okafor", "Olsen", "Osborne", "Paxton", "Petrov", "Quigley", "Ramsey", "Rivera", "Rosenthal",
    "Sanders", "Sato", "Schultz", "Shah", "Sinclair", "Sorensen", "Sutton", "Tanaka", "Thornton", "Tran",
    "Ulrich", "Vance", "Vargas", "Wallace", "Whitaker", "Yamada", "Yates", "Zimmerman",
)  # fmt: skip

STREETS = (
    "Alder Court", "Birch Street", "Chapel Road", "Colfax Avenue", "Dover Lane", "Elm Street",
    "Garfield Avenue",
    "Harbor Drive", "Hickory Lane", "Juniper Street", "Kingsley Road", "Larkspur Drive", "Maple Street",
    "Mill Road", "Oakwood Avenue", "Orchard Lane", "Prospect Street", "Quarry Road", "Ridge Avenue",
    "Sycamore Street", "Tanner Lane", "Union Avenue", "Walnut Street", "Willow Drive",
)  # fmt: skip
CITIES = (
    ("Peoria", "IL", "61604"), ("Springfield", "IL", "62704"), ("Dayton", "OH", "45410"),
    ("Columbus", "OH", "43215"), ("Portland", "OR", "97214"), ("Salem", "OR", "97301"),
    ("Durham", "NC", "27701"), ("Raleigh", "NC", "27605"), ("Bangor", "ME", "04401"),
    ("Augusta", "ME", "04330"), ("Boise", "ID", "83702"), ("Spokane", "WA", "99201"),
)  # fmt: skip
AREA_CODES = ("217", "309", "937", "614", "503", "971", "919", "984", "207", "208", "509")
MAIL_HOSTS = ("example.com", "example.org", "example.net")

MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


@dataclass(frozen=True)
class Person:
    """A made-up patient; every property is text with its PHI labelled."""

    first: str
    last: str
    female: bool
    years: int
    number: str
    born: datetime.date
    telephone: str
    mail: str
    street: str

    @property
    def name(self) -> str:
        """First and last name."""
        return mark("NAME", f"{self.first} {self.last}")

    @property
    def formal(self) -> str:
        """Title and last name; the title is no PHI."""
        return f"{'Mrs.' if self.female else 'Mr.'} {mark('NAME', self.last)}"

    @property
    def age(self) -> str:
        """Years, PHI from 90 on."""
        return mark("AGE", str(self.years)) if self.years >= 90 else str(self.years)

    @property
    def aged(self) -> str:
        """``an 81-year-old woman``."""
        article = "an" if str(self.years).startswith("8") else "a"
        return f"{article} {self.age}-year-old {'woman' if self.female else 'man'}"

    @property
    def mrn(self) -> str:
        """Medical record number."""
        return mark("ID", self.number)

    @property
    def birth(self) -> str:
        """Date of birth, month/day/year."""
        return mark("DATE", f"{self.born.month:02d}/{self.born.day:02d}/{self.born.year}")

    @property
    def phone(self) -> str:
        """Telephone number."""
        return mark("CONTACT", self.telephone)

    @property
    def email(self) -> str:
        """E-mail address."""
        return mark("CONTACT", self.mail)

    @property
    def address(self) -> str:
        """House number, street, city, state and ZIP code in one span."""
        return mark("LOCATION", self.street)


def person(
    draw: Draw, female: Sequence[str] = FEMALE, male: Sequence[str] = MALE, last: Sequence[str] = LAST
) -> Person:
    """A new person; about one in eight is 90 or older."""
    is_female = draw.chance(0.5)
    first, surname = draw.pick(female if is_female else male), draw.pick(last)
    years = draw.between(90, 99) if draw.chance(0.12) else draw.between(19, 89)
    city, state, zip_code = draw.pick(CITIES)
    return Person(
        first=first,
        last=surname,
        female=is_female,
        years=years,
        number=draw.digits(7),
        born=day(draw, 2022 - years, 2022 - years),
        telephone=phone_number(draw),
        mail=f"{first}.{surname}{draw.between(1, 99)}@{draw.pick(MAIL_HOSTS)}".lower(),
        street=f"{draw.between(2, 989)} {draw.pick(STREETS)}, {city}, {state} {zip_code}",
    )


def phone_number(draw: Draw) -> str:
    """A number of the range 555-0100 to 555-0199, which is kept for fiction."""
    area, line = draw.pick(AREA_CODES), f"555-01{draw.between(0, 99):02d}"
    return draw.pick((f"({area}) {line}", f"{area}-{line}", f"{area}.{line.replace('-', '.')}"))


def day(draw: Draw, first_year: int, last_year: int) -> datetime.date:
    """A day between two years, both included."""
    return datetime.date(draw.between(first_year, last_year), draw.between(1, 12), draw.between(1, 28))


def written(draw: Draw, date: datetime.date) -> str:
    """A date as people write it, labelled."""
    month = MONTHS[date.month - 1]
    return mark(
        "DATE",
        draw.pick(
            (
                f"{month} {date.day}, {date.year}",
                f"{date.day} {month[:3]} {date.year}",
                f"{date.month:02d}/{date.day:02d}/{date.year}",
                date.isoformat(),
            )
        ),
    )


def visit_date(draw: Draw) -> str:
    """A written date of the years 2021 to 2024."""
    return written(draw, day(draw, 2021, 2024))
