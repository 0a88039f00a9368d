"""Addresses and towns by their shape and the words around them."""

import re
from collections.abc import Iterator

from pipeline.deidentify.classifier import vocabulary
from pipeline.deidentify.eponyms import EPONYM_NOUN
from pipeline.deidentify.known_names import WORD
from pipeline.deidentify.shape import Shape
from pipeline.deidentify.spans import Span
from pipeline.deidentify.streets import LINK, PART, PARTS, RARE_STREET, STREET, STREET_WORLDWIDE, WITH_UNIT
from pipeline.deidentify.vocabulary import (
    CITY_ABBREVIATIONS,
    STATES,
    WIDE_COUNTRIES,
    WIDE_PLACES,
    common_words,
    countries,
    is_medical,
    is_term,
    towns,
)

_STATE = "|".join([*STATES, *(re.escape(name) for name in STATES.values())])
_UNIT = r"(?:,?\s+(?:Apartment|Apt|Suite|Ste|Unit|Room|Rm|Floor|Fl)\b\.?\s*#?\s*\w{1,6}|,?\s+#\s*\w{1,6})"
CITY = rf"{WORD}\.?(?:[ ]{WORD}\.?){{0,2}}"
_ZIP = r"\d{5}(?:-\d{4})?"
ADDRESS = re.compile(
    rf"(?<![\w-])(?P<number>\d{{1,6}}[A-Za-z]?)\s+(?P<street>(?:(?:[NSEW]\.?|{WORD}\.?|\d+(?:st|nd|rd|th))\s+){{1,4}}?)"
    rf"(?P<suffix>{STREET})\b\.?(?P<unit>{_UNIT})?"
    rf"(?:,?\s+(?P<city>{CITY}),?\s+(?P<state>{_STATE})\b(?:,?\s+(?P<zip>{_ZIP}))?|,\s+(?P<town>{CITY}))?"
)
"""House number, street, and where they follow unit, city, state and ZIP code."""
CITY_STATE = re.compile(rf"(?P<city>{CITY}),\s*(?P<state>{_STATE})\b(?:,?\s+(?P<zip>{_ZIP})(?!\d))?")
_COUNTRY = "|".join(map(re.escape, (*countries(), "United States", "England", "Scotland", "Wales")))
_LONG_COUNTRY = "|".join(
    re.escape(name) for name in sorted(countries(), key=len, reverse=True) if " " in name
)
"""Names of several words mean nothing else."""
_TOWN = rf"(?:(?:St|Ft|Mt)\.?[ ])?{WORD}(?:[ -](?:{LINK}[ -])?{WORD}){{0,3}}"
_TOWN_PLACES = (
    re.compile(
        r"\b(?i:in|near|from|to|at|around|outside|via|of|visited|visiting|leaving|reached)[ ]"
        rf"(?:downtown[ ]|the[ ])?(?P<town>{_TOWN})"
    ),
    re.compile(r"(?<=,[ ])(?P<town>" + "|".join(CITY_ABBREVIATIONS) + r")(?=[,.;)])"),
    re.compile(rf"(?<=,[ ])(?P<town>{_TOWN})(?=[,.;)])"),
    re.compile(
        rf"\b(?i:the|our|their)[ ](?P<town>{_TOWN})(?=[ ](?:office|clinic|area|branch|team|site|plant)\b)"
    ),
)
_NAMED_STREET = r"(?:Street|Avenue|Road|Lane|Boulevard|Drive|Crescent|Terrace|Square|Highway)"


def _is_street(match: re.Match[str]) -> bool:
    return not any(is_medical(word) for word in re.findall(r"[^\W\d_]+", match["phi"]))


def _is_named_street(match: re.Match[str]) -> bool:
    """What stands before a suffix that is a word of medicine elsewhere: "Key", "Center"."""
    head = match.string[match.start("phi") : match.start("suffix")]
    return not any(is_medical(word) for word in re.findall(r"[^\W\d_]+", head))


def is_place(text: str) -> bool:
    words = re.findall(r"[^\W\d_]+", text.lower())
    return not any(is_medical(word) for word in words) and not set(words) <= common_words() | WIDE_PLACES


def _town(words: str) -> str | None:
    """The longest beginning of capitalised words that is a town of the list."""
    places = [match.end() for match in re.finditer(r"[^\s-]+", words)]
    return next((words[:end] for end in reversed(places) if _spelled_out(words[:end]) & towns()), None)


def _spelled_out(town: str) -> set[str]:
    """Spellings of a town in the list: "Ft. Worth" is "fort worth", "St Louis" "st. louis" or "saint louis"."""
    lower = town.lower().replace("-", " ")
    first, space, rest = lower.partition(" ")
    full = {"st": ("saint", "st."), "ft": ("fort",), "mt": ("mount",)}.get(first.rstrip("."), ())
    return {lower, *(word + space + rest for word in full)}


def _city_is_clear(match: re.Match[str]) -> bool:
    """A two-letter state stands for many other things: it needs a ZIP code or a word of place."""
    certain = match["zip"] or match["before"] or len(match["state"]) > 2
    return bool(certain) and not any(is_medical(word) for word in match["city"].split())


