"""Nine clinical tasks of very uneven sizes over one population of patients.

Each answer follows from words of the text, so that a small model learns the tasks in few steps.
"""

from collections.abc import Callable, Iterator
from typing import Any

from pipeline.sample_data.markup import Draw, mark
from pipeline.sample_data.people import FEMALE, LAST, MALE, Person, person, visit_date

PATIENTS = 420

DEPARTMENTS = {
    "cardiology.jsonl": f"Cardiology, Dr. {mark('NAME', 'Helen Marsh')}, {mark('CONTACT', '217-555-0112')}",
    "family-practice.jsonl": f"Family care, Dr. {mark('NAME', 'Luis Cortez')}, {mark('LOCATION', 'Dayton')}",
    "internal-medicine.jsonl": f"Internal medicine, {mark('LOCATION', '40 Chapel Road, Salem, OR 97301')}",
    "outpatient-clinic.jsonl": f"Outpatient clinic, {mark('CONTACT', 'records@example.org')}",
}
"""File name and what its records name as their source."""

DRUGS = (
    "lisinopril", "metformin", "amlodipine", "atorvastatin", "omeprazole", "levothyroxine", "metoprolol",
    "losartan", "gabapentin", "sertraline", "furosemide", "prednisone", "warfarin", "albuterol", "naproxen",
    "allopurinol", "cetirizine", "doxycycline", "famotidine", "glipizide", "ramipril", "citalopram",
    "spironolactone", "tamsulosin",
)  # fmt: skip
DOSES = ("2.5 mg", "5 mg", "10 mg", "20 mg", "25 mg", "40 mg", "50 mg", "75 mg", "100 mg", "250 mg", "500 mg")
FREQUENCIES = (
    "once daily", "twice daily", "three times daily", "every morning", "at bedtime", "every other day",
    "once a week", "every 8 hours",
)  # fmt: skip
CONDITIONS = (
    "hypertension", "type 2 diabetes", "asthma", "atrial fibrillation", "heart failure", "gout", "migraine",
    "hypothyroidism", "osteoarthritis", "acid reflux", "depression", "chronic kidney disease", "eczema",
    "iron deficiency anemia", "sleep apnea", "high cholesterol", "low back pain", "rheumatoid arthritis",
    "psoriasis", "emphysema",
)  # fmt: skip
FINDINGS = (
    "chest pain", "shortness of breath", "nausea", "fever", "night sweats", "dizziness", "leg swelling",
    "palpitations", "headache", "dry cough", "abdominal pain", "blurred vision", "joint stiffness",
    "weight loss", "constipation", "itching", "numbness of the feet", "sore throat", "hair loss", "tremor",
    "heartburn", "loss of appetite", "wheezing", "fatigue",
)  # fmt: skip
CIRCUMSTANCES = (
    "I live alone", "my daughter is with me", "I am at work now", "I have no car today",
    "I am traveling until Friday", "my neighbor is here", "I have not slept well", "I ate very little",
    "I am allergic to penicillin", "I stopped smoking last year", "I had knee surgery in the spring",
    "my pharmacy is closed", "I walk every day", "I am new to your practice", "I prefer the afternoon",
    "I have two small children",
)  # fmt: skip
PLANS = (
    "a low-salt diet", "a chest X-ray", "a blood count", "physical therapy", "an echocardiogram",
    "daily foot checks", "a sleep study", "home blood pressure readings", "a dietitian visit",
    "a stress test", "wound care", "a thyroid panel", "more fluids", "a hearing test", "breathing exercises",
    "a kidney ultrasound",
)  # fmt: skip

CONCERNS = {
    "emergency": (
        "I have crushing chest pain", "I cannot breathe", "I am vomiting blood", "my face is drooping",
        "I had a seizure", "my cut will not stop bleeding",
    ),
    "prescription": (
        "I need a refill of my tablets", "my prescription has run out", "the pharmacy has no prescription",
        "please renew my inhaler", "I lost my pills", "may I take half a tablet",
    ),
    "appointment": (
        "I would like an appointment", "I cannot come to my appointment", "please book a check-up for me",
        "is there an earlier appointment", "I missed my visit", "I need another date for my visit",
    ),
    "billing": (
        "I got a bill twice", "my insurance did not pay the bill", "I have a question about my bill",
        "please send the invoice again", "how can I pay my bill", "I have a new insurance card",
    ),
}  # fmt: skip
"""What a patient writes, by the desk that answers."""

