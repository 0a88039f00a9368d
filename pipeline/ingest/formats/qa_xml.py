"""XML of questions and answers: each element ``record`` of the file's entry in ``ingest.sources`` is
a row, each of ``fields`` an XPath from there.

    {match: "medquad/*.xml", record: QAPair,
     fields: {input: Question, target: Answer, group_id: "ancestor::Document/@id"},
     defaults: {task: medquad, task_type: qa_generation, language: en}}

Names count without their namespace. Nothing outside the file is ever fetched, and entities that it
declares are not expanded: a record that holds one is refused. One that nobody declares breaks the file.
"""

import codecs
import io
import json
import re
from collections.abc import Collection, Iterator
from typing import Any

from pipeline.errors import ParamsError
from pipeline.ingest.formats.block import RECORD, SHOWN_CHARACTERS, Ask, Collected, Rows, Unreadable, faulty
from pipeline.ingest.formats.content import UTF16, Content

DECLARED = re.compile(rb"<\?xml[^>]{0,100}?encoding\s*=\s*[\"']([A-Za-z0-9._-]{1,40})[\"']")


def read(content: Content, ask: Ask) -> Iterator[Rows]:
    """Rows of an XML file, numbered as records. After a place that is not well-formed nothing can be
    read: what came before it stays, and one faulty row stands for the rest."""
    from lxml import etree

    if ask.source is None or ask.source.record is None:
        raise Unreadable("no_mapping")
    paths = _paths(ask)
    parser = etree.XMLPullParser(
        events=("end",),
        tag=f"{{*}}{ask.source.record}",
        encoding=_encoding(content),
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
    )
    rows = Collected(ask)
    number, unread, last, reason = 1, 0, None, None
    try:
        for piece in content.pieces():
            parser.feed(piece)
            unread += len(piece)
            for _, element in parser.read_events():
                if last is not None and last.getparent() is not None:
                    last.getparent().remove(last)
                _row(rows, number, element, paths, ask)
                number, unread, last = number + 1, 0, element
                if rows.full:
                    yield rows.block()
            if unread > ask.limits.row_bytes + len(piece):
                reason = "row_too_large"
                break
        else:
            if content.whole:
                parser.close()
    except etree.XMLSyntaxError:
        reason = _why(parser)
        for _, element in parser.read_events():
            _row(rows, number, element, paths, ask)
            number += 1
    yield rows.block()
    if not content.whole:
        reason = "unreadable_file"
    elif reason is None and number == 1:
        reason = "no_record"
    if reason:
        yield faulty(number, reason, ask.wanted, by_line=False)


def _why(parser: Any) -> str:
    error = next(iter(parser.feed_error_log), None)
    if error is not None and error.type_name == "ERR_RESOURCE_LIMIT":
        return "too_deep" if "depth" in error.message else "row_too_large"
    if error is not None and error.type_name == "ERR_UNDECLARED_ENTITY":
        return "entity"  # as &nbsp; is, which only HTML knows
    return "not_xml"


def _encoding(content: Content) -> str | None:
    """An encoding to be used in place of the one that the file declares, where it is proven wrong."""
    found_in_text = content.survey.encoding.name
    found = DECLARED.search(next(content.pieces(), b"")[:512])
    try:
        declared = codecs.lookup(found.group(1).decode()).name if found else "utf-8"
    except LookupError:
        declared = "utf-8"
    odd = found_in_text not in ("utf-8", "unknown", *UTF16)
    return found_in_text if odd and declared in ("utf-8", "ascii") else None


def without(content: Content, record: str, removed: Collection[int]) -> bytes | None:
    """The file without the records of these places, nor the elements that held no others; None where it is
    broken, or its records lie within each other."""
    from lxml import etree

    parser = etree.XMLParser(
        encoding=_encoding(content), resolve_entities=False, no_network=True, load_dtd=False, huge_tree=True
    )
    try:
        tree = etree.parse(io.BytesIO(b"".join(content.pieces())), parser)
    except etree.XMLSyntaxError:
        return None
    tag = f"{{*}}{record}"
    records = list(tree.iter(tag))
    if any(next(each.iterancestors(tag), None) is not None for each in records):
        return None
    for at in removed:
        element = records[at]
        while (parent := element.getparent()) is not None:
            parent.remove(element)
            if next(parent.iter(tag), None) is not None:
                break
            element = parent
    found: bytes = etree.tostring(tree, encoding="utf-8", xml_declaration=True)
    return found


def _paths(ask: Ask) -> dict[str, Any]:
    from lxml import etree

    paths = {}
    for name in ask.wanted:
        try:
            paths[name] = etree.XPath(name, smart_strings=False)
        except etree.XPathSyntaxError:
            raise ParamsError(f"ingest.sources: {name!r} is no XPath: correct it in params.yaml") from None
    return paths


def _row(rows: Collected, number: int, element: Any, paths: dict[str, Any], ask: Ask) -> None:
    from lxml import etree

    raw = etree.tostring(element, encoding="unicode", with_tail=False)
    entities = False
    for node in element.iter():
        if isinstance(node.tag, str):
            node.tag = etree.QName(node).localname
        entities = entities or node.tag is etree.Entity
    if entities:
        return rows.add(number, {}, raw, ("entity", RECORD))
    if len(raw) > ask.limits.row_bytes:
        return rows.add(number, {}, raw[:SHOWN_CHARACTERS], ("row_too_large", RECORD))
    values: dict[str, str | None] = {}
    fault = None
    for name, path in paths.items():
        texts = _texts(path(element))
        if name in ask.lists and len(texts) > 1:
            values[name] = json.dumps(texts, ensure_ascii=False)
        else:
            values[name] = texts[0] if texts else None
            fault = fault or (("not_text", name) if len(texts) > 1 else None)
    return rows.add(number, values, raw, fault)


def _texts(found: Any) -> list[str]:
    """Texts of what an XPath gives: elements, attributes, or one value."""
    return [
        ("".join(one.itertext()) if hasattr(one, "itertext") else str(one)).strip()
        for one in (found if isinstance(found, list) else [found])
    ]
