"""Parquet with structs, XML by a field map, FHIR resources, and folders of notes."""

import base64
import io
import json
import random
from typing import Any

import polars as pl
import pyarrow
import pyarrow.parquet
import pytest

from pipeline import paths
from pipeline.ingest import formats
from pipeline.ingest.__main__ import run
from pipeline.ingest.formats import parquet
from pipeline.ingest.formats.html import text_of
from pipeline.params import Limits, Params, Source
from pipeline.stage import Progress
from tests.conftest import Checkout
from tests.pipeline.ingest.reading import blocks, faults, frame, raw, values

# -- Parquet -----------------------------------------------------------------------------------


def to_parquet(rows: list[dict[str, Any]], **options: Any) -> bytes:
    target = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), target, **options)
    return target.getvalue()


def test_parquet_fields_within_structs() -> None:
    source = Source(match="*", fields={"input": "note.text", "group_id": "note.who.id"})
    rows = [{"note": {"text": f"é {n}", "who": {"id": n}}, "target": "t"} for n in range(5)]
    found = frame(to_parquet(rows), "a.parquet", source=source)
    assert found["note.text"].to_list() == [f"é {n}" for n in range(5)]
    assert found["note.who.id"].to_list() == ["0", "1", "2", "3", "4"]
    assert faults(to_parquet([{"note": [1]}]), "a.parquet", source=source) == []


def test_a_damaged_row_group_costs_its_own_rows() -> None:
    rng = random.Random(4)
    rows = [{"input": f"{n} " + "".join(rng.choices("abcdefgh", k=300)), "target": "t"} for n in range(300)]
    data = bytearray(to_parquet(rows, row_group_size=100, use_dictionary=False, compression="zstd"))
    found = pyarrow.parquet.ParquetFile(io.BytesIO(bytes(data))).metadata.row_group(1).column(0)
    start = found.data_page_offset
    data[start + 40 : start + found.total_compressed_size - 40] = bytes(found.total_compressed_size - 80)
    assert values(bytes(data), "a.parquet") == [row["input"] for row in rows[:100] + rows[200:]]
    assert faults(bytes(data), "a.parquet") == [(101, "record", "unreadable_file")]
    assert frame(bytes(data), "a.parquet")[formats.LINE].to_list() == [*range(1, 102), *range(201, 301)]


@pytest.mark.parametrize("kind", [pyarrow.string(), pyarrow.large_string(), pyarrow.string_view()])
def test_one_text_in_many_rows_is_not_copied_as_often(
    monkeypatch: pytest.MonkeyPatch, kind: pyarrow.DataType
) -> None:
    monkeypatch.setattr(parquet, "BLOCK_BYTES", 10_000)
    target = io.BytesIO()
    rows = {"input": pyarrow.array(["x" * 3000] * 1000, kind), "target": pyarrow.array(["t"] * 1000, kind)}
    pyarrow.parquet.write_table(pyarrow.table(rows), target)
    data = target.getvalue()
    assert len(data) < 20_000
    found = blocks(data, "a.parquet")
    assert sum(rows.frame.height for rows in found) == 1000
    assert max(rows.frame.height for rows in found) == 3
    assert set(values(data, "a.parquet")) == {"x" * 3000}


def test_parquet_has_limits() -> None:
    data = to_parquet([{"input": "x" * 100}, {"input": "y"}])
    assert faults(data, "a.parquet", limits=Limits(row_bytes=50)) == [(1, "record", "row_too_large")]
    assert faults(data, "a.parquet", limits=Limits(file_bytes=50)) == [(0, "record", "file_too_large")]
    wide = to_parquet([{f"c{n}": 1 for n in range(20)}])
    assert faults(wide, "a.parquet", limits=Limits(columns=10)) == [(0, "record", "too_many_columns")]


# -- XML ---------------------------------------------------------------------------------------