STATUSES = {
    "confirmed": ("was confirmed", "has been confirmed on examination", "is confirmed by the family"),
    "ruled out": ("was ruled out", "has been ruled out on examination", "is ruled out by the tests"),
    "not assessed": ("was not assessed", "could not be assessed today", "is still to be assessed"),
}
"""What a note says of a finding, by its status."""

WISHES = (
    "a refill of my tablets", "a copy of my lab results", "my yearly check-up", "a flu shot appointment",
    "a letter for my employer", "a new date for my eye exam", "a school form to be signed",
    "advice on travel vaccines", "a referral to the foot doctor", "the opening hours of the lab",
    "help with a bill I got", "a new insurance card on file",
)  # fmt: skip

ABBREVIATIONS = {
    "HTN": "hypertension",
    "T2DM": "type 2 diabetes mellitus",
    "COPD": "chronic obstructive pulmonary disease",
    "GERD": "gastroesophageal reflux disease",
}

STAFF = tuple(
    mark("NAME", f"{first} {last}")
    for first, last in zip(FEMALE[::3] + MALE[::3], LAST[1 : 2 * len(FEMALE) : 3], strict=False)
)
"""Names of clinicians."""

Marked = dict[str, Any]
"""Task-specific fields of a record: input, target, answer_choices; PHI labelled in them."""


def identity(draw: Draw, who: Person) -> str:
    """One line of a patient's identity, one or two pieces of PHI beside the name."""
    return draw.pick(
        (
            f"{who.name}, MRN {who.mrn}",
            f"{who.name}, born {who.birth}",
            f"{who.name}, phone {who.phone}",
            f"{who.name}, {who.address}",
            f"{who.name}, {who.age} years, record {who.mrn}",
            f"{who.name}, {who.email}",
            f"{who.formal}, MRN {who.mrn}, seen {visit_date(draw)}",
        )
    )


def _triage(draw: Draw, who: Person) -> Marked:
    label = draw.pick(tuple(CONCERNS))
    concern = _sentence(draw.pick(CONCERNS[label]))
    contact = draw.pick(
        (
            f"My number is {who.phone}.",
            f"Write to {who.email}.",
            f"I live at {who.address}.",
            f"My record number is {who.mrn}.",
            f"I was born on {who.birth}.",
            f"I was last seen on {visit_date(draw)}.",
        )
    )
    text = f"This is {who.name}. {contact} {_sentence(draw.pick(CIRCUMSTANCES))} {concern}"
    return _choice("Which desk answers this message from a patient?", "Message", text, tuple(CONCERNS), label)


def _entities(draw: Draw, who: Person) -> Marked:
    drugs, problems = draw.some(DRUGS, 2), draw.some(CONDITIONS + FINDINGS, 3)
    dose, often, plan = draw.pick(DOSES), draw.pick(FREQUENCIES), draw.pick(PLANS)
    first, second = drugs
    one, two, three = problems
    sentence, used, found = draw.pick(
        (
            (f"takes {first} {dose} {often} for {one} and now reports {two}", [first], [one, two]),
            (f"was changed from {first} to {second} {dose} because of {one}", [first, second], [one]),
            (f"has {one}, {two} and {three}; {plan} was arranged", [], [one, two, three]),
            (f"with known {one} started {first} {dose} {often} and was told about {plan}", [first], [one]),
            (f"stopped {first} after {one}, and {two} improved with {second}", [first, second], [one, two]),
            (f"came for {plan} and continues {first} {dose} {often}", [first], []),
            (f"was given {first} and {second} {often}, without {one}", [first, second], [one]),
        )
    )
    lines = [f"{kind}: {'; '.join(names)}" for kind, names in (("Drug", used), ("Problem", found)) if names]
    return {
        "input": "List the Drug and Problem entities in the note, one type per line as 'Type: mention; "
        f"mention'.\n\nNote: {identity(draw, who)}, {sentence}.\nEntities:",
        "target": "\n".join(lines),
        "answer_choices": ["Drug", "Problem"],
    }


