"""Planted identifiers: sentences with made-up values, put into real records, and looked for in the output.

Names are put together from syllables, so that no list holds them; streets, towns and hospitals from
words that no list of places or pattern names. The sentences are other ones than the detectors' own
labelled documents use.
"""

import random
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import polars as pl

from tests.bench import records
from tests.bench.children import Result
from tests.bench.deidentify.project import Project

COUNT = 10_000
_ONSETS = (
    "br",
    "d",
    "f",
    "gl",
    "h",
    "k",
    "l",
    "m",
    "n",
    "p",
    "r",
    "s",
    "st",
    "t",
    "v",
    "w",
    "z",
    "th",
    "sk",
    "ch",
)
_MIDDLES = ("a", "e", "i", "o", "u", "ai", "ee", "ou", "ei")
_CODAS = ("n", "r", "l", "m", "rd", "nd", "ck", "s", "v", "rt", "lm", "x")
_ENDS = (
    "ova",
    "ski",
    "man",
    "sen",
    "ez",
    "idis",
    "oglu",
    "elli",
    "wala",
    "enko",
    "quist",
    "ara",
    "worth",
    "eau",
)
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "October", "November")


class Canary:
    """One made-up value of a kind, in a sentence."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self.kind = draw.choice(tuple(_SENTENCES))
        self.value = _VALUES[self.kind](draw)
        self.sentence = draw.choice(_SENTENCES[self.kind]).format(self.value)


def syllables(draw: random.Random, count: int) -> str:
    """A capitalised word that sounds like a name and is none that is known."""
    parts = [draw.choice(_ONSETS) + draw.choice(_MIDDLES) for _ in range(count)]
    return ("".join(parts) + draw.choice(_CODAS)).capitalize()


def _surname(draw: random.Random) -> str:
    return (
        draw.choice(_ONSETS) + draw.choice(_MIDDLES) + draw.choice(_CODAS) + draw.choice(_ENDS)
    ).capitalize()


def _name(draw: random.Random) -> str:
    return f"{syllables(draw, 1)} {_surname(draw)}"


def _digits(draw: random.Random, count: int) -> str:
    return "".join(draw.choice("123456789") for _ in range(count))


def _date(draw: random.Random) -> str:
    day, year = draw.randint(1, 28), draw.randint(1931, 2023)
    month = draw.randint(1, len(_MONTHS))
    return draw.choice(
        (
            f"{_MONTHS[month - 1]} {day}, {year}",
            f"{day} {_MONTHS[month - 1]} {year}",
            f"{month:02d}/{day:02d}/{year}",
            f"{year}-{month:02d}-{day:02d}",
            f"{day}.{month}.{year}",
            f"{_MONTHS[month - 1][:3]} {day} {year}",
        )
    )


def _address(draw: random.Random) -> str:
    kind = draw.choice(("Street", "Avenue", "Road", "Lane", "Drive", "Court", "Boulevard"))
    return f"{draw.randint(2, 9899)} {syllables(draw, 1)} {kind}"


def _phone(draw: random.Random) -> str:
    a, b, c = (
        f"{draw.randint(2, 9)}{_digits(draw, 2)}",
        f"{draw.randint(2, 9)}{_digits(draw, 2)}",
        _digits(draw, 4),
    )
    return draw.choice((f"({a}) {b}-{c}", f"{a}-{b}-{c}", f"{a}.{b}.{c}", f"+1 {a} {b} {c}"))


def _mail(draw: random.Random) -> str:
    return f"{syllables(draw, 1).lower()}{draw.choice('._-')}{_surname(draw).lower()}@{syllables(draw, 1).lower()}.net"


_VALUES: dict[str, Callable[[random.Random], str]] = {
    "full name": _name,
    "surname": _surname,
    "date": _date,
    "address": _address,
    "hospital": lambda draw: f"{syllables(draw, 2)} {draw.choice(('Hospital', 'Medical Center', 'Clinic'))}",
    "phone": _phone,
    "e-mail": _mail,
    "web address": lambda draw: f"https://{syllables(draw, 2).lower()}.org/{_surname(draw).lower()}",
    "record number": lambda draw: draw.choice((_digits(draw, 7), f"{_digits(draw, 3)}-{_digits(draw, 5)}")),
    "social security number": lambda draw: f"{_digits(draw, 3)}-{_digits(draw, 2)}-{_digits(draw, 4)}",
    "member number": lambda draw: f"{draw.choice('ABCWXZ')}{draw.choice('KLMQ')}{_digits(draw, 8)}",
    "age": lambda draw: str(draw.randint(90, 108)),
}
_SENTENCES: dict[str, tuple[str, ...]] = {
    "full name": (
        "The consent form was signed by {}.",
        "Patient name: {}.",
        "I discussed the findings with Mrs. {} at length.",
        "Interpreter for {} was present throughout.",
        "Next of kin is her husband, {}.",
        "{} called this morning to ask about the results.",
    ),
    "surname": (
        "Dr. {} agrees with the plan.",
        "Mr. {} tolerated the procedure well.",
        "Ms. {} will return if the pain gets worse.",
        "Case reviewed with Professor {}.",
    ),
    "date": (
        "The last dose was given on {}.",
        "Date of birth: {}.",
        "Sutures came out {} without difficulty.",
        "She was discharged {} in good condition.",
    ),
    "address": (
        "Medication should be delivered to {}.",
        "He has moved to {} since the last visit.",
        "Home address: {}.",
        "The ambulance met her at {}.",
    ),
    "hospital": (
        "Films from {} were requested.",
        "He was transferred from {} overnight.",
        "She had been followed at {} until last winter.",
        "Previous surgery was done at {}.",
    ),
    "phone": (
        "The daughter can be reached at {}.",
        "Call {} with the culture results.",
        "Fax the report to {}.",
        "Home phone {}.",
    ),
    "e-mail": ("Send the letter to {}.", "E-mail: {}.", "Her address for reminders is {}."),
    "web address": ("Pictures were uploaded to {}.", "The portal is {}."),
    "record number": (
        "MRN {}.",
        "Medical record number: {}.",
        "Chart no. {} was reviewed.",
        "Her hospital number is {}.",
    ),
    "social security number": ("SSN {}.", "Social security number on file: {}.", "The card shows {}."),
    "member number": ("Member ID: {}.", "Insurance policy number {}.", "Account number {} was billed."),
    "age": (
        "The patient is a {}-year-old retired teacher.",
        "He is {} years old and still walks daily.",
        "This {} y/o woman lives alone.",
        "Age: {}.",
    ),
}


def plant(seed: int = 17) -> Result:
    """``planted`` and ``missed`` canaries by kind: one in each of so many records of every task."""
    draw = random.Random(seed)
    everything = records.read("train")
    tasks = everything["task"].unique().sort()
    per_task = -(-COUNT // len(tasks))
    chosen = pl.concat(
        [
            everything.filter(pl.col("task") == task).sample(
                per_task, seed=seed, with_replacement=True, shuffle=True
            )
            for task in tasks
        ]
    ).head(COUNT)
    canaries = [Canary(draw) for _ in range(chosen.height)]
    rows = []
    for number, (row, canary) in enumerate(zip(chosen.iter_rows(named=True), canaries, strict=True)):
        rows.append(
            row
            | {
                "sample_id": f"canary-{number}",
                # Alone, so that no other canary's finding helps.
                "group_id": f"canary-{number}",
                "input": _planted(row["input"], canary.sentence, draw),
            }
        )
    with tempfile.TemporaryDirectory() as name:
        project = Project(Path(name))
        project.write("canaries.jsonl", rows)
        project.run("ingest", "validate", "deidentify")
        made = project.outputs().select("sample_id", "input")
    texts = dict(made.iter_rows())
    planted: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    for row, original, canary in zip(rows, chosen["input"], canaries, strict=True):
        # "90+" stands for an age; a number may have been there before.
        value = re.compile(rf"(?<!\w){re.escape(canary.value)}(?![\w+])")
        planted[canary.kind] += 1
        text = texts[project.identity(row)]
        missed[canary.kind] += len(value.findall(text)) > len(value.findall(original))
    return {"planted": dict(planted), "missed": {kind: missed[kind] for kind in sorted(planted)}}


def _planted(text: str, sentence: str, draw: random.Random) -> str:
    """``sentence`` between two sentences or lines of ``text``, or after it."""
    places = [match.end() for match in re.finditer(r"(?<=[.!?])[ ]+|\n", text)] or [len(text)]
    place = draw.choice(places)
    space = "" if not place or text[place - 1].isspace() else " "
    return f"{text[:place]}{space}{sentence} {text[place:]}".rstrip()