QA = Source(
    match="*.xml",
    record="QAPair",
    fields={
        "input": "Question",
        "target": "Answer",
        "sample_id": "Question/@qid",
        "group_id": "ancestor::Document/@id",
    },
)
XML = """<?xml version="1.0" encoding="%s"?>
<Document id="d1"><Focus>Gaucher</Focus><QAPairs>
<QAPair pid="1"><Question qid="q1">What is &lt;it&gt;?</Question><Answer>Une <b>maladie</b> rare né à Besançon&#233;.</Answer></QAPair>
<QAPair pid="2"><Question qid="q2">Who?</Question><Answer><![CDATA[a < b]]></Answer></QAPair>
</QAPairs></Document>"""


@pytest.mark.parametrize("codec", ["utf-8", "iso-8859-1", "cp1252", "utf-16"])
def test_xml_by_a_field_map(codec: str) -> None:
    data = (XML % codec).encode(codec)
    found = frame(data, "a.xml", source=QA)
    assert found["Question"].to_list() == ["What is <it>?", "Who?"]
    assert found["Answer"].to_list() == ["Une maladie rare né à Besançoné.", "a < b"]
    assert found["Question/@qid"].to_list() == ["q1", "q2"]
    assert found["ancestor::Document/@id"].to_list() == ["d1", "d1"]


def test_xml_in_another_encoding_than_it_says() -> None:
    text = XML.replace("a < b", "où né à Besançon, déjà opéré") % "utf-8"
    assert frame(text.encode("cp1252"), "a.xml", source=QA)["Answer"][1] == "où né à Besançon, déjà opéré"


def test_xml_in_a_namespace() -> None:
    data = (XML % "utf-8").replace("<Document ", '<Document xmlns="urn:x" ').encode()
    assert frame(data, "a.xml", source=QA)["Question"].to_list() == ["What is <it>?", "Who?"]


def pairs(*answers: str, before: str = "") -> bytes:
    each = "".join(f"<QAPair><Question>q</Question><Answer>{answer}</Answer></QAPair>" for answer in answers)
    return f"{before}<d>{each}</d>".encode()


def test_nothing_that_xml_asks_for_is_fetched_or_expanded() -> None:
    laughs = '<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">'
    before = f'<!DOCTYPE d [<!ENTITY f SYSTEM "file:///etc/passwd">{laughs}]>'
    data = pairs("good", "&f;", "&b;", before=before)
    found = frame(data, "a.xml", source=QA)
    assert found["Answer"].to_list() == ["good", None, None]
    assert faults(data, "a.xml", source=QA) == [(2, "record", "entity"), (3, "record", "entity")]
    assert "root:" not in "".join(raw(data, "a.xml", source=QA))


def test_xml_that_breaks_keeps_what_came_before() -> None:
    data = pairs("a", "b", "c").replace(b"<Answer>c", b"<Answer>c & d <")
    assert values(data, "a.xml", "Answer", source=QA) == ["a", "b"]
    assert faults(data, "a.xml", source=QA) == [(3, "record", "not_xml")]
    assert faults(b"<d><x/></d>", "a.xml", source=QA) == [(1, "record", "no_record")]
    assert faults(pairs("a"), "a.xml") == [(0, "record", "no_mapping")]
    for answer, reason in [
        ("b&nbsp;c", "entity"),
        ("<x>" * 300 + "</x>" * 300, "too_deep"),
        ("y" * 11_000_000, "row_too_large"),
    ]:
        assert faults(pairs("a", answer), "a.xml", source=QA) == [(2, "record", reason)]
    two = pairs("a").replace(b"</Answer>", b"</Answer><Answer>b</Answer>")
    assert faults(two, "a.xml", source=QA) == [(1, "Answer", "not_text")]


# -- FHIR --------------------------------------------------------------------------------------

FHIR = Source(match="*", format="fhir", defaults={"task": "t", "task_type": "summarization"})


def attachment(text: str, kind: str = "text/plain", codec: str = "utf-8") -> dict[str, str]:
    return {"contentType": kind, "data": base64.b64encode(text.encode(codec)).decode()}


