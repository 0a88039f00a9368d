"""What stands for PHI in Chinese text: the same kind, length and script, drawn from the key."""

import datetime
import re

from pipeline.deidentify.chinese import CITIES, COMPOUND_SURNAMES, GIVEN, HAN, PROVINCES, SURNAMES
from pipeline.deidentify.dates import shifted
from pipeline.deidentify.drawing import Draw

STEMS = (
    "新华", "解放", "和平", "人民", "东风", "光明", "长青", "建设", "红星", "青山", "胜利", "中兴", "文昌", "永安", "兴隆", "团结", "前进",
    "朝霞", "银杏", "梧桐", "桃源", "龙泉", "清河", "白云", "万寿", "广安", "丰收", "幸福", "凤凰", "翠湖",
)  # fmt: skip
"""Names of streets and districts that most Chinese towns have."""
NO_DATE = "某日"
"""What stands for a date without a year where only years may stay."""

_IS_HAN = re.compile(f"[{HAN}]")
_MOBILE = re.compile(r"(?:\+?86[ -]?)?1[3-9]\d[ -]?\d{4}[ -]?\d{4}")
_RESIDENT = re.compile(r"\d{17}[\dXx]")
_DATE = re.compile(
    r"(?:(?P<year>(?:18|19|20)?\d{2})(?P<y>[ ]?年[ ]?))?(?P<month>\d{1,2})(?P<m>[ ]?月[ ]?)(?:(?P<day>\d{1,2})(?P<d>[ ]?[日号]))?"
)
_NUMERALS = "零一二三四五六七八九"
_IN_CHARACTERS = re.compile(
    r"(?P<year>[二一][〇零九一二三四五六七八]{3})年(?P<month>[一二三四五六七八九十]{1,2})月(?:(?P<day>[一二三四五六七八九十]{1,3})(?P<d>[日号]))?"
)
_PLACES = re.compile("|".join((*PROVINCES, *CITIES)))
_SEGMENT = re.compile(
    rf"(?P<stem>[{HAN}]+?)(?P<kind>省|自治区|自治州|市|区|县|旗|镇|乡|街道|村|庄|路|大街|街|大道|道|巷|弄|胡同|小区|花园|公寓|大厦|新村|家园)"
)
_FACILITY = re.compile("医院|卫生院|卫生所|诊所|医学院|疗养院|体检中心|疾控中心")


def is_chinese(kind: str, text: str) -> bool:
    """Whether a value is written in Chinese, or is a number of the People's Republic."""
    digits = re.sub(r"[\s-]", "", text)
    return (
        _IS_HAN.search(text) is not None
        or (kind == "PHONE" and _MOBILE.fullmatch(text) is not None)
        or (kind == "ID" and _RESIDENT.fullmatch(digits) is not None)
    )


def stand_in(kind: str, text: str, draw: Draw, weeks: int | None) -> str:
    """What stands for a value that ``is_chinese``. ``weeks``: what dates move by; None for years alone."""
    if kind == "NAME":
        return _name(text, draw)
    if kind == "DATE":
        return _date(text, weeks)
    if kind in ("ADDRESS", "LOCATION"):
        return _place(text, draw)
    if kind == "FACILITY":
        ending = (_FACILITY.findall(text) or ["医院"])[-1]
        number = "一二三四五"[draw.number("ZH", "FACILITY", text) % 5]
        return f"{_other('CITY', text, CITIES, draw)}市第{number}人民{ending}"
    if kind == "PHONE":
        return _mobile(text, draw)
    if kind == "ID" and _RESIDENT.fullmatch(re.sub(r"\s", "", text)):
        return _resident(text, draw)
    return draw.shaped(kind, text)


def _other(kind: str, text: str, choices: tuple[str, ...] | str, draw: Draw) -> str:
    """One of the choices, another one than the text."""
    start = draw.number("ZH", kind, text) % len(choices)
    return choices[start] if choices[start] != text else choices[(start + 1) % len(choices)]