def _status(draw: Draw, who: Person) -> Marked:
    label, finding = draw.pick(tuple(STATUSES)), draw.pick(FINDINGS)
    said = _sentence(f"{finding} {draw.pick(STATUSES[label])}")
    drug = f"{draw.pick(DRUGS)} {draw.pick(DOSES)} {draw.pick(FREQUENCIES)}"
    text = draw.pick(
        (
            f"{identity(draw, who)}, takes {drug} for {draw.pick(CONDITIONS)}. {said}",
            f"{who.name} was seen on {visit_date(draw)}. {said} Plan: {draw.pick(PLANS)}.",
            f"{who.name}, {who.aged}, has {draw.pick(CONDITIONS)}. {said} Continues {drug}.",
        )
    )
    return _choice(f"What does the note say of {finding}?", "Note", text, tuple(STATUSES), label)


def _signature(draw: Draw, who: Person) -> Marked:
    signer, second, third = draw.some(STAFF, 3)
    reason = f"{draw.pick(CONDITIONS)} and {draw.pick(FINDINGS)}"
    text = draw.pick(
        (
            f"Referred by Dr. {second} for {reason}. Nurse {third} arranged {draw.pick(PLANS)}.",
            f"Discussed {reason} with Dr. {second}. Copy to Dr. {third}. {_sentence(draw.pick(PLANS))}",
            f"Nurse {second} and Dr. {third} were present. Reason: {reason}. {_sentence(draw.pick(DRUGS))}",
        )
    )
    choices = tuple(draw.some((signer, second, third), 3))
    text = f"{identity(draw, who)}. {text} Signed: Dr. {signer}"
    return _choice("Which clinician signed the note?", "Note", text, choices, signer)


def _summary(draw: Draw, who: Person) -> Marked:
    drug, dose, often = draw.pick(DRUGS), draw.pick(DOSES), draw.pick(FREQUENCIES)
    condition, plan, date = draw.pick(CONDITIONS), draw.pick(PLANS), visit_date(draw)
    first, second = draw.some(FINDINGS, 2)
    text = (
        f"{who.name}, MRN {who.mrn}, is {who.aged} with {condition} who came with {first} "
        f"{draw.pick(('but', 'and'))} {draw.pick(('without', 'with less'))} {second}. "
        f"{draw.pick(('We started', 'Started today:', 'The new drug is'))} {drug} {dose} {often}. "
        f"{draw.pick(('Also', 'In addition'))} {plan}. {draw.pick(('Next visit', 'Return'))} on {date}."
    )
    return {
        "input": f"Summarize the visit in one sentence.\n\nVisit: {text}\nSummary:",
        "target": f"{who.formal} has {condition} with {first}, starts {drug} {dose} and returns on {date}.",
    }


def _order(draw: Draw, who: Person) -> Marked:
    drug, dose, often = draw.pick(DRUGS), draw.pick(DOSES), draw.pick(FREQUENCIES)
    condition, plan = draw.pick(CONDITIONS), draw.pick(PLANS)
    text = draw.pick(
        (
            f"for {condition}, give {drug} {dose} {often} and arrange {plan}. Call {who.phone}.",
            f"please dispense {drug} {dose}, to be taken {often}, for {condition}. Send to {who.email}.",
            f"{plan} first. Then {drug} {dose} {often} against {condition}, from {visit_date(draw)}.",
        )
    )
    return {
        "input": "Extract drug, dose and frequency of the order, one per line."
        f"\n\nOrder: {identity(draw, who)}: {text}\nFields:",
        "target": f"Drug: {drug}\nDose: {dose}\nFrequency: {often}",
    }