def report(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "resourceType": "DiagnosticReport",
        "id": f"r{number}",
        "status": "final",
        "language": "en",
        "subject": {"reference": f"Patient/p{number}"},
        "code": {"coding": [{"code": "18748-4", "display": "Imaging"}]},
        "presentedForm": [attachment("no", "application/pdf"), attachment(f"Findings {number}: é")],
        "conclusion": f"Normal {number}",
    } | changes


DOCUMENT = {
    "resourceType": "DocumentReference",
    "id": "d1",
    "description": "Discharge",
    "type": {"text": "Discharge summary"},
    "subject": {"reference": "https://ehr.example/fhir/Patient/p1/_history/3"},
    "content": [
        {"attachment": attachment("Entlassung: März\r\nEnde", "text/plain; charset=ISO-8859-1", "latin-1")}
    ],
}
ANSWERS = {
    "resourceType": "QuestionnaireResponse",
    "id": "q1",
    "subject": {"reference": "urn:uuid:p2"},
    "item": [
        {
            "linkId": "1",
            "text": "Group",
            "item": [
                {"linkId": "1.1", "text": "Smoker?", "answer": [{"valueBoolean": False}]},
                {
                    "linkId": "1.2",
                    "text": "Pain?",
                    "answer": [{"valueQuantity": {"value": 7.5, "unit": "cm"}}],
                },
                {"linkId": "1.3", "text": "Unanswered"},
            ],
        },
        {
            "linkId": "2",
            "text": "Drugs",
            "answer": [
                {"valueCoding": {"code": "A", "display": "Aspirin"}},
                {
                    "valueString": "other",
                    "item": [{"linkId": "2.1", "text": "Which?", "answer": [{"valueString": "x"}]}],
                },
            ],
        },
    ],
}
RESOURCES: list[dict[str, Any]] = [
    report(1),
    {"resourceType": "Patient", "id": "p1"},
    DOCUMENT,
    ANSWERS,
    report(2, status="entered-in-error"),
]
BUNDLE = {
    "resourceType": "Bundle",
    "type": "collection",
    "entry": [{"fullUrl": "urn:x", "resource": r} for r in RESOURCES],
}
FHIR_FILES = {
    "a.ndjson": "\n".join(map(json.dumps, RESOURCES)),
    "bundle.json": json.dumps(BUNDLE),
    "pretty.json": json.dumps(BUNDLE, indent=2),
    "last.json": json.dumps(dict(reversed(BUNDLE.items())), indent=2),
    "array.json": json.dumps(RESOURCES),
    "bundles.ndjson": "\n".join(json.dumps(BUNDLE | {"entry": [each]}) for each in BUNDLE["entry"]),
}


@pytest.mark.parametrize("name", FHIR_FILES)
def test_fhir_resources_become_rows(name: str) -> None:
    found = frame(FHIR_FILES[name].encode(), name, source=FHIR)
    assert found.select("#line", "sample_id", "group_id", "input", "target", "#reason").rows() == [
        (1, "DiagnosticReport/r1", "p1", "Findings 1: é", "Normal 1", None),
        (2, None, None, None, None, "other_resource"),
        (3, "DocumentReference/d1", "p1", "Entlassung: März\nEnde", "Discharge", None),
        (4, "QuestionnaireResponse/q1#1.1", "p2", "Smoker?", "false", None),
        (5, "QuestionnaireResponse/q1#1.2", "p2", "Pain?", "7.5 cm", None),
        (6, "QuestionnaireResponse/q1#2", "p2", "Drugs", "Aspirin; other", None),
        (7, "QuestionnaireResponse/q1#2.1", "p2", "Which?", "x", None),
        (8, None, None, None, None, "entered_in_error"),
    ]
    assert found["language"].to_list()[0] == "en"


