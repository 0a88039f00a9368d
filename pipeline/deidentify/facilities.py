"""Facilities by their shape and the words around them: hospitals, clinics, practices, schools."""

import re

from pipeline.deidentify.known_names import WORD
from pipeline.deidentify.lists import words
from pipeline.deidentify.places import CITY, is_place
from pipeline.deidentify.shape import Shape
from pipeline.deidentify.streets import LINK
from pipeline.deidentify.vocabulary import AMBIGUOUS, HOSPITALS, common_words, is_medical

_AT = r"(?:\b(?:at|to|from|in|per|via|by|through|with|of|attended|visits?|visited|left)|@)[ ]?(?<=[ @])(?:the[ ]|our[ ])?"
_MONTHS = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
FACILITY = re.compile(
    rf"\b(?:(?:St\.?|Saint|Mt\.?|{WORD})(?:\s+(?:of|and|&|for|the|de))*\s+)(?:{WORD}\.?(?:\s+(?:of|and|&|for|the))*\s+){{0,4}}?"
    r"(?P<type>(?:(?i:General|Memorial|Community|Regional|University|Children['’]?s|Women['’]?s|Veterans|Presbyterian|Methodist)\s+)*"
    rf"(?i:Hospital|Hospitals|Medical\s+(?:Center|Centre|Group)|Med\.?\s+(?:Center|Centre|Ctr|Ct)|Clinic|Clinics|"
    r"Health(?:\s+(?:Center|Centre|System|Services))?|Infirmary|Hospice|Nursing\s+Home|Rehabilitation\s+Center|Cancer\s+Center|"
    rf"Surgery\s+Center|Care\s+Center|Urgent\s+Care|Family\s+(?:Practice|Medicine|Care)|Rehab|Hosp\b\.?|Med(?:ical)?\s+Ctr|Medical\s+School|Sanatorium))\b(?:[ ]of[ ](?P<town>{CITY}))?"
)
_HOSPITALS = "|".join(sorted(map(re.escape, HOSPITALS), key=len, reverse=True))
_NEUTRAL = frozenset(
    (
        "university", "general", "community", "county", "outpatient", "local", "city", "st", "saint", "mental", "public",
        "world", "national", "global", "occupational", "home", "behavioral", "daily",
        "skilled", "nursing", "facility", "intensive", "pediatric", "ambulatory", "department", "division", "institute",
        "institutes", "service", "services", "primary", "critical", "acute", "urgent", "hospice", "palliative", "medicare",
        "electronic", "managed", "compassionate", "childrens", "sample", "palliative", "maxillofacial", "academic",
    )
)  # fmt: skip
_UNITS = words("ICU NICU PICU MICU SICU CCU PACU OSH SNF PCP EMS LTAC IRF ASC ENT OPD OBGYN URI COPD HIV")
"""Capitals after "admitted to" that are no hospital of their own."""
TAIL = (
    r"(?:Hosp(?:ital)?|Clinic|Cent(?:er|re)|Ctr|School|University|College|Academy|High|Church|Pharmacy|Pediatrics|Dermatology|"
    r"Dental|Cardiology|Oncology|Ortho(?:pedics)?|Surgery|Imaging|Living|Care|Rehab|Manor|Hospice|Dialysis|VA|Children['’]s|"
    r"Women['’]s|Health|Medical|Med|General|Gen|Memorial|Practice|Associates|Institute|Inst|ED|ER|Emergency|Jail|Prison|"
    r"Correctional|Shelter|Specialists|Physicians|Partners|Laborator(?:y|ies)|Labs?|Radiology|Urology|Neurology|Psychiatry|"
    r"Wellness|Therapy|Network|System|Facility|Home|Regional|Hospitals)\b"
)
"""What the name of a facility ends with."""
_GENERIC = r"(?:General|City|County|Community|Memorial|University|Regional|District)"


def _names_a_facility(head: str) -> bool:
    """More than "The Hospital" or "Emergency Clinic": some word before the type names it."""
    found = re.findall(r"[^\W\d_]+", head.lower())
    telling = [
        word for word in found if word in ("st", "saint", "mt") or word not in _NEUTRAL | common_words()
    ]
    return bool(telling) and not any(is_medical(word) for word in telling)


def _is_called(match: re.Match[str]) -> bool:
    """A facility that somebody is at: its name may be of English words too ("Hope Clinic")."""
    words = re.findall(r"[^\W\d_]+", match["phi"].lower())
    plain = _NEUTRAL | (common_words() - AMBIGUOUS)
    return any(word not in plain and not is_medical(word) for word in words[:-1])


def _is_called_so(match: re.Match[str]) -> bool:
    """What somebody comes from that no word of medicine or English is part of, and no unit."""
    return match["phi"] not in _UNITS and is_place(match["phi"])


