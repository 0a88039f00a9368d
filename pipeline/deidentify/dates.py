"""Dates as people write them: found, shifted by whole weeks or cut to the year, in their own format.

A date without year shifts by the same weeks, from a fixed year; a month and year by about as many
whole months, so that different months stay different. Bare years and weekdays are found where they
say when something was, and stay: years may, and a shift by whole weeks keeps weekdays. Times of day
and words like "daily" are no dates here.
"""

import calendar
import datetime
import re
from collections.abc import Iterator

MONTHS = [name.lower() for name in calendar.month_name]

_MONTH = (
    r"(?P<name>Jan(?:uary|\.)?|Feb(?:ruary|\.)?|Mar(?:ch|\.)?|Apr(?:il|\.)?|May|June?\.?|July?\.?|Aug(?:ust|\.)?"
    r"|Sept?(?:ember|\.)?|Oct(?:ober|\.)?|Nov(?:ember|\.)?|Dec(?:ember|\.)?)"
)
_DAY = r"(?P<day>0?[1-9]|[12]\d|3[01])(?P<ordinal>st|nd|rd|th)?"
_YEAR = r"(?P<year>(?:1[89]|20)\d\d)"
_TIME = r"(?:[T ]\d{1,2}:\d{2}(?::\d{2})?\b)?"
_NOT_AN_AMOUNT = r"(?!\d)(?!\s*(?:mg|mcg|ml|g|kg|cm|mm|%|percent|units?|patients?|years?|times|of\s+\d)\b)"
_BEFORE_PARTIAL = (
    r"(?:\b(?:on|since|until|till|from|around|through|thru|by|after|before|dated?|visit|seen|due|appointment|"
    r"admitted|discharged|transferred|presented|born|died|expired|dob|doa|dos|appt|between)"
    r"(?:\s+(?:about|the|approximately))?:?\s+)"
)