def test_fhir_that_is_withdrawn_or_empty_is_no_record() -> None:
    resources = [
        DOCUMENT | {"docStatus": "entered-in-error"},
        BUNDLE | {"entry": []},
        {"resourceType": "Bundle"},
    ]
    expected = [(1, "record", "entered_in_error"), (2, "record", "no_entry"), (3, "record", "no_entry")]
    assert faults("\n".join(map(json.dumps, resources)).encode(), "a.ndjson", source=FHIR) == expected
    bundle = json.dumps(BUNDLE | {"entry": [{"resource": each} for each in resources]}, indent=1).encode()
    assert faults(bundle, "a.json", source=FHIR) == expected
    empty = json.dumps(BUNDLE | {"entry": []}, indent=1).encode()
    assert faults(empty, "a.json", source=FHIR) == [(1, "record", "no_entry")]


def test_a_patient_within_a_resource_is_known_by_identifier_alone() -> None:
    patient = {"resourceType": "Patient", "id": "p", "identifier": [{"value": "MRN-1"}]}
    subject = {"subject": {"reference": "#p"}}
    rows = [report(1, **subject, contained=[patient]), report(2, **subject, contained=[{"id": "p"}])]
    found = frame("\n".join(map(json.dumps, rows)).encode(), "a.ndjson", source=FHIR)
    assert found["group_id"].to_list() == ["MRN-1", None]


def test_fhir_names_beyond_the_record() -> None:
    source = FHIR.model_copy(update={"fields": {"target": "document_type", "source": "code"}})
    found = frame(FHIR_FILES["a.ndjson"].encode(), "a.ndjson", source=source)
    assert found["document_type"].to_list()[2] == "Discharge summary"
    assert found["code"].to_list()[0] == "Imaging"


PAGE = """<?xml version="1.0" encoding="UTF-8"?><html xmlns="http://www.w3.org/1999/xhtml"><head>
<style>p { color: red }</style></head><body><h1>Befund</h1><p>Kein <b>Schmerz</b>,
kein Fieber&nbsp;&lt;38.<br/>März</p><table><tr><td>Na</td><td>140</td></tr><tr><td>K</td><td>4</td></tr></table>
<script>alert("x")</script><!-- note --><p>open <i>end</body></html>"""


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/xhtml+xml"])
def test_html_is_read_as_a_reader_sees_it(kind: str) -> None:
    forms = [attachment("no", "application/pdf"), attachment(PAGE, kind)]
    data = "\n".join(
        map(
            json.dumps,
            [report(1, presentedForm=forms), report(2, presentedForm=[*forms, attachment("plain")])],
        )
    )
    found = frame(data.encode(), "a.ndjson", source=FHIR)
    assert found["input"].to_list() == [
        "Befund\n\nKein Schmerz, kein Fieber <38.\nMärz\n\nNa 140\nK 4\n\nopen end",
        "plain",
    ]


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ("<pre>\nBP 120/80\n  HR <b>72</b>\n</pre>after", "BP 120/80\nHR 72\n\nafter"),
        ("10<sup>9</sup>/L H<sub>2</sub>O, <b>un</b>well", "10^9/L H2O, unwell"),
        ("<p>Seen " + "<font size=2>Line<br>" * 300 + "<p>No pain", "Seen Line\nLine\n"),
    ],
)
def test_nothing_of_html_is_lost(document: str, text: str) -> None:
    data = json.dumps(report(1, presentedForm=[attachment(document, "text/html")])).encode()
    found = frame(data, "a.ndjson", source=FHIR)["input"][0]
    assert found.startswith(text)
    assert found.count("Line") == document.count("Line")
    assert found.endswith("No pain") == document.endswith("No pain")