SHAPES = [
    Shape("0", "ADDRESS", re.compile(rf"(?P<phi>{ADDRESS.pattern})"), None),
    Shape(
        "0",
        "ADDRESS",
        re.compile(
            rf"(?<![\w.-])(?P<phi>(?:\d{{2,6}}[A-Za-z]?|\d(?=[^\n,.]+\n))[ ]{WORD}(?:[ ]{WORD}){{0,2}}?"
            rf"[ ](?P<suffix>{RARE_STREET})(?:{_UNIT})?)(?=[ ]?[,.\n]|$)",
            re.M,
        ),
        _is_named_street,
    ),
    Shape("0", "ADDRESS", re.compile(rf"(?<![\w-])(?P<phi>{WITH_UNIT})"), _is_street),
    Shape("0", "ADDRESS", re.compile(rf"(?<![\w-])(?P<phi>{STREET_WORLDWIDE})"), _is_street),
    Shape(
        "",
        "ADDRESS",
        re.compile(
            rf"\b(?:on|at|off|along|near|down|from|to)[ ](?P<phi>{WORD}(?:[ ]{WORD}){{0,2}}[ ]{_NAMED_STREET})\b"
        ),
        _is_street,
    ),
    Shape(
        "corner",
        "ADDRESS",
        re.compile(
            rf"\b(?P<phi>(?:the[ ])?corner[ ]of[ ]{WORD}(?:[ ]\w+\.?){{0,5}}?[ ]and[ ]{WORD}(?:[ ]{PART}){{0,3}})"
        ),
        _is_street,
    ),
    Shape(
        "0",
        "ADDRESS",
        re.compile(
            r"\b(?:(?:address|office)(?:[ ]is)?(?:[ ]to)?(?:[ ]the[ ]same)?(?:[ ]at|:|[ ]is)?|"
            r"(?:arrived|located|live[sd]?|living|resid(?:es?|ed|ing))[ ](?:at|in))[:\s]+"
            rf"(?P<phi>(?:the[ ]corner[ ]of[ ])?{PARTS})"
        ),
        lambda match: any(c.isdigit() for c in match["phi"]) and _is_street(match),
    ),
    Shape(
        "0",
        "ADDRESS",
        re.compile(
            r"\b(?P<phi>(?:P\.?\s?O\.?\s+Box|PSC\s+\d+,?\s+Box|Unit\s+\d+,?\s+Box)\s+\d+(?:\s+[AFD]PO\s+A[AEP]\s+\d{5})?)",
            re.I,
        ),
        None,
    ),
    Shape(
        "0",
        "ZIP",
        # Canada's and the United Kingdom's.
        re.compile(
            r"(?<![\w-])(?P<phi>[ABCEGHJ-NPR-TVXY]\d[A-Z][ ]?\d[A-Z]\d|[A-Z]{1,2}\d[A-Z\d]?[ ]\d[ABD-HJLNP-UW-Z]{2})(?![\w-])"
        ),
    ),
    Shape(
        "0",
        "ZIP",
        re.compile(
            r"\b(?:ZIP|zip\s*code|post(?:al\s+)?\s*code)(?:\s+code)?\s*(?:is|:|#)*\s*(?P<phi>\d{3,5}(?:-\d{4})?(?:\s?[A-Z]{2}\b)?)",
            re.I,
        ),
        None,
    ),
    Shape(
        ",",
        "LOCATION",
        re.compile(
            r"(?P<before>\b(?:in|from|at|of|to|near|around|lives|live|via|Hospital|Center|Clinic),?\s+)?"
            rf"\b(?P<phi>{CITY_STATE.pattern})"
        ),
        _city_is_clear,
    ),
    Shape(
        ",",
        "LOCATION",
        re.compile(rf"\b(?P<phi>{CITY},[ ](?:{_COUNTRY}))\b"),
        lambda match: is_place(match["phi"].rpartition(",")[0]),
    ),
    Shape("", "LOCATION", re.compile(rf"\b(?P<phi>{_LONG_COUNTRY})\b")),
    Shape(
        "-based",
        "LOCATION",
        re.compile(rf"\b(?P<phi>{WORD}(?:[ ]{WORD}){{0,2}}?)(?=-based\b)"),
        lambda match: _town(match["phi"]) == match["phi"],
    ),
    Shape(
        ":",
        "LOCATION",
        re.compile(
            rf"\b(?i:where|venue|location|birthplace|city|town)[ ]?:[ ]*(?P<phi>{CITY}(?:[ ]\({WORD}\))?(?=\s*[.\n;:?]|\s*$)|[^\n.;:?]{{3,50}}(?=[.\n]|$)|{CITY})"
        ),
        lambda match: is_place(match["phi"]),
    ),
    Shape(
        "in",
        "LOCATION",
        re.compile(rf"\b(?:I['’]m|I[ ]am|[Ww]e['’]re|[Ww]e[ ]are|now|currently)[ ]in[ ](?P<phi>{CITY})"),
        lambda match: is_place(match["phi"]),
    ),
    Shape(
        "",
        "LOCATION",
        re.compile(
            rf"\b(?:at|to|in|from)[ ](?P<phi>{'|'.join(CITY_ABBREVIATIONS)})"
            r"(?=[,.;?!)]|[ ](?:on|in|with|for)\b|\s*$)"
        ),
        None,
    ),
    Shape(
        "",
        "LOCATION",
        re.compile(
            rf"\b(?:lives?|lived|living|resid(?:es?|ed|ing)|moved|moving|relocated|grew\s+up|born|raised|travel(?:s|ed|led|ing|ling)|flew|"
            rf"visiting|visited|stationed|emigrated|immigrated)\s+(?:here\s+|back\s+)?(?:in|to|from|near|outside)\s+(?P<phi>{CITY})"
        ),
        lambda match: match["phi"] in WIDE_COUNTRIES or is_place(match["phi"]),
    ),
    Shape(
        "",
        "LOCATION",
        re.compile(
            r"\b(?:lives?|lived|living|moved|born|raised|grew[ ]up)[ ](?:in|to|near)[ ](?P<phi>[a-zà-ž]{4,})\b"
        ),
        lambda match: (
            is_place(match["phi"]) and not is_term(match["phi"]) and match["phi"] not in vocabulary()
        ),
    ),
    Shape(
        "0",
        "ADDRESS",
        # Czech and Slovak streets: a surname's form, alone in its line or clause.
        re.compile(
            r"(?:^|,|\n)[ ]*(?P<phi>[^\W\d_a-zà-ž]\w+(?:ova|ská|cká|ého|ní) \d{1,4}(?:/\d{1,4})?)(?=[ ]*(?:,|\n|$))",
            re.M,
        ),
    ),
    Shape(
        "\n",
        "LOCATION",
        # A town on the line before its country.
        re.compile(rf"^[ ]*(?P<phi>{WORD}(?:[ -]{WORD}){{0,3}})[ ]*\n(?=[ ]*(?:{_COUNTRY})[ ]*$)", re.M),
        lambda match: is_place(match["phi"]),
    ),
    Shape(
        "",
        "LOCATION",
        re.compile(
            rf"^[ ]*(?P<phi>{_COUNTRY})(?=[ ]*$|[ ]+\d{{4,6}}$|[ ](?:was|is)\b|[ ]+{WORD}[^\n]{{0,30}}\d)",
            re.M,
        ),
        None,
    ),
    Shape(
        "",
        "LOCATION",
        re.compile(
            rf"(?<![\w-])(?P<phi>{WORD}(?:[ ]{WORD}){{0,2}})(?=[ ](?:pt|patient|resident|native)[ ](?:with|w/|who|here|on)(?![\w-]))"
        ),
        lambda match: _town(match["phi"]) == match["phi"] and is_place(match["phi"]),
    ),
    Shape(
        " area",
        "LOCATION",
        re.compile(rf"\b(?:in|from|around|near)[ ]the[ ](?:greater[ ])?(?P<phi>{_TOWN})(?=[ ]area\b)"),
        lambda match: is_place(match["phi"]),
    ),
    Shape(
        " from ",
        "LOCATION",
        re.compile(
            rf"\b(?:flew|drove|travell?ed|moved|flying|driving|transferred|commutes)[ ]from[ ](?P<phi>{_TOWN})(?=[ ]to[ ])"
        ),
        lambda match: is_place(match["phi"]),
    ),
    Shape(
        " to ",
        "LOCATION",
        re.compile(
            rf"\b(?:flew|drove|travell?ed|moved|flying|driving|commutes)[ ]from[ ]{_TOWN}[ ]to[ ](?P<phi>{_TOWN})(?=[,.;?!]|\s*$)"
        ),
        lambda match: is_place(match["phi"]),
    ),
    Shape(
        "County",
        "LOCATION",
        re.compile(
            rf"\b(?:in|of|from|near|to)[ ](?P<phi>(?:{WORD}[ ]){{1,3}}County)\b(?![ ](?:Jail|Hospital|General))"
        ),
        lambda match: not any(is_medical(word) for word in match["phi"].split()[:-1]),
    ),
    Shape(
        " office ",
        "LOCATION",
        re.compile(rf"\b[Tt]he[ ](?P<phi>{_TOWN})(?=[ ]office[ ](?:is|was|will|opens?|closes?|has)\b)"),
        lambda match: is_place(match["phi"]),
    ),
]


def find_towns(text: str) -> Iterator[Span]:
    """Towns of the list where the words around them say that they are a place."""
    for form in _TOWN_PLACES:
        for match in form.finditer(text):
            words = match["town"]
            town = words if re.fullmatch("|".join(CITY_ABBREVIATIONS), words) else _town(words)
            end = match.start("town") + len(town or "")
            if town and not EPONYM_NOUN.match(text, end) and text[end : end + 1] not in ("-", "’", "'"):
                yield Span(match.start("town"), end, "LOCATION")