_FORMATS = [
    re.compile(pattern, flags)
    for pattern, flags in (
        # 2024-03-09, 2024/3/9
        (
            rf"(?<![\w/.-]){_YEAR}(?P<separator>[-/.])(?P<month>\d{{1,2}})(?P=separator)(?P<day>\d{{1,2}})(?!\d|[-/]\d){_TIME}",
            0,
        ),
        # 03/09/2024, 9.3.2024, 3-9-24
        (
            r"(?<![\w/.-])(?P<month>\d{1,2})(?P<separator>[-/.])(?P<day>\d{1,2})(?P=separator)"
            rf"(?P<year>(?:1[89]|20)\d\d|(?<!\.)'?\d\d)(?!\w|/\d|-\d(?!\d?/\d)|\.\d){_TIME}",
            0,
        ),
        # 03/09/2024-03/12/2024, the second
        (
            r"(?<=\d-)(?P<month>\d{1,2})/(?P<day>\d{1,2})/(?P<year>(?:1[89]|20)\d\d|\d\d)(?![\w/-]|\.\d)",
            0,
        ),
        # 20240309
        (
            r"(?<![\w/.-])(?P<year>(?:19|20)\d\d)(?P<month>0[1-9]|1[0-2])(?P<day>0[1-9]|[12]\d|3[01])(?![\w/-]|\.\d)",
            0,
        ),
        # 9 March 2024, 9th of March, 2024, 9-Mar-24
        (
            rf"(?<![\w/.]){_DAY}(?:\s+of\s+|[\s-]*){_MONTH}(?:,?[\s-]+|,)(?P<year>(?:1[89]|20)\d\d|'\d\d|(?<=-)\d\d)\b",
            re.I,
        ),
        # March 9, 2024, Mar. 9th to 12th 2024
        (
            rf"\b{_MONTH}[\s-]*{_DAY}(?:\s*(?:-|–|to|and|&)\s*(?P<day2>[12]\d|3[01]|0?[1-9])(?P<ordinal2>st|nd|rd|th)?)?"
            rf"(?:\s*,\s*|\s+of\s+|\s+|-)(?P<year>(?:1[89]|20)\d\d|'\d\d)\b",
            re.I,
        ),
        # March 2024, March of 2024
        (rf"\b{_MONTH}(?:\s+of)?(?:,\s*|\s+|-)(?P<year>(?:1[89]|20)\d\d|'\d\d)\b", re.I),
        # March 9; 9 March
        (rf"\b(?-i:(?=[A-Z])){_MONTH}\s+{_DAY}\b{_NOT_AN_AMOUNT}", re.I),
        (rf"(?<![\w/.]){_DAY}(?:\s+of)?\s+(?-i:(?=[A-Z])){_MONTH}\b(?!\s+\d)", re.I),
        # 3/1 and 3/9/24, 3/1 to 3/9/24
        (
            r"(?<![\w/.-])(?P<date>(?P<month>0?[1-9]|1[0-2])/(?P<day>0?[1-9]|[12]\d|3[01]))"
            r"(?=\s*(?:-|–|to|and|through|thru)\s*\d{1,2}/\d{1,2}/\d)",
            re.I,
        ),
        # 03/2024
        (r"(?<![\w/.-])(?P<month>0?[1-9]|1[0-2])/(?P<year>(?:19|20)\d\d)(?![\w/])", 0),
        # on 3/9
        (
            rf"{_BEFORE_PARTIAL}(?P<date>(?P<month>0?[1-9]|1[0-2])/(?P<day>0?[1-9]|[12]\d|3[01]))"
            r"(?![\w/%.]\d|\w|/|%|\s*(?:of|tablets?|tabs?|pills?|cups?|doses?|strength|pain|scale|teaspoons?|inch)\b)",
            re.I,
        ),
    )
]
_MONTH_ALONE = re.compile(
    r"\b(?:in|since|until|till|early|mid|late|last|this|next|during|by)[\s-](?:early|mid|late)?[\s-]?"
    rf"(?P<date>(?-i:(?=[A-Z])){_MONTH})(?![\w-]|\s+\d)",
    re.IGNORECASE,
)
"""In March, since early May."""
_KEPT = [
    re.compile(pattern)
    for pattern in (
        r"(?i:\b(?:on|last|next|this|since|until|till|by|from|before|after|come)[ ]|,[ ])"
        r"(?P<kept>(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day)\b",
        r"\b(?P<kept>(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day|Mon|Tues?|Wed|Thu(?:rs?)?|Fri|Sat|Sun)"
        r"(?=\.?,?\s+(?:the\s+)?(?:\d{1,2}[/.-]\d|(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\.?\s+\d))",
        r"(?i:\b(?:in|during|since|from|until|till|through|before|after|around|about|circa|early|late|year|of|by|to|and))"
        r"[ ](?P<kept>(?:19|20)\d\d)\b(?![-–/,.:]?\d)(?!\s*%)(?![ -](?:[a-z]+s|mg|mcg|ml|g|kg|cm|mm|cc|units?)\b)",
        r"\b(?i:a|an|the|his|her|my|our|their)[ ](?P<kept>(?:19|20)\d\d)[ ](?=[^\W\d_]+)(?!(?:[a-z]+s|mg|mcg|ml|g|kg|cm|mm|cc|units?)\b)",
    )
]
_STAYS = re.compile(
    r"(?:19|20)\d\d|(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day|Mon|Tues?|Wed|Thu(?:rs?)?|Fri|Sat|Sun"
)
_SEASON = re.compile(
    r"\b(?P<season>(?i:spring|summer|autumn|fall|winter)|Q[1-4])(?P<between>(?:[ ]of)?[ ])(?P<year>(?:19|20)\d\d)\b"
)
_SEASONS = {
    "winter": 1,
    "spring": 4,
    "summer": 7,
    "autumn": 10,
    "fall": 10,
    "q1": 1,
    "q2": 4,
    "q3": 7,
    "q4": 10,
}
"""The first month of each that is counted from."""
_MONTH_WHOLE = re.compile(_MONTH, re.IGNORECASE)
_PARTIAL = re.compile(r"(?P<date>(?P<month>0?[1-9]|1[0-2])/(?P<day>0?[1-9]|[12]\d|3[01]))")
_PARTS = ("year", "month", "name", "day", "ordinal", "day2", "ordinal2")

NO_YEAR = "[date]"
"""What stands for a date without a year where only years may stay."""


