"""FHIR R4 (JSON): Bundles and NDJSON, named by ``format: fhir`` in ``ingest.sources``.

Each resource becomes a row, and of a questionnaire's response each answered item does:

resource                 input                      target            further names for ``fields``
DocumentReference        its attachment's text      description       document_type, category
DiagnosticReport         its presented form's text  conclusion        code, conclusion_code
QuestionnaireResponse    the item's text            its answers       link_id, questionnaire

Of several attachments the first text/plain one is taken, else the first of HTML, as a reader sees it.
``sample_id`` is Type/id (and the item's linkId), ``group_id`` the patient's id, ``language`` the
resource's; ``task`` and ``task_type`` come from ``defaults``. Resources of other types, those entered
in error and empty Bundles go to quarantine: each resource of a file is accounted for.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from pipeline.ingest.formats import html
from pipeline.ingest.formats import lines as text_lines
from pipeline.ingest.formats.block import (
    SHOWN_CHARACTERS,
    Ask,
    Collected,
    Rows,
    Unreadable,
    faulty,
    text_fault,
)
from pipeline.ingest.formats.content import Content
from pipeline.ingest.formats.documents import Element, Reader, is_document
from pipeline.ingest.formats.jsonl import characters, start_of
from pipeline.ingest.formats.objects import Fault, depth
from pipeline.params import Limits

CHARSET = re.compile(r"""charset\s*=\s*["']?([\w.:-]+)""", re.IGNORECASE)
PLAIN = ("text/plain",)
HTML = ("text/html", "application/xhtml+xml")
PATIENT = re.compile(r"(?:(?:^|/)Patient/|^urn:uuid:)([^/]+)(?:/_history/[^/]*)?$")

Row = tuple[dict[str, str | None], Fault | None]


def read(content: Content, ask: Ask) -> Iterator[Rows]:
    """Rows of a FHIR file, numbered as records."""
    rows = Collected(ask)
    number = 1
    for element in _document(content, ask) if is_document(*start_of(content)) else _lines(content, ask):
        for resource, raw, unread in _resources(element, ask):
            for values, fault in [({}, unread)] if unread else _rows(resource):
                rows.add(number, values, raw, fault or _not_text(values, ask))
                number += 1
        if rows.full:
            yield rows.block()
    yield rows.block()
    if not content.whole:
        yield faulty(number, "unreadable_file", ask.wanted, by_line=False)


def _document(content: Content, ask: Ask) -> Iterator[Element]:
    return Reader(characters(content), ask.limits.row_bytes).elements(within="entry")


def _lines(content: Content, ask: Ask) -> Iterator[Element]:
    for data, _, _, too_long in text_lines.blocks(content):
        for line in data.decode("utf-8", "surrogateescape").replace("\r", "\n").split("\n"):
            if too_long or len(line) > ask.limits.row_bytes:
                yield Element(line, reason="row_too_large")
            elif line.strip("\ufeff \t"):
                yield _decoded(line.strip("\ufeff"))


def _decoded(line: str) -> Element:
    if reason := text_fault(line):
        return Element(line, reason=reason)
    try:
        return Element(line, json.loads(line, strict=False, parse_int=str, parse_float=str))
    except ValueError:
        return Element(line, reason="not_json")
    except RecursionError:
        return Element(line, reason="too_deep")


def _resources(element: Element, ask: Ask) -> Iterator[tuple[dict[str, Any], str, Fault | None]]:
    """The resources of a value: itself, the one that an entry holds, or those of a Bundle."""
    value, reason = element.value, element.reason
    if reason is None and not isinstance(value, dict):
        reason = "not_an_object"
    if reason is None and depth(element.text) > ask.limits.depth:
        reason = "too_deep"
    if reason:
        yield {}, element.text[:SHOWN_CHARACTERS], Fault(reason)
    elif value.get("resourceType") == "Bundle":
        entries = value.get("entry")
        for entry in _list(entries):
            yield from _resources(Element(json.dumps(entry, ensure_ascii=False), entry), ask)
        if not _list(entries) and not (type(entries) is int and entries):
            yield {}, element.text, Fault("no_entry")
    elif "resourceType" not in value and isinstance(value.get("resource"), dict):
        yield from _resources(Element(element.text, value["resource"]), ask)
    else:
        yield value, element.text, None


def _rows(resource: dict[str, Any]) -> Iterator[Row]:
    kind = resource.get("resourceType")
    mapping = MAPPINGS.get(kind) if isinstance(kind, str) else None
    if mapping is None:
        yield {}, Fault("other_resource")
        return
    if "entered-in-error" in (resource.get("status"), resource.get("docStatus")):
        yield {}, Fault("entered_in_error")
        return
    identity = _text(resource.get("id"))
    common = {
        "sample_id": f"{kind}/{identity}" if identity else None,
        "group_id": _patient(resource),
        "language": _text(resource.get("language")),
    }
    for values, fault in mapping(resource):
        linked = values.get("link_id")
        more: dict[str, str | None] = (
            {"sample_id": f"{common['sample_id']}#{linked}"} if linked and identity else {}
        )
        yield common | values | more, fault