SHAPES = [
    Shape(
        "",
        "FACILITY",
        re.compile(rf"(?P<phi>{FACILITY.pattern})"),
        lambda match: _names_a_facility(match.string[match.start("phi") : match.start("type")]),
    ),
    Shape(
        "",
        "FACILITY",
        re.compile(
            rf"(?:{_AT}|\()(?P<phi>(?:{WORD}[ ]){{1,3}}(?:General|Memorial|Medical|Presbyterian|Methodist|Baptist|Regional))"
            r"(?=[,.;:?)]|[ ](?:in|on|for|by|and|last|this|yesterday|notes?|records?|[A-Z]{2})\b|\s*$)",
            re.M,
        ),
        lambda match: _names_a_facility(match["phi"].rpartition(" ")[0]),
    ),
    Shape(
        "",
        "FACILITY",
        re.compile(
            rf"(?:{_AT}|\()(?P<phi>(?:{WORD}|Univ\.|St\.|Mt\.)(?:[ ](?:of|and|&|for)[ ]{WORD}|[ ]{WORD}){{0,4}}?(?:[ ]{TAIL}){{1,3}}\.?)"
        ),
        _is_called,
    ),
    Shape(
        "",
        "FACILITY",
        re.compile(
            r"\b(?:seen|treated|admitted|transferred|tx['’]?d|followed|evaluated|hospitalized|presented|discharged)[ ]"
            r"(?:at|to|from)[ ](?:the[ ])?(?P<phi>[A-Z]{3,5})\b(?![ ]?\d)"
        ),
        lambda match: match["phi"] not in _UNITS and not is_medical(match["phi"]),
    ),
    Shape(
        "",
        "FACILITY",
        re.compile(rf"(?:{_AT}|\()(?P<phi>(?:St|Mt|Saint|Mount)\b\.?[ ]{WORD}(?:[ ]{WORD}){{0,2}})"),
        None,
    ),
    Shape(
        "",
        "FACILITY",
        re.compile(
            rf"\b(?P<phi>{_HOSPITALS})(?=['’]s[ ]|[ ](?:ED|ER|ICU|notes?|records?|team|physicians?|doctors?|clinic)\b)"
        ),
        None,
    ),
    Shape(
        "ospital",
        "FACILITY",
        re.compile(
            r"\b(?:at|to|from|in)[ ](?:the[ ])?"
            rf"(?P<phi>{_GENERIC}(?:[ ]{_GENERIC})?[ ]Hospital)\b"
        ),
        None,
    ),
    Shape(
        "",
        "FACILITY",
        re.compile(
            rf"\b(?:admitted|treated|seen|presented|visit|care|surgery|procedure|transferred|evaluated|hospitalized|diagnosed|tx['’]d|done|"
            rf"followed|carried\s+out\s+on\s+\S+)\s+(?:to|at)\s+(?:the\s+)?"
            rf"(?P<phi>{WORD}(?:[ ](?:{LINK}[ ])?{WORD}){{0,3}})(?=\s+(?:on|for|in|by|last|from)\b|[,.;?)]|\s*$)"
        ),
        lambda match: is_place(match["phi"]),
    ),
    Shape(
        "",
        "FACILITY",
        re.compile(rf"(?:{_AT}|\()(?P<phi>(?:{_HOSPITALS})(?:\s+Health)?)\b"),
        None,
    ),
    Shape(
        " from ",
        "FACILITY",
        re.compile(
            r"\b(?:discharged|released|transferred|transfer|referred|records|notes|letter)[ ]from[ ](?:the[ ])?"
            rf"(?P<phi>{WORD}(?:[ ]{WORD}){{0,2}})(?=[ ](?:with|w/|after|yesterday|today|last|this|on|for|in)(?![\w-])|[,.;?)]|\s*$)"
        ),
        _is_called_so,
    ),
    Shape(
        "Dr",
        "FACILITY",
        re.compile(
            rf"\bDr\.?[ ](?:{WORD}[ ]){{1,2}}(?:at|of|from)[ ](?:the[ ])?(?P<phi>{WORD}(?:[ ]{WORD}){{0,2}})(?![\w-])"
        ),
        _is_called_so,
    ),
    Shape(
        "",
        "FACILITY",
        re.compile(rf"(?<![\w-])(?P<phi>{_HOSPITALS})(?=[ ](?:pt|patient|resident|inpatient|outpatient)\b)"),
        None,
    ),
    Shape(
        "",
        "FACILITY",
        re.compile(
            rf"\bat\s+(?:the\s+)?(?P<phi>{WORD}(?:[ ]{WORD}){{0,3}})(?=\s+(?:on|in)\s+(?:\d|{_MONTHS}))"
        ),
        lambda match: is_place(match["phi"]),
    ),
]