def find(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of every date in ``text``; they may overlap."""
    for form in _KEPT:
        for match in form.finditer(text):
            yield match.span("kept")
    for match in _MONTH_ALONE.finditer(text):
        yield match.span("date")
    if not any(character.isdigit() for character in text):
        return
    for match in _SEASON.finditer(text):
        yield match.span()
    for form in _FORMATS:
        for match in form.finditer(text):
            if _parse(match) is not None:
                yield match.span("date" if "date" in form.groupindex else 0)


def replaced(date: str, weeks: int | None) -> str | None:
    """``date`` moved by ``weeks``, in its own format; with None, its year alone; a bare year or weekday as it is.

    None where the text is no date that ``find`` would find.
    """
    if _STAYS.fullmatch(date):
        return date
    if season := _SEASON.fullmatch(date):
        return season["year"] if weeks is None else _season_moved(season, weeks)
    for form in [*_FORMATS, _PARTIAL, _MONTH_WHOLE]:
        match = form.fullmatch(date)
        parsed = _parse(match) if match else None
        if match and parsed:
            return _year(match) if weeks is None else _moved(match, *parsed, weeks)
    return None


def has_year(date: str) -> bool:
    """Whether a text that ``find`` finds, or month and day in figures, says a year."""
    return replaced(date, None) != NO_YEAR


def shifted(year: int, month: int, day: int | None, weeks: int) -> datetime.date | None:
    """A date moved by ``weeks``; without a day, a month moved by about as many months. None where it is none.

    ``year`` of two digits as in ``_four_digits``; a day after the month's end counts as its last day.
    """
    year = _four_digits(str(year)) if year < 100 else year
    if not (1 <= month <= 12 and 1 <= (day or 1) <= 31 and 1 <= year <= 9999):
        return None
    if day is None:
        return _plus_months(datetime.date(year, month, 15), weeks)
    return _plus(datetime.date(year, month, min(day, calendar.monthrange(year, month)[1])), weeks)


def _parse(match: re.Match[str]) -> tuple[datetime.date, bool] | None:
    """The date, and whether day and month stand in the order day, month; None where it is none.

    A day after the month's end counts as its last day.
    """
    part = match.groupdict()
    day = int(part.get("day") or 15)
    year = _four_digits(part["year"]) if part.get("year") else (2000 if day == 29 else 2001)
    day_first = False
    if part.get("name"):
        month = next(i for i, name in enumerate(MONTHS) if i and name.startswith(part["name"][:3].lower()))
    else:
        month = int(part["month"])
        if month > 12 and day <= 12:
            month, day, day_first = day, month, True
    if not (1 <= month <= 12 and 1 <= day <= 31 and 1 <= year <= 9999):
        return None
    return datetime.date(year, month, min(day, calendar.monthrange(year, month)[1])), day_first


def _moved(match: re.Match[str], date: datetime.date, day_first: bool, weeks: int) -> str:
    part = match.groupdict()
    moved = _plus(date, weeks) if part.get("day") else _plus_months(date, weeks)
    numbers = [part[name] for name in ("month", "day") if part.get(name)]
    padded = any(number.startswith("0") for number in numbers) or (
        part.get("month") is not None and all(len(number) == 2 for number in numbers)
    )
    first, second = (moved.day, moved.month) if day_first else (moved.month, moved.day)
    new = {
        "year": _year_like(part.get("year") or "", moved.year),
        "month": f"{first:0{2 if padded else 1}d}",
        "day": f"{second:0{2 if padded else 1}d}"
        if part.get("month")
        else f"{moved.day:0{2 if padded else 1}d}",
        "name": _month_like(part.get("name") or "", moved.month),
        "ordinal": _ordinal(moved.day),
    }
    if part.get("day2"):
        last = _plus(
            date.replace(day=min(int(part["day2"]), calendar.monthrange(date.year, date.month)[1])), weeks
        )
        same = last.month == moved.month
        new["day2"] = str(last.day) if same else f"{_month_like(part['name'], last.month)} {last.day}"
        new["ordinal2"] = _ordinal(last.day)
    return _rewritten(match, new)


def _plus(date: datetime.date, weeks: int) -> datetime.date:
    try:
        return date + datetime.timedelta(weeks=weeks)
    except OverflowError:
        return date - datetime.timedelta(weeks=weeks)


def _plus_months(date: datetime.date, weeks: int) -> datetime.date:
    """``date``, the 15th of a month, moved by the whole months nearest to ``weeks``, at least one."""
    months = max(1, round(abs(weeks) * 12 / 52))
    years, month = divmod(date.month - 1 + (months if weeks > 0 else -months), 12)
    return date.replace(year=date.year + years, month=month + 1)


def _season_moved(match: re.Match[str], weeks: int) -> str:
    """The season or quarter, and its year, that the middle of this one moves to; another one than it was."""
    name, year = match["season"], int(match["year"])
    quarter = (_SEASONS[name.lower()] - 1) // 3
    steps = max(1, round(abs(weeks) / 13)) * (1 if weeks > 0 else -1)
    years, moved = divmod(quarter + steps, 4)
    named = f"Q{moved + 1}" if name[0] == "Q" else ("winter", "spring", "summer", "fall")[moved]
    new = named.capitalize() if name[0].isupper() else named
    return f"{new}{match['between']}{year + years}"


def _rewritten(match: re.Match[str], new: dict[str, str]) -> str:
    """The matched text with its parts exchanged and everything between them kept."""
    start, text = match.start(), match[0]
    groups = match.re.groupindex
    for name in sorted((n for n in _PARTS if n in groups and match[n]), key=match.start, reverse=True):
        text = text[: match.start(name) - start] + new[name] + text[match.end(name) - start :]
    return text


def _year(match: re.Match[str]) -> str:
    year = match.groupdict().get("year")
    return str(_four_digits(year)) if year else NO_YEAR


def _four_digits(year: str) -> int:
    number = int(year.lstrip("'"))
    return number if number > 99 else number + (2000 if number < 30 else 1900)


def _year_like(original: str, year: int) -> str:
    if original.startswith("'"):
        return f"'{year % 100:02d}"
    return f"{year % 100:02d}" if len(original) == 2 else f"{year:04d}"


def _month_like(original: str, month: int) -> str:
    letters = original.rstrip(".")
    name = MONTHS[month].capitalize()
    if letters.lower() not in MONTHS:
        name = name[:3] + ("." if original.endswith(".") and len(name) > 3 else "")
    return name.upper() if letters.isupper() else name.lower() if letters.islower() else name


def _ordinal(day: int) -> str:
    return {1: "st", 2: "nd", 3: "rd"}.get(day % 10 if day not in (11, 12, 13) else 0, "th")
