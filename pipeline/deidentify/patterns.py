"""PHI with a shape: numbers, contacts, addresses, ages over 89, titled and labelled names.

Each pattern marks its PHI with the group ``phi``; what stands around it is the context that makes
a number a record number and a capitalised word a surname.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator

from pipeline.deidentify import dates, known_names
from pipeline.deidentify.classifier import vocabulary
from pipeline.deidentify.known_names import PARTICLE, WORD
from pipeline.deidentify.spans import Span
from pipeline.deidentify.vocabulary import (
    AMBIGUOUS,
    CITY_ABBREVIATIONS,
    EPONYM_NOUN,
    FUNCTION_WORDS,
    HOSPITALS,
    MEDICAL,
    STATES,
    TITLES,
    WIDE_COUNTRIES,
    WIDE_PLACES,
    common_words,
    countries,
    is_medical,
    is_term,
    names,
)

Check = Callable[[re.Match[str]], bool]

_STATE = "|".join([*STATES, *(re.escape(name) for name in STATES.values())])
_STREET = (
    r"(?:Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Drive|Dr|Court|Ct|Boulevard|Blvd|Place|Pl|Way|Terrace|Ter|Circle|Cir|"
    r"Parkway|Pkwy|Highway|Hwy|Square|Sq|Trail|Trl|Crescent|Close|Alley|Row|Walk|Loop|Plaza|Pike|Turnpike)"
)
_UNIT = r"(?:,?\s+(?:Apartment|Apt|Suite|Ste|Unit|Room|Rm|Floor|Fl)\b\.?\s*#?\s*\w{1,6}|,?\s+#\s*\w{1,6})"
_CITY = rf"{WORD}\.?(?:[ ]{WORD}\.?){{0,2}}"
_ZIP = r"\d{5}(?:-\d{4})?"

ADDRESS = re.compile(
    rf"(?<![\w-])(?P<number>\d{{1,6}}[A-Za-z]?)\s+(?P<street>(?:(?:[NSEW]\.?|{WORD}\.?|\d+(?:st|nd|rd|th))\s+){{1,4}}?)"
    rf"(?P<suffix>{_STREET})\b\.?(?P<unit>{_UNIT})?"
    rf"(?:,?\s+(?P<city>{_CITY}),?\s+(?P<state>{_STATE})\b(?:,?\s+(?P<zip>{_ZIP}))?|,\s+(?P<town>{_CITY}))?"
)
"""House number, street, and where they follow unit, city, state and ZIP code."""

CITY_STATE = re.compile(
    rf"(?P<before>\b(?:in|from|at|of|to|near|around|lives|live|via|Hospital|Center|Clinic),?\s+)?\b(?P<city>{_CITY}),\s*"
    rf"(?P<state>{_STATE})\b(?:,?\s+(?P<zip>{_ZIP})(?!\d))?"
)

FACILITY = re.compile(
    rf"\b(?:(?:St\.?|Saint|{WORD})(?:\s+(?:of|and|&|for|the|de))*\s+)(?:{WORD}\.?(?:\s+(?:of|and|&|for|the))*\s+){{0,4}}?"
    r"(?P<type>(?:(?i:General|Memorial|Community|Regional|University|Children['’]?s|Women['’]?s|Veterans|Presbyterian|Methodist)\s+)*"
    rf"(?i:Hospital|Hospitals|Medical\s+(?:Center|Centre|Group)|Med\.?\s+(?:Center|Centre|Ctr|Ct)|Clinic|Clinics|"
    r"Health(?:\s+(?:Center|Centre|System|Services))?|Infirmary|Hospice|Nursing\s+Home|Rehabilitation\s+Center|Cancer\s+Center|"
    rf"Surgery\s+Center|Care\s+Center|Medical\s+School|Sanatorium))\b(?:[ ]of[ ](?P<town>{_CITY}))?"
)

_PART = (
    r"(?:(?!I\b)(?![a-zß-öø-ÿ])(?:[^\W\d_]{1,4}\b\.|[^\W\d_][\w'’/()-]*)|\d+[A-Za-z]?\b(?:\.(?=\n|[ ][a-z]))?"
    r"|C/|u\.|(?:of|and|de|d['’]\w+|del|della|di|da|do|du|la|le|el|tér|út|útja|utca|põik|ter|van|von|den|str)\b\.?)"
)
"""A word of an address: capitalised, a number, or one of the small words of streets and towns; a dot
ends a short word or a number inside a sentence, and no sentence."""
_PARTS = rf"{_PART}(?:(?:,?[ ]|,?[ ]?\n[ ]?,?[ ]?){_PART}){{1,14}}"
_WITH_UNIT = (
    rf"\d{{1,6}}[A-Za-z]?[ ]{_PART}(?:[ ]{_PART}){{0,6}}?"
    rf"[,\s]{{1,3}}(?:Suite|Ste|Apt|Apartment|Unit)\b\.?[ ]?#?\d+(?:[,\s]{{1,4}}{_PART}){{0,8}}"
)
"""A house number and a unit with nothing but capitalised words and numbers between, and what follows."""
_STREET_WORLDWIDE = (
    rf"(?:\d{{1,6}}[A-Za-z]?[ ])?(?:{WORD}"
    r"(?:stra(?:ß|ss)e|straat|gata|gatan|vej|vegen|veien|väg|vägen|laan|katu|tie|ulica|utca|kuja|weg|gasse)"
    r"|(?:Rua|Rue|Via|Viale|Calle|C/|Avenida|Avenue|Strada|Piazza|Praça|Paseo|Carrer|Ulica|Chemin|Boulevard|Corso)"
    rf"(?:[ ]{_PART}){{1,5}}?)[ ]\d{{1,5}}[A-Za-z]?\b"
    rf"|{WORD}(?:[ ][^\W\d_]+){{0,2}}[ ](?:út|útja|utca|tér|köz|körút|ulica|ulice|cesta|trg|náměstí|třída|gatan|vägen|veien|"
    rf"vej|tie|katu|sokak|caddesi|plein|kade|singel|platz|allee|weg)[ ]\d{{1,5}}[A-Za-z]?\b\.?"
)
"""Streets as they are written in other languages: the number comes last."""

_NAMED_STREET = r"(?:Street|Avenue|Road|Lane|Boulevard|Drive|Crescent|Terrace|Square|Highway)"

_LABEL = (
    r"(?:MRN|M\.R\.N\.?|med(?:ical|\.)?\s+rec(?:ord|\.)?|(?:health|hospital|patient|pt|chart|encounter|visit|accession|specimen|case|claim|"
    r"account|acct\.?|member|subscriber|group|insurance|ins\.?|policy|plan|beneficiary|medicare|medicaid|licen[cs]e|"
    r"certificate|serial|device|vehicle|plate|passport|confirmation|order|invoice|reference|ref\.?|employee|student|"
    r"registration|prescription|rx|room|badge|document|unique|study)\s*(?=(?:policy\s+)?(?:number|no\b|num\b|id\b|ids\b|identifier|code|record|#|card))|"
    r"(?:account|accession|record|chart|insurance|ins|policy|medicare|medicaid|licen[cs]e|DEA|NPI|VIN|SSN|SS|social\s+security|"
    r"credit\s+card|card|IBAN|passport|UPI|FIN|CSN|driver['’]?s\s+licen[cs]e|plate|serial|ID|identifier)(?![a-z]))"
)
_VALUE = r"#?\s?(?P<phi>(?=[\w/-]*\d[\w/-]*\d[\w/-]*\d)[A-Za-z0-9]+(?:[-/]?[A-Za-z0-9]+)*(?<!-))"

_PHONE_WORD = (
    r"(?:phone|telephone|tel|call(?:\s+(?:me|us|her|him|back))?(?:\s+(?:on|at))?|fax|mobile|cell|pager|page|beeper|contact|"
    r"registered|number|reach(?:ed|able)?(?:\s+\w+)?\s+at|text|hotline|ring|dial|whatsapp)"
)
_DIGITS = r"\+?\(?\d(?:[ \t().-]{0,2}\d){5,14}"
_PHONE_END = r"(?![\w/])(?!-\d)(?!\.\d)(?:\s*(?:x|ext\.?|extension)\s*\d{1,6})?"

_AGE = r"(?P<phi>9\d|1[01]\d|12[0-9])"
_AGE_WORD = (
    r"(?P<phi>ninety(?:[\s-]?(?:one|two|three|four|five|six|seven|eight|nine))?|(?:a|one)\s+hundred(?:\s+(?:and\s+)?"
    r"(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve))?)"
)

_TITLE = r"(?:Dr|Mr|Mrs|Ms|Mx|Miss|Prof|Professor|Doctor|Nurse|Sir|Dame|Rev|Reverend|Capt|Sgt)"
# A dot belongs to an initial only; "I" is a pronoun rather than one.
_NAME = rf"(?:[^\W\d_a-z]\.|(?!I\b){WORD})"
_NAMES = rf"{_NAME}(?:[ ]{PARTICLE}{_NAME}){{0,2}}"
_MONTHS = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_GENERIC = r"(?:General|City|County|Community|Memorial|University|Regional|District)"
_NAME_LABEL = (
    r"(?:Patient(?:['’]s)?(?:\s+name)?|Name|Pt|Attending|Physician|Provider|Surgeon|Signed(?:\s+by)?|"
    r"(?:Electronically\s+)?[Ss]igned\s+by|Dictated\s+by|Referred\s+by|Referring|Ordered\s+by|Author|Contact|Emergency\s+contact|"
    r"Guardian|Caregiver|Spouse|Resident|Consultant|Nurse|Cc|CC|Next\s+of\s+kin|PCP)"
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


def _name_words(text: str) -> list[str]:
    """Lower-case words without titles."""
    words = re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", text.lower())
    return [word for word in words if word not in TITLES]


def _is_person(match: re.Match[str]) -> bool:
    words = _name_words(match["phi"])
    if not words or EPONYM_NOUN.match(match.string, match.end("phi")):
        return False
    known = names()
    terms = [word for word in words if word in MEDICAL and word not in known.first and word not in known.last]
    return not terms and any(len(word) > 1 for word in words)


def _is_likely_person(match: re.Match[str]) -> bool:
    """For labels that other words follow too: a known name among the words, and none that is none."""
    words = _name_words(match["phi"])
    known = names().first | names().last
    return _is_person(match) and (
        any(word in known and word not in common_words() for word in words) or _is_full_name(words)
    )


def _is_full_name(words: list[str]) -> bool:
    """A first name and a surname, whatever else they mean ("Faith Knight"), in either order."""
    known = names()
    return (
        len(words) > 1
        and not set(words) & (FUNCTION_WORDS | MEDICAL)
        and any(
            given in known.first and family in known.last
            for given, family in ((words[0], words[-1]), (words[-1], words[0]))
        )
    )


def _is_addressed(match: re.Match[str]) -> bool:
    """After a title in small letters: a known name, and an English word only after one like "mr."."""
    title, *words = re.findall(r"[a-z]+(?:-[a-z]+)?", match["phi"])
    known = names().first | names().last
    plain = title in ("mr", "mrs", "ms", "miss") or (title == "dr" and "." in match["phi"])
    return all(
        word in known and (word not in common_words() or (plain and word in AMBIGUOUS)) for word in words
    )


def _is_described(match: re.Match[str]) -> bool:
    """Before "is a 56-year-old": words of names alone, whatever else they mean."""
    words = _name_words(match["phi"])
    known = names().first | names().last
    return bool(words) and all(
        len(word) > 2 and word in known and word not in FUNCTION_WORDS | MEDICAL for word in words
    )


def _is_greeted(match: re.Match[str]) -> bool:
    word = match["phi"].lower()
    return word in names().first and word not in FUNCTION_WORDS | MEDICAL | {"will", "may", "today"}


def _is_street(match: re.Match[str]) -> bool:
    return not any(is_medical(word) for word in re.findall(r"[^\W\d_]+", match["phi"]))


def _is_place(text: str) -> bool:
    words = re.findall(r"[^\W\d_]+", text.lower())
    return not any(is_medical(word) for word in words) and not set(words) <= common_words() | WIDE_PLACES


def _city_is_clear(match: re.Match[str]) -> bool:
    """A two-letter state stands for many other things: it needs a ZIP code or a word of place."""
    certain = match["zip"] or match["before"] or len(match["state"]) > 2
    return bool(certain) and not any(is_medical(word) for word in match["city"].split())


_PATTERNS: list[tuple[str, str, re.Pattern[str], Check | None]] = [
    # What a text must hold for the pattern to be tried, kind, pattern, check.
    ("@", "EMAIL", re.compile(r"(?<![\w.+-])(?P<phi>[\w.+%'-]+@[\w-]+(?:\.[\w-]+)+)"), None),
    (
        "/",
        "URL",
        re.compile(r"(?P<phi>(?:https?|ftp)://[^\s<>\"'\])}]+[\w/])", re.I),
        None,
    ),
    (
        ".",
        "URL",
        re.compile(r"(?<![\w@.])(?P<phi>www\.[\w-]+(?:\.[\w-]+)+(?:/[^\s<>\"'\])}]*\w)?/?)", re.I),
        None,
    ),
    (
        ".",
        "URL",
        re.compile(
            r"(?<![\w@.-])(?P<phi>(?:[a-z0-9-]+\.)+(?:com|org|net|edu|gov|info|io)\b(?:/[^\s<>\"'\])}]*\w)?)(?!@)",
            re.I,
        ),
        None,
    ),
    ("0", "IP", re.compile(r"(?<![\w.])(?P<phi>\d{1,3}(?:\.\d{1,3}){3})(?![\w.]\d|\w)"), _is_ip),
    (
        "0",
        "IP",
        re.compile(
            r"(?<![\w:])(?P<phi>(?:[0-9a-f]{1,4}:){4,7}[0-9a-f]{1,4}|(?:[0-9a-f]{1,4}:){1,6}:[0-9a-f]{1,4})(?![\w:])",
            re.I,
        ),
        _is_ip,
    ),
    ("0", "ID", re.compile(r"(?<![\w-])(?P<phi>\d{3}-\d{2}-\d{4})(?![\w-])"), None),
    ("0", "ID", re.compile(r"(?<![\w-])(?P<phi>\d(?:[ -]?\d){11,18})(?![\w-])"), _luhn),
    (
        "0",
        "ID",
        re.compile(r"\b(?P<phi>[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?)\b", re.I),
        _mod97,
    ),
    ("0", "ID", re.compile(r"(?<![\w:])(?P<phi>(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2})(?![\w:])", re.I), None),
    ("0", "ID", re.compile(r"\b(?P<phi>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b", re.I), None),
    (
        "0",
        "ID",
        re.compile(
            rf"\b{_LABEL}(?:\s*(?:policy|number|no\b|num\b|identifier|id\b|code|record|card))*\.?['’]?s?\s*"
            rf"(?:(?:is|was|are|of|ending\s+in)\b|[:#=(-])*\s*[:#(]*\s*{_VALUE}",
            re.I,
        ),
        _is_identifier,
    ),
    ("0", "ID", re.compile(r"\b(?:MRN|SSN)(?P<phi>\d{5,})\b"), None),
    (
        "0",
        "PHONE",
        re.compile(
            r"(?<![\w-])(?<!\d\.)(?P<phi>(?:\+?1[-. ]?)?(?:\(\d{3}\)\s?|\d{3}[-. /])\d{3}[-. ]\d{4}"
            rf"{_PHONE_END})"
        ),
        None,
    ),
    (
        "+",
        "PHONE",
        re.compile(rf"(?<!\w)(?P<phi>\+\d{{1,3}}(?:[ \t().-]{{0,2}}\d){{6,12}}{_PHONE_END})"),
        None,
    ),
    (
        "0",
        "PHONE",
        re.compile(
            rf"\b{_PHONE_WORD}\b(?:\s*(?:number|no\.?|is|was|at|on|to|me))*\s*[:#=.]?\s*(?<!\d)(?P<phi>{_DIGITS}{_PHONE_END})",
            re.I,
        ),
        lambda match: not re.fullmatch(r"(?:19|20)\d\d[\s-]+(?:19|20)\d\d", match["phi"]),
    ),
    (
        "0",
        "PHONE",
        re.compile(
            rf"(?<![\w-])(?P<phi>{_DIGITS})(?=[\s(,-]{{1,3}}(?:office|fax|mobile|home|cell|work|phone)\b)",
            re.I,
        ),
        None,
    ),
    ("0", "ADDRESS", re.compile(rf"(?P<phi>{ADDRESS.pattern})"), None),
    ("0", "ADDRESS", re.compile(rf"(?<![\w-])(?P<phi>{_WITH_UNIT})"), _is_street),
    ("0", "ADDRESS", re.compile(rf"(?<![\w-])(?P<phi>{_STREET_WORLDWIDE})"), _is_street),
    (
        "",
        "ADDRESS",
        re.compile(rf"\b(?:on|at|off|along|near|down|from|to)[ ](?P<phi>{WORD}(?:[ ]{WORD}){{0,2}}[ ]{_NAMED_STREET})\b"),
        _is_street,
    ),
    (
        "corner",
        "ADDRESS",
        re.compile(rf"\b(?P<phi>(?:the[ ])?corner[ ]of[ ]{WORD}(?:[ ]\w+\.?){{0,5}}?[ ]and[ ]{WORD}(?:[ ]{_PART}){{0,3}})"),
        _is_street,
    ),
    (
        "0",
        "ADDRESS",
        re.compile(
            r"\b(?:(?:address|office)(?:[ ]is)?(?:[ ]to)?(?:[ ]the[ ]same)?(?:[ ]at|:|[ ]is)?|"
            r"(?:arrived|located|live[sd]?|living|resid(?:es?|ed|ing))[ ](?:at|in))[:\s]+"
            rf"(?P<phi>(?:the[ ]corner[ ]of[ ])?{_PARTS})"
        ),
        lambda match: any(c.isdigit() for c in match["phi"]) and _is_street(match),
    ),
    (
        "0",
        "ADDRESS",
        re.compile(
            r"\b(?P<phi>(?:P\.?\s?O\.?\s+Box|PSC\s+\d+,?\s+Box|Unit\s+\d+,?\s+Box)\s+\d+(?:\s+[AFD]PO\s+A[AEP]\s+\d{5})?)",
            re.I,
        ),
        None,
    ),
    (
        "0",
        "ZIP",
        re.compile(
            r"\b(?:ZIP|zip\s*code|post(?:al\s+)?\s*code)(?:\s+code)?\s*(?:is|:|#)*\s*(?P<phi>\d{3,5}(?:-\d{4})?(?:\s?[A-Z]{2}\b)?)",
            re.I,
        ),
        None,
    ),
    (
        "0",
        "AGE",
        re.compile(
            rf"\b{_AGE}(?=[\s-]*(?:years?[\s-]*olds?|y/?o\b|yrs?[\s-]*old|year[\s-]old|yo[mf]?\b|-?years?[\s-]+of[\s-]+age))",
            re.I,
        ),
        None,
    ),
    (
        "0",
        "AGE",
        re.compile(
            rf"\b(?:aged?|age\s+(?:is|of|was)|age\s*[:=]|turned|turns|turning|now|at\s+age|ages)\s*:?\s+{_AGE}\b(?![./%]|\s*(?:%|mg|bpm|lb|kg|pounds|days|weeks|months|minutes))",
            re.I,
        ),
        None,
    ),
    ("0", "AGE", re.compile(rf"\bage\s*[:=]?\s*{_AGE}\b(?!\s*(?:%|days|weeks|months))", re.I), None),
    (
        "0",
        "AGE",
        re.compile(
            rf"(?:[;,(]|\bis|\bwas)\s*{_AGE}\s*(?=years?\b(?!\s*(?:of\s+(?!age)|ago|later|after|follow|survival))|[MF]\b|,?\s+(?:male|female|man|woman)\b)",
            re.I,
        ),
        None,
    ),
    (
        "0",
        "AGE",
        re.compile(rf"\bhow\s+old\b[^\n?]*\?\s*\[?\w+\]?\s*:?\s*(?:i\s*['’]?\s*a?m\s+)?{_AGE}\b", re.I),
        None,
    ),
    (
        "",
        "AGE",
        re.compile(rf"\b{_AGE_WORD}(?=[\s-]*(?:years?[\s-]*olds?|y/?o\b|years?\s+of\s+age))", re.I),
        None,
    ),
    (
        "",
        "FACILITY",
        re.compile(rf"(?P<phi>{FACILITY.pattern})"),
        lambda match: _names_a_facility(match.string[match.start("phi") : match.start("type")]),
    ),
    (",", "LOCATION", re.compile(rf"{CITY_STATE.pattern}"), _city_is_clear),
    ("", "NAME", re.compile(rf"\b(?P<phi>(?:{_TITLE}|DR|MR|MRS|MS)\b\s?\.?\s+{PARTICLE}{_NAMES})"), _is_person),
    (
        "",
        "NAME",
        re.compile(r"\b(?P<phi>(?:dr|mr|mrs|ms|doctor|nurse|miss)(?:\s?\.)?\s+[a-z]{3,}(?:-[a-z]+)?)\b"),
        _is_addressed,
    ),
    (
        "year",
        "NAME",
        re.compile(
            r"(?<![\w.@/-])(?P<phi>[^\W\d_]{3,}(?:[ ][^\W\d_]{3,})?)"
            r"(?=[ ](?:is|was)[ ]an?[ ](?:[a-z]+[ ,]+){0,3}?\d{1,3}[ ]?-?[ ]?year)"
        ),
        _is_described,
    ),
    (
        "you",
        "NAME",
        re.compile(
            r"\b(?:nice|good|great|glad)\s+(?:to\s+)?(?:see|seeing|meet|meeting)\s+you\s*,?\s+(?P<phi>[^\W\d_]{3,})\b",
            re.I,
        ),
        _is_greeted,
    ),
    (
        ",",
        "NAME",
        re.compile(
            rf"(?P<phi>{_NAME}(?:[ ]{PARTICLE}{_NAME}){{1,2}}),\s*"
            r"(?:M\.?D\.?|D\.?O\.?|R\.?N\.?|N\.?P\.?|PA-?C?|Ph\.?D\.?|DDS|FNP|LPN|MBBS)\b"
        ),
        _is_person,
    ),
    (
        ":",
        "NAME",
        re.compile(rf"\b{_NAME_LABEL}\s*:\s*(?P<phi>{_NAME}(?:,[ ]|[ ]){_NAME}(?:[ ]{_NAME})?)"),
        _is_likely_person,
    ),
    (
        "",
        "NAME",
        re.compile(
            rf"\b(?i:my\s+name\s+is|name\s+is|named|called|this\s+is|I\s+am|I['’]m)\s+(?P<phi>{_NAMES})"
        ),
        _is_likely_person,
    ),
    (
        "",
        "NAME",
        re.compile(
            rf"\b(?:sister|brother|wife|husband|spouse|partner|son|daughter|mother|father|aunt|uncle|cousin|friend|niece|nephew|"
            rf"girlfriend|boyfriend|fianc[eé]e?|neighbor|neighbour|caregiver|maiden\s+name\s+is),?\s+(?P<phi>{_NAMES})"
        ),
        _is_person,
    ),
    (
        ":",
        "LOCATION",
        re.compile(
            rf"\b(?i:where|venue|location|birthplace|city|town)[ ]?:[ ]*(?P<phi>{_CITY}(?:[ ]\({WORD}\))?|[^\n.;:?]{{3,50}}(?=[.\n]|$))"
        ),
        lambda match: _is_place(match["phi"]),
    ),
    (
        "in",
        "LOCATION",
        re.compile(rf"\b(?:I['’]m|I[ ]am|[Ww]e['’]re|[Ww]e[ ]are|now|currently)[ ]in[ ](?P<phi>{_CITY})"),
        lambda match: _is_place(match["phi"]),
    ),
    (
        "",
        "LOCATION",
        re.compile(
            rf"\b(?:at|to|in|from)[ ](?P<phi>{'|'.join(CITY_ABBREVIATIONS)})"
            r"(?=[,.;?!)]|[ ](?:on|in|with|for)\b|\s*$)"
        ),
        None,
    ),
    (
        "ospital",
        "FACILITY",
        re.compile(
            r"\b(?:at|to|from|in)[ ](?:the[ ])?"
            rf"(?P<phi>{_GENERIC}(?:[ ]{_GENERIC})?[ ]Hospital)\b"
        ),
        None,
    ),
    (
        "",
        "LOCATION",
        re.compile(
            rf"\b(?:lives?|lived|living|resid(?:es?|ed|ing)|moved|moving|relocated|grew\s+up|born|raised|travel(?:s|ed|led|ing|ling)|flew|"
            rf"visiting|visited|stationed|emigrated|immigrated)\s+(?:here\s+|back\s+)?(?:in|to|from|near|outside)\s+(?P<phi>{_CITY})"
        ),
        lambda match: match["phi"] in WIDE_COUNTRIES or _is_place(match["phi"]),
    ),
    (
        "",
        "LOCATION",
        re.compile(r"\b(?:lives?|lived|living|moved|born|raised|grew[ ]up)[ ](?:in|to|near)[ ](?P<phi>[a-zà-ž]{4,})\b"),
        lambda match: _is_place(match["phi"]) and not is_term(match["phi"]) and match["phi"] not in vocabulary(),
    ),
    (
        "",
        "LOCATION",
        re.compile(
            rf"^[ ]*(?P<phi>{'|'.join(map(re.escape, (*countries(), 'United States')))})(?=[ ]*$|[ ]+\d{{4,6}}$|[ ](?:was|is)\b)", re.M
        ),
        None,
    ),
    (
        "",
        "FACILITY",
        re.compile(
            rf"\b(?:admitted|treated|seen|presented|visit|care|surgery|procedure|transferred|evaluated|hospitalized|diagnosed|tx['’]d|done|"
            rf"followed|carried\s+out\s+on\s+\S+)\s+(?:to|at)\s+(?:the\s+)?"
            rf"(?P<phi>{WORD}(?:[ ]{WORD}){{0,2}})(?=\s+(?:on|for|in|by|last|from)\b|[,.;?)]|\s*$)"
        ),
        lambda match: _is_place(match["phi"]),
    ),
    (
        "",
        "FACILITY",
        re.compile(rf"\b(?:at|to|from|in|@)\s+(?:the\s+)?(?P<phi>(?:{'|'.join(HOSPITALS)})(?:\s+Health)?)\b"),
        None,
    ),
    (
        "",
        "FACILITY",
        re.compile(
            rf"\bat\s+(?:the\s+)?(?P<phi>{WORD}(?:[ ]{WORD}){{0,3}})(?=\s+(?:on|in)\s+(?:\d|{_MONTHS}))"
        ),
        lambda match: _is_place(match["phi"]),
    ),
    (
        "",
        "NAME",
        re.compile(
            rf"\b(?i:dear|hi|hello|hey|best|regards|sincerely|cheers|thanks|yours)(?:\s*,)?\s+"
            rf"(?P<phi>{_NAME}(?:[ ]{_NAME})?)(?=\s*(?:[,.!?]|$|\n))"
        ),
        _is_likely_person,
    ),
]


def _names_a_facility(head: str) -> bool:
    """More than "The Hospital" or "Emergency Clinic": some word before the type names it."""
    words = re.findall(r"[^\W\d_]+", head.lower())
    neutral = common_words() | {
        "university",
        "general",
        "community",
        "county",
        "outpatient",
        "local",
        "city",
        "st",
        "saint",
        "mental",
        "public",
        "world",
        "national",
        "global",
        "occupational",
        "home",
        "behavioral",
    }
    telling = [word for word in words if word not in neutral or word in ("st", "saint")]
    return bool(telling) and not any(is_medical(word) for word in telling)


def find(text: str) -> Iterator[Span]:
    """Findings of all patterns in a text; they may overlap."""
    has_digit = any(character.isdigit() for character in text)
    for needed, kind, pattern, check in _PATTERNS:
        if (has_digit if needed == "0" else needed in text) or not needed:
            whole = "phi" not in pattern.groupindex
            for match in pattern.finditer(text):
                if check is None or check(match):
                    start, end = (match.start("city"), match.end()) if whole else match.span("phi")
                    yield Span(start, end, kind)
    for start, end in dates.find(text):
        yield Span(start, end, "DATE")
    yield from known_names.find(text)
