"""All that is found without a model: numbers, contacts, ages over 89, and what other modules know of dates, names and places."""

import ipaddress
import re
from collections.abc import Iterator

from pipeline.deidentify import dates, facilities, introductions, known_names, places, subjects
from pipeline.deidentify.shape import Shape
from pipeline.deidentify.spans import Span

_LABEL = (
    r"(?:MRN|M\.R\.N\.?|med(?:ical|\.)?\s+rec(?:ord|\.)?|(?:health|hospital|patient|pt|chart|encounter|visit|accession|specimen|case|claim|"
    r"account|acct\.?|member|subscriber|group|insurance|ins\.?|policy|plan|beneficiary|medicare|medicaid|licen[cs]e|"
    r"certificate|serial|device|vehicle|plate|passport|confirmation|order|invoice|reference|ref\.?|employee|student|"
    r"registration|prescription|rx|room|badge|document|unique|study)\s*(?=(?:policy\s+)?(?:number|no\b|num\b|id\b|ids\b|identifier|code|record|#|card))|"
    r"(?:account|accession|record|chart|insurance|ins|policy|medicare|medicaid|licen[cs]e|DEA|NPI|VIN|SSN|SS|social\s+security|"
    r"credit\s+card|card|IBAN|passport|UPI|FIN|CSN|driver['’]?s\s+licen[cs]e|plate|serial|ID|identifier)(?![a-z]))"
)
_NUMBERED = (
    r"(?:acct|account|claim|order|ref(?:erence)?|encounter|certificate|registration|case|file|chart|record|member|subscriber|"
    r"policy|group|barcode|tracking|subject|serial|device|licen[cs]e|DL|plate|passport|visa|SIN|NHS|MR|MRN|UR|URN|HN|CRN|Rx|lab|"
    r"specimen|accession|lot|insurance|Medicare|Medicaid|health\s+card|beneficiary|employee|badge|invoice|ticket|request|booking)"
)
"""Words before a number that has a letter or a hyphen in it, or stands in groups."""
_VALUE = r"#?\s?(?P<phi>(?=[\w/-]*\d[\w/-]*\d[\w/-]*\d)[A-Za-z0-9]+(?:[-/]?[A-Za-z0-9]+)*(?<!-))"
_PHONE_WORD = (
    r"(?:phone|telephone|tel|call(?:\s+(?:me|us|her|him|back))?(?:\s+(?:on|at))?|fax|mobile|cell|pager|page|beeper|contact|"
    r"registered|number|reach(?:ed|able)?(?:\s+\w+)?\s+(?:at|on)|text|hotline|ring|dial|whatsapp)"
)
_DIGITS = r"\+?\(?\d(?:[ \t().-]{0,2}\d){5,14}"
_PHONE_END = r"(?![\w/])(?!-\d)(?!\.\d)(?:\s*(?:x|ext\.?|extension)\s*\d{1,6})?"
_YEARS = re.compile(r"(?:19|20)\d\d[- ](?:19|20)?\d\d")
_AGE = r"(?P<phi>9\d|1[01]\d|12[0-9])"
_RELATIVE = (
    "(?:mother|father|sister|brother|wife|husband|spouse|aunt|uncle|grandmother|grandfather|patient|he|she)"
)
_AGE_WORD = (
    r"(?P<phi>ninety(?:[\s-]?(?:one|two|three|four|five|six|seven|eight|nine))?|(?:a|one)\s+hundred(?:\s+(?:and\s+)?"
    r"(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve))?)"
)


def _luhn(match: re.Match[str]) -> bool:
    digits = [int(character) for character in match["phi"] if character.isdigit()]
    total = sum(sum(divmod(2 * digit, 10)) if i % 2 else digit for i, digit in enumerate(reversed(digits)))
    return 12 <= len(digits) <= 19 and total % 10 == 0


def _mod97(match: re.Match[str]) -> bool:
    code = re.sub(r"\s", "", match["phi"]).upper()
    return int("".join(str(int(character, 36)) for character in code[4:] + code[:4])) % 97 == 1


def _is_identifier(match: re.Match[str]) -> bool:
    value = match["phi"]
    if value.isdigit():
        return len(value) >= 5 or (len(value) == 4 and not 1900 <= int(value) <= 2099)
    return len(value) >= 4 and not re.fullmatch(
        r"\d+[a-z]{1,4}|\d{1,2}/\d{1,2}(/\d{2,4})?", value, re.IGNORECASE
    )


def _is_ip(match: re.Match[str]) -> bool:
    try:
        ipaddress.ip_address(match["phi"])
    except ValueError:
        return False
    return True