def _name(text: str, draw: Draw) -> str:
    """Surname for surname and given name for given name, so that 李医生 and 李小明 stay one family."""
    compound = text[:2] in COMPOUND_SURNAMES
    surname, given = (text[:2], text[2:]) if compound else (text[:1], text[1:])
    new = _other("SURNAME", surname, COMPOUND_SURNAMES if compound else SURNAMES, draw)
    return new + "".join(
        _other("GIVEN", f"{given}{place}", GIVEN, draw) if GIVEN else "" for place in range(len(given))
    )


def _place(text: str, draw: Draw) -> str:
    """Provinces for provinces and towns for towns; other districts and streets get common names."""
    pieces, position = [], 0
    for match in _PLACES.finditer(text):
        pieces += [_districts(text[position : match.start()], draw)]
        choices = PROVINCES if match[0] in PROVINCES else CITIES
        pieces.append(_other("PLACE", match[0], choices, draw))
        position = match.end()
    pieces.append(_districts(text[position:], draw))
    return re.sub(r"\d+", lambda digits: draw.shaped("ADDRESS", digits[0]), "".join(pieces))


def _districts(text: str, draw: Draw) -> str:
    kept = re.match("(?:省|市|(?:[^市省]族)?自治区|县)?", text)
    start = kept.end() if kept else 0
    return text[:start] + _SEGMENT.sub(
        lambda match: _other("STEM", match["stem"], STEMS, draw) + match["kind"], text[start:]
    )


def _mobile(text: str, draw: Draw) -> str:
    """The shape kept, and what makes it a mobile number (1 and a digit from 3) or one with an area code (0)."""
    kept = re.match(r"(?:\+?86[\s-]?)?[01]?", text)
    start = kept.end() if kept else 0
    shaped = text[:start] + draw.shaped("PHONE", text)[start:]
    if start and text[start - 1] == "1":
        return shaped[:start] + str(3 + int(shaped[start]) % 7) + shaped[start + 1 :]
    return shaped


def _resident(text: str, draw: Draw) -> str:
    """A resident id with a right check character, of a made-up birthday (GB 11643)."""
    number = draw.number("ZH", "RESIDENT", text)
    birthday = datetime.date(1930, 1, 1) + datetime.timedelta(days=number % 27_000)
    area = 110_101 + (number // 27_000) % 540_000
    digits = f"{area:06d}{birthday:%Y%m%d}{number // 10**12 % 1000:03d}"
    weighted = sum(int(digit) * (2 ** (17 - place) % 11) for place, digit in enumerate(digits))
    return digits + "10X98765432"[weighted % 11]


def _date(text: str, weeks: int | None) -> str:
    match = _DATE.fullmatch(text)
    if match:
        return _moved(match, weeks)
    written = _IN_CHARACTERS.fullmatch(text)
    if not written:
        return NO_DATE
    digits = "".join(str("〇一二三四五六七八九".find(c)) if c != "零" else "0" for c in written["year"])
    day = f"{_value(written['day'])}日" if written["day"] else ""
    plain = _DATE.fullmatch(f"{digits}年{_value(written['month'])}月{day}")
    return _moved(plain, weeks) if plain else NO_DATE


def _moved(match: re.Match[str], weeks: int | None) -> str:
    if weeks is None:
        return f"{match['year']}年" if match["year"] else NO_DATE
    moved = shifted(
        int(match["year"] or 2001), int(match["month"]), int(match["day"]) if match["day"] else None, weeks
    )
    if moved is None:
        return NO_DATE
    year = f"{moved.year % 100:02d}" if match["year"] and len(match["year"]) == 2 else str(moved.year)
    parts = [f"{year}{match['y']}"] if match["year"] else []
    parts.append(f"{moved.month}{match['m']}")
    if match["day"]:
        parts.append(f"{moved.day}{match['d']}")
    return "".join(parts)


def _value(numerals: str) -> int:
    """十二 is 12, 二十 is 20."""
    tens, ten, ones = numerals.partition("十")
    if not ten:
        return _NUMERALS.index(numerals)
    return (_NUMERALS.index(tens) if tens else 1) * 10 + (_NUMERALS.index(ones) if ones else 0)