def _report(draw: Draw, who: Person) -> Marked:
    condition, plan, date = draw.pick(CONDITIONS), draw.pick(PLANS), visit_date(draw)
    present, absent = draw.some(FINDINGS, 2)
    return {
        "input": "Write a short report from the items."
        f"\n\nItems: {who.name}; {who.age} years; seen {date}; history {condition}; present {present}; "
        f"absent {absent}; next {plan}\nReport:",
        "target": f"{who.name} was seen on {date}. History of {condition}. There is {present} but no "
        f"{absent}. We arranged {plan}.",
    }


def _term(draw: Draw, who: Person) -> Marked:
    short = draw.pick(tuple(ABBREVIATIONS))
    text = (
        f"{identity(draw, who)}: known {short}, on {draw.pick(DRUGS)} {draw.pick(DOSES)}; {draw.pick(PLANS)}"
    )
    return {
        "input": f"Write out the abbreviated diagnosis.\n\nProblem list of {text}.\nDiagnosis:",
        "target": ABBREVIATIONS[short],
    }


def _reply(draw: Draw, who: Person) -> Marked:
    wish, date, clinician = draw.pick(WISHES), visit_date(draw), draw.pick(STAFF)
    return {
        "input": "Answer the patient's message for the practice."
        f"\n\nMessage: This is {who.name}, {who.phone}. I would like {wish}. "
        f"{_sentence(draw.pick(CIRCUMSTANCES))}\nFree slot: {date}, Dr. {clinician}\nReply:",
        "target": f"Dear {who.formal}, thank you for your message. Dr. {clinician} will see you on {date}.",
    }


def _sentence(clause: str) -> str:
    return clause[0].upper() + clause[1:] + "."


def _choice(instruction: str, label: str, text: str, choices: tuple[str, ...], target: str) -> Marked:
    return {
        "input": f"{instruction}\n\n{label}: {text}\nOptions: {', '.join(choices)}\nAnswer:",
        "target": target,
        "answer_choices": list(choices),
    }


TASKS: tuple[tuple[str, str, int, Callable[[Draw, Person], Marked]], ...] = (
    ("message-triage", "classification", 600, _triage),
    ("drug-problem-ner", "ner", 360, _entities),
    ("finding-status", "nli", 220, _status),
    ("note-signature", "qa_choice", 130, _signature),
    ("visit-summary", "summarization", 80, _summary),
    ("order-fields", "extraction", 40, _order),
    ("visit-report", "report_generation", 24, _report),
    ("diagnosis-term", "normalization", 16, _term),
    ("appointment-reply", "response_generation", 6, _reply),
)
"""Task, task type, records, and what makes one record."""


def marked_records(seed: int) -> Iterator[tuple[str, Marked]]:
    """File name and record of the whole set in the order of writing; PHI labelled in all fields.

    A patient has records of several tasks in several files. ``split`` is null: splitting is left
    to the pipeline.
    """
    draw = Draw(seed, "patients")
    patients = [person(draw) for _ in range(PATIENTS)]
    records: list[tuple[str, Marked]] = []
    for task, task_type, count, make in TASKS:
        draw = Draw(seed, task)
        for _ in range(count):
            who = draw.pick(patients)
            file = draw.pick(tuple(DEPARTMENTS))
            fields = make(draw, who)
            records.append((file, _record(draw, who, task, task_type, DEPARTMENTS[file], fields)))
    draw = Draw(seed, "order")
    for number, (file, record) in enumerate(draw.some(records, len(records))):
        yield file, {"sample_id": f"{record.pop('sample_id')}-{number:05d}", **record}


def _record(draw: Draw, who: Person, task: str, task_type: str, source: str, fields: Marked) -> Marked:
    return {
        "sample_id": draw.pick((f"MRN{who.mrn}", mark("NAME", f"{who.last}_{who.first}"))),
        "task": task,
        "task_type": task_type,
        "input": fields["input"],
        "target": fields["target"],
        "answer_choices": fields.get("answer_choices"),
        "group_id": f"{mark('NAME', f'{who.last}, {who.first}')} ({who.mrn})",
        "language": "en",
        "source": source,
        "split": None,
    }