SHAPES = [
    Shape(
        "0",
        "PHONE",
        re.compile(
            r"\b(?:ext|extension|pager|beeper)\b\.?\s*(?:number|no\.?|is|#|:)*\s*(?P<phi>\d{3,6})(?![\w.-])",
            re.I,
        ),
    ),
    Shape("@", "EMAIL", re.compile(r"(?<![\w.+-])(?P<phi>[\w.+%'-]+@[\w-]+(?:\.[\w-]+)+)"), None),
    Shape(
        "/",
        "URL",
        re.compile(r"(?P<phi>(?:https?|ftp)://[^\s<>\"'\])}]+[\w/])", re.I),
        None,
    ),
    Shape(
        ".",
        "URL",
        re.compile(r"(?<![\w@.])(?P<phi>www\.[\w-]+(?:\.[\w-]+)+(?:/[^\s<>\"'\])}]*\w)?/?)", re.I),
        None,
    ),
    Shape(
        ".",
        "URL",
        re.compile(
            r"(?<![\w@.-])(?P<phi>(?:[a-z0-9-]+\.)+(?:com|org|net|edu|gov|info|io)\b(?:/[^\s<>\"'\])}]*\w)?)(?!@)",
            re.I,
        ),
        None,
    ),
    Shape("0", "IP", re.compile(r"(?<![\w.])(?P<phi>\d{1,3}(?:\.\d{1,3}){3})(?![\w.]\d|\w)"), _is_ip),
    Shape(
        "0",
        "IP",
        re.compile(
            r"(?<![\w:])(?P<phi>(?:[0-9a-f]{1,4}:){4,7}[0-9a-f]{1,4}|(?:[0-9a-f]{1,4}:){1,6}:[0-9a-f]{1,4})(?![\w:])",
            re.I,
        ),
        _is_ip,
    ),
    Shape("0", "ID", re.compile(r"(?<![\w-])(?P<phi>\d{3}-\d{2}-\d{4})(?![\w-])"), None),
    Shape(
        "0",
        "ID",
        re.compile(
            r"\b(?i:plates?|tags?|registration)(?:[ ](?:number|no\.?|is|was|with|reads?|#))*:?[ ]"
            r"(?P<phi>[A-Z]{1,3}[ -]?\d{2,4}(?:[ -]?[A-Z]{1,3})?|\d{1,4}[ -]?[A-Z]{2,3})(?![\w-])"
        ),
    ),
    Shape(
        "0",
        "ID",
        # A vehicle's: 17 characters without I, O and Q.
        re.compile(r"(?<![\w-])(?P<phi>(?=[A-Z]*\d)(?=\d*[A-Z])[A-HJ-NPR-Z\d]{17})(?![\w-])"),
    ),
    Shape(
        "0",
        "ID",
        re.compile(
            r"\b(?:[Ii]mplant|[Dd]evice|[Pp]acemaker|[Vv]accine|[Gg]raft|[Ss]tent|[Vv]alve)(?:[ ]\w+)?[ ](?i:lot|serial|model|batch)\b"
            r"(?:[ ](?:number|no\.?|is|was|#))*:?[ ](?P<phi>(?=[A-Z\d-]*\d{3})[A-Z\d]+(?:-[A-Z\d]+)*)(?![\w-])"
        ),
    ),
    Shape("0", "ID", re.compile(r"(?<![\w-])(?P<phi>\d(?:[ -]?\d){11,18})(?![\w-])"), _luhn),
    Shape(
        "0",
        "ID",
        re.compile(r"\b(?P<phi>[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?)\b", re.I),
        _mod97,
    ),
    Shape(
        "0", "ID", re.compile(r"(?<![\w:])(?P<phi>(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2})(?![\w:])", re.I), None
    ),
    Shape("0", "ID", re.compile(r"\b(?P<phi>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b", re.I), None),
    Shape(
        "0",
        "ID",
        re.compile(
            rf"\b{_LABEL}(?:\s*(?:policy|number|no\b|num\b|identifier|id\b|code|record|card))*\.?['’]?s?\s*"
            rf"(?:(?:is|was|are|of|ending\s+in)\b|[:#=(-])*\s*[:#(]*\s*{_VALUE}",
            re.I,
        ),
        _is_identifier,
    ),
    Shape("0", "ID", re.compile(r"\b(?:MRN|SSN)(?P<phi>\d{5,})\b"), None),
    Shape(
        "0",
        "ID",
        re.compile(
            rf"\b(?i:{_NUMBERED}(?:[ ](?:number|no|num|id|code|card))?\b\.?[ ]?(?:is|was|:|#|=)?)[ ]*"
            r"(?P<phi>#?[A-Z]{1,5}-?\d[\dA-Z-]{3,}|\d[\dA-Z]*(?:-[\dA-Z]+)+|(?:[A-Z]{2,4}[ ])?\d{2,6}(?:[ ]\d{2,6}){1,4}|"
            r"\d[\dA-Z]*[A-Z][\dA-Z]{3,})(?![\w-])"
        ),
        lambda match: (
            sum(character.isdigit() for character in match["phi"]) > 3 and not _YEARS.fullmatch(match["phi"])
        ),
    ),
    Shape(
        "0",
        "ID",
        re.compile(
            r"\b(?:(?:SSN|social(?:\s+security)?|account|acct|card|number|phone)\s+(?:number\s+)?ending\s+(?:in\s+|with\s+)?|"
            r"last\s+(?:four|4)(?:\s+digits)?(?:\s+of\s+\w+(?:\s+\w+){0,2}?)?(?:\s+(?:is|are))?:?\s+|barcode\s+|tracking\s+number\s+)"
            r"(?P<phi>\w*\d{4}\w*)\b",
            re.I,
        ),
    ),
    Shape("@", "ID", re.compile(r"(?<![\w.@/])(?P<phi>@[A-Za-z_]\w{2,})\b(?![.@])")),
    Shape(
        "0",
        "PHONE",
        re.compile(
            r"(?<![\w-])(?<!\d\.)(?P<phi>(?:\+?1[-. ]?)?(?:\(\d{3}\)\s?|\d{3}[-. /])\d{3}[-. ]\d{4}"
            rf"{_PHONE_END})"
        ),
        None,
    ),
    Shape(
        "+",
        "PHONE",
        re.compile(rf"(?<!\w)(?P<phi>\+\d{{1,3}}(?:[ \t().-]{{0,2}}\d){{6,12}}{_PHONE_END})"),
        None,
    ),
    Shape(
        "0",
        "PHONE",
        re.compile(
            rf"\b{_PHONE_WORD}\b(?:\s*(?:number|no\.?|is|was|at|on|to|me))*\s*[:#=.]?\s*(?<!\d)(?P<phi>{_DIGITS}{_PHONE_END})",
            re.I,
        ),
        lambda match: not re.fullmatch(r"(?:19|20)\d\d[\s-]+(?:19|20)\d\d", match["phi"]),
    ),
    Shape(
        "0",
        "PHONE",
        re.compile(
            rf"(?<![\w-])(?P<phi>{_DIGITS})(?=[\s(,-]{{1,3}}(?:office|fax|mobile|home|cell|work|phone)\b)",
            re.I,
        ),
        None,
    ),
    Shape(
        "0",
        "AGE",
        re.compile(
            rf"\b{_AGE}(?=[\s-]*(?:years?[\s-]*olds?|y[./]?[ ]?o\b|yrs?[\s-]*old|year[\s-]old|yo[mf]?\b|-?years?[\s-]+of[\s-]+age))",
            re.I,
        ),
        None,
    ),
    Shape(
        "0",
        "AGE",
        re.compile(
            rf"\b(?:aged?|age\s+(?:is|of|was)|age\s*[:=]|turned|turns|turning|now|at\s+age|ages)\s*:?\s+{_AGE}\b(?!\.\d|[/%]|\s*(?:%|mg|bpm|lb|kg|pounds|days|weeks|months|minutes))",
            re.I,
        ),
        None,
    ),
    Shape(
        "0",
        "AGE",
        re.compile(rf"\b{_AGE}(?=(?:st|nd|rd|th)[ ](?:birthday|year[ ]of[ ](?:life|age)|name[ ]day))", re.I),
    ),
    Shape(
        "0",
        "AGE",
        re.compile(
            rf"\b(?:man|woman|lady|gentleman|person|patient|male|female)[ ]of[ ]{_AGE}\b(?!\.\d|[/%]|\s*(?:%|mg|kg|lb|cm|mm))",
            re.I,
        ),
    ),
    Shape(
        "0",
        "AGE",
        re.compile(rf"\b(?:{_RELATIVE}|(?-i:[A-Z][a-zà-ž]+)),[ ]{_AGE}(?=[,;)])", re.I),
    ),
    Shape("0", "AGE", re.compile(rf"\bage\s*[:=]?\s*{_AGE}\b(?!\s*(?:%|days|weeks|months))", re.I), None),
    Shape(
        "0",
        "AGE",
        re.compile(
            rf"(?:[;,(:]|^|\bis|\bwas)[ \t]*{_AGE}\s*(?=years?\b(?!\s*(?:of\s+(?!age)|ago|later|after|follow|survival))|[MF]\b|,?\s+(?:male|female|man|woman)\b)",
            re.I,
        ),
        None,
    ),
    Shape(
        "0",
        "AGE",
        re.compile(rf"\bhow\s+old\b[^\n?]*\?\s*\[?\w+\]?\s*:?\s*(?:i\s*['’]?\s*a?m\s+)?{_AGE}\b", re.I),
        None,
    ),
    Shape(
        "",
        "AGE",
        re.compile(rf"\b{_AGE_WORD}(?=[\s-]*(?:years?[\s-]*olds?|y/?o\b|years?\s+of\s+age))", re.I),
        None,
    ),
]


def find(text: str) -> Iterator[Span]:
    """Findings of all patterns in a text; they may overlap."""
    has_digit = any(character.isdigit() for character in text)
    for shape in (*SHAPES, *places.SHAPES, *facilities.SHAPES, *introductions.SHAPES):
        yield from shape.find(text, has_digit)
    for start, end in dates.find(text):
        yield Span(start, end, "DATE")
    yield from known_names.find(text)
    yield from places.find_towns(text)
    yield from subjects.find(text)