def test_html_of_any_length_is_read_to_its_end() -> None:
    assert text_of(f"<p>{'word ' * 2_500_000}</p><p>After</p>").endswith("word\n\nAfter")


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ({"contentType": "application/pdf", "data": "AAAA"}, "no_plain_text"),
        ({"contentType": "text/plain", "url": "Binary/1"}, "no_plain_text"),
        ({"contentType": "text/plain", "data": "%%%"}, "bad_base64"),
        ({"contentType": "text/html", "data": "%%%"}, "bad_base64"),
        ({"contentType": "text/plain", "data": "gf+B"}, "encoding"),
        (attachment("a\0b"), "not_text"),
        (attachment("<!-- \x01 \0 --><p title='\0'>a\0b</p>", "text/html"), "not_text"),
        (attachment("<div>" * 3_000 + "deep", "text/html"), "not_text"),
        ({"contentType": "text/html; charset=utf-7", "data": "PHA+KzJEMC08L3A+"}, "not_text"),
    ],
)
def test_attachments_that_are_no_text(form: dict[str, str], reason: str) -> None:
    data = "\n".join(map(json.dumps, [report(1), report(2, presentedForm=[form]), report(3)]))
    assert faults(data.encode(), "a.ndjson", source=FHIR) == [(2, "input", reason)]


def test_half_a_character_in_fhir_is_shown_as_such() -> None:
    data = json.dumps(BUNDLE | {"entry": [{"resource": report(1, conclusion="\ud83d")}]}).encode()
    assert faults(data, "a.json", source=FHIR) == [(1, "target", "not_text")]
    assert "\ufffd" in raw(data, "a.json", source=FHIR)[0]


def test_broken_fhir_costs_only_itself() -> None:
    lines = [json.dumps(report(n)) for n in range(3)]
    lines[1] = lines[1][:-30]
    assert faults("\n".join(lines).encode(), "a.ndjson", source=FHIR) == [(2, "record", "not_json")]
    entries = [json.dumps({"resource": report(n)}) for n in range(4)]
    entries[1] = entries[1].replace(": ", " ", 1)
    bundle = '{"resourceType": "Bundle",\n"entry": [\n' + ",\n".join(entries) + "\n]}"
    assert values(bundle.encode(), "a.json", source=FHIR) == [f"Findings {n}: é" for n in (0, 2, 3)]
    assert faults(bundle.encode(), "a.json", source=FHIR)[0] == (2, "record", "not_json")


# -- notes, and all of it through the stage ----------------------------------------------------


def test_a_note_is_one_record_in_any_encoding() -> None:
    text = "Médecin déjà vu.\nLe patient né à Besançon, opéré.\n"
    for codec in ("utf-8", "utf-8-sig", "utf-16", "cp1252"):
        assert values(text.replace("\n", "\r\n").encode(codec), "a.txt") == [text]
    assert faults(b"a\0b", "a.txt") == [(1, "input", "not_text")]
    assert frame(b"", "a.txt").height == 1


def test_sources_of_every_kind_become_records(checkout: Checkout) -> None:
    common = {"task_type": "summarization", "language": "en"}
    checkout.params(
        ingest__include=["*.xml", "*.txt", "*.ndjson"],
        ingest__sources=[
            {
                "match": "*.xml",
                "record": "QAPair",
                "fields": dict(QA.fields),
                "defaults": {"task": "qa"} | common,
            },
            {"match": "fhir/*", "format": "fhir", "defaults": {"task": "reports"} | common},
            {"match": "cardiology/*.txt", "defaults": {"task": "ward", "target": "cardiology"} | common},
        ],
    )
    for name, data in {
        "a.xml": (XML % "utf-8").encode(),
        "fhir/a.ndjson": FHIR_FILES["a.ndjson"].encode(),
        "cardiology/1.txt": b"Chest pain",
        "Cardiology/2.TXT": b"Palpitations",
    }.items():
        path = paths.INBOX / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    report = run(Params.load(), Progress("ingest"))
    assert report["tasks"] == {"qa": 2, "reports": 6, "ward": 2}
    assert report["quarantine"] == {"other_resource": 1, "entered_in_error": 1}
    found = pl.concat(pl.read_parquet(path) for path in paths.INGESTED.glob("*.parquet"))
    assert set(found.filter(pl.col("task") == "ward")["target"]) == {"cardiology"}