def _document_reference(resource: dict[str, Any]) -> Iterator[Row]:
    forms = [content.get("attachment") for content in _objects(resource.get("content"))]
    text, fault = _attached(forms)
    yield (
        {
            "input": text,
            "target": _text(resource.get("description")),
            "document_type": _concept(resource.get("type")),
            "category": next(iter(map(_concept, _list(resource.get("category")))), None),
        },
        fault,
    )


def _diagnostic_report(resource: dict[str, Any]) -> Iterator[Row]:
    text, fault = _attached(_list(resource.get("presentedForm")))
    yield (
        {
            "input": text,
            "target": _text(resource.get("conclusion")),
            "code": _concept(resource.get("code")),
            "conclusion_code": next(iter(map(_concept, _list(resource.get("conclusionCode")))), None),
        },
        fault,
    )


def _questionnaire_response(resource: dict[str, Any]) -> Iterator[Row]:
    answered = 0
    waiting = _objects(resource.get("item"))
    while waiting:
        item = waiting.pop(0)
        answers = _objects(item.get("answer"))
        waiting[:0] = _objects(item.get("item")) + [
            one for each in answers for one in _objects(each.get("item"))
        ]
        texts = [text for text in map(_answer, answers) if text is not None]
        if texts:
            answered += 1
            yield (
                {
                    "input": _text(item.get("text")),
                    "target": "; ".join(texts),
                    "link_id": _text(item.get("linkId")),
                    "questionnaire": _text(resource.get("questionnaire")),
                },
                None,
            )
    if not answered:
        yield {}, Fault("no_answer")


MAPPINGS = {
    "DocumentReference": _document_reference,
    "DiagnosticReport": _diagnostic_report,
    "QuestionnaireResponse": _questionnaire_response,
}


def _attached(attachments: list[Any]) -> tuple[str | None, Fault | None]:
    """Text of the first plain one among attachments, which are renderings of the same, else of HTML."""
    attachments = [each for each in attachments if isinstance(each, dict)]
    for kinds in (PLAIN, HTML):
        for attachment in attachments:
            declared = _text(attachment.get("contentType")) or ""
            data = attachment.get("data")
            if declared.partition(";")[0].strip().lower() not in kinds or not isinstance(data, str):
                continue
            try:
                decoded = base64.b64decode("".join(data.split()), validate=True)
            except (binascii.Error, ValueError):
                return None, Fault("bad_base64", "input")
            text, fault = _decoded_text(decoded, CHARSET.search(declared))
            return _seen(text) if text and kinds is HTML else (text, fault)
    return None, Fault("no_plain_text", "input") if attachments else None


def _seen(document: str) -> tuple[str | None, Fault | None]:
    # What reads HTML leaves some characters out that are no text.
    if not text_fault(document):
        with suppress(html.Unreadable):
            return html.text_of(document), None
    return None, Fault("not_text", "input")


def _decoded_text(data: bytes, charset: re.Match[str] | None) -> tuple[str | None, Fault | None]:
    text = None
    if charset:
        with suppress(LookupError, UnicodeError):  # else its bytes say what it is
            text = data.decode(charset.group(1))
    if text is None:
        inner = Content(data, None, Limits())
        with suppress(UnicodeError, Unreadable):
            text = b"".join(inner.utf8()).decode()
    if text is None:
        return None, Fault("encoding", "input")
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n"), None


def _patient(resource: dict[str, Any]) -> str | None:
    """A patient's id, whichever way it is referred to; of another subject, the reference."""
    subject = resource.get("subject")
    if not isinstance(subject, dict):
        return None
    reference = _text(subject.get("reference"))
    if reference is None:
        return _identifier(subject.get("identifier"))
    if reference.startswith("#"):  # an id within this resource: it names another patient in the next
        within = [one for one in _objects(resource.get("contained")) if one.get("id") == reference[1:]]
        named = [_identifier(each) for one in within for each in _list(one.get("identifier"))]
        return next(filter(None, named), _identifier(subject.get("identifier")))
    found = PATIENT.search(reference)
    return found.group(1) if found else reference


def _identifier(identifier: Any) -> str | None:
    return _text(identifier.get("value")) if isinstance(identifier, dict) else None


def _concept(value: Any) -> str | None:
    """What a CodeableConcept, or a Coding, says: its text, else the name or code of its first coding."""
    if not isinstance(value, dict):
        return None
    coded = [value, *_objects(value.get("coding"))]
    said = (_text(one.get(name)) for name in ("text", "display", "code") for one in coded)
    return next((text for text in said if text), None)


def _answer(answer: dict[str, Any]) -> str | None:
    for name, value in answer.items():
        if not name.startswith("value"):
            continue
        if name == "valueQuantity" and isinstance(value, dict):
            return " ".join(filter(None, (_text(value.get(part)) for part in ("value", "unit")))) or None
        if name == "valueReference" and isinstance(value, dict):
            return _text(value.get("display"))
        return _concept(value) if isinstance(value, dict) else _text(value)
    return None


def _not_text(values: dict[str, str | None], ask: Ask) -> Fault | None:
    wrong = (name for name in ask.wanted if text_fault(values.get(name) or ""))
    return next((Fault("not_text", name) for name in wrong), None)


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _objects(value: Any) -> list[dict[str, Any]]:
    return [each for each in _list(value) if isinstance(each, dict)]
