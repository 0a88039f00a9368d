"""One group's records found in files of every stage, and raw files rewritten without them."""

import base64
import gzip
import io
import json
from typing import Any

import polars as pl
import pyarrow.parquet
import pytest
import zstandard

from pipeline import key, paths
from pipeline.deidentify import _group
from pipeline.deidentify.drawing import pseudonym
from pipeline.digests import file_digest
from pipeline.erase import Finder, raw_files
from pipeline.errors import DeidKeyError, InputError
from pipeline.ingest import formats
from pipeline.params import Params, Source
from tests.conftest import Checkout

SECRET = bytes(range(32))
GROUP = "MRN-4711"
MAPPED = Source(match="lab/*.csv", fields={"group_id": "case"})


def row(number: int, group: Any, **more: Any) -> dict[str, Any]:
    return {"sample_id": f"s{number}", "input": f"text {number}", "target": "t", "group_id": group} | more


ROWS = [row(1, "other"), row(2, GROUP), row(3, None, patient_id=GROUP), row(4, "MRN-47110"), row(5, GROUP)]


@pytest.fixture
def finder() -> Finder:
    drawn = pseudonym(SECRET, "group_id", _group({"group_id": GROUP}))
    return Finder(GROUP, drawn, (None, MAPPED))


def jsonl(rows: list[dict[str, Any]], end: str = "\n") -> bytes:
    return "".join(json.dumps(each) + end for each in rows).encode()


def ids(data: bytes, name: str) -> list[str]:
    kind = formats.kind(name)
    assert kind is not None
    blocks = formats.read(data, kind, ["sample_id", "input"], [])
    return [each for rows in blocks for each in rows.frame["sample_id"]]


def table(rows: list[dict[str, Any]]) -> bytes:
    target = io.BytesIO()
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(target)
    return target.getvalue()


CSV = 'sample_id,input,target,patient_id\r\ns1,"two\r\nlines",t,other\r\ns2,"MRN\r\n",t,MRN-4711\r\n\r\ns3,x,t,y\r\ns5,z,t,MRN-4711\r\n'


@pytest.mark.parametrize(
    ("name", "data", "stay", "gone"),
    [
        ("a.jsonl", jsonl(ROWS), ["s1", "s4"], 3),
        ("a.jsonl", jsonl(ROWS, "\r\n"), ["s1", "s4"], 3),
        ("a.jsonl", b"\xef\xbb\xbf" + jsonl(ROWS), ["s1", "s4"], 3),
        ("a.jsonl", jsonl(ROWS).decode().encode("utf-16"), ["s1", "s4"], 3),
        ("a.jsonl.gz", gzip.compress(jsonl(ROWS)), ["s1", "s4"], 3),
        ("a.jsonl.zst", zstandard.ZstdCompressor().compress(jsonl(ROWS)), ["s1", "s4"], 3),
        ("a.csv", CSV.encode(), ["s1", "s3"], 2),
        ("a.csv.gz", gzip.compress(CSV.encode()), ["s1", "s3"], 2),
        ("a.parquet", table(ROWS), ["s1", "s4"], 3),
        # A line that cannot be read is the group's where it, or one next to it, spells its id as a word.
        ("a.jsonl", jsonl(ROWS[:2]) + b'{"group_id": "MRN-4711", "inp\n{"x": "MRN-47112\n', ["s1"], 3),
        ("a.jsonl", b'{"x": "MRN-47112\n' + jsonl(ROWS[:2]), [None, "s1"], 1),
    ],
)
def test_a_file_is_rewritten_without_the_group(
    finder: Finder, name: str, data: bytes, stay: list[str], gone: int
) -> None:
    assert finder.holds(data)
    rewritten = finder.without(data, name, None)
    assert (rewritten.rows, rewritten.others, rewritten.damaged) == (gone, 0, False)
    assert rewritten.data is not None
    assert ids(rewritten.data, name) == stay
    assert not finder.holds(rewritten.data)
    if "gz" in name:
        assert rewritten.data[:2] == b"\x1f\x8b"


def test_a_record_broken_over_lines_goes_whole(finder: Finder) -> None:
    text = b'sample_id,input,target,group_id\ns1,a,t,x\ns2,"b\nand this of the patient\nc",t,MRN-4711,d\ns3,z,t,y\n'
    rewritten = finder.without(text, "a.csv", None)
    assert rewritten.data == b"sample_id,input,target,group_id\ns1,a,t,x\ns3,z,t,y\n"


def test_a_single_record_of_a_source_is_known_by_its_names(finder: Finder) -> None:
    assert finder.holds(b'{"case": "MRN-4711", "question": "x"}')


def test_records_that_are_no_lines(finder: Finder) -> None:
    for data in (json.dumps(ROWS, indent=1), json.dumps(ROWS), "".join(map(json.dumps, ROWS))):
        assert finder.holds(data.encode())
        rewritten = finder.without(data.encode(), "a.json", None)
        assert (rewritten.rows, rewritten.others) == (3, 0)
        assert ids(rewritten.data or b"", "a.json") == ["s1", "s4"]


def fhir(number: int, patient: str, kind: str = "DocumentReference", **more: Any) -> dict[str, Any]:
    return {"resourceType": kind, "id": f"r{number}", "subject": {"reference": f"Patient/{patient}"}} | more


ANSWERS = [{"linkId": str(n), "text": "q", "answer": [{"valueString": "a\nb"}]} for n in range(3)]
RESOURCES = [
    fhir(1, "other"),
    fhir(2, GROUP),
    fhir(3, "other", "QuestionnaireResponse", item=ANSWERS),
    fhir(4, GROUP, "QuestionnaireResponse", item=ANSWERS),
    fhir(5, "other", "Observation"),
    fhir(6, GROUP, "Observation"),
    {"resourceType": "Patient", "id": GROUP},
    fhir(8, "other", "Observation"),
]
BUNDLE = {"resourceType": "Bundle", "entry": [{"resource": each} for each in RESOURCES]}


@pytest.mark.parametrize(
    "data",
    [
        json.dumps(BUNDLE),
        json.dumps(BUNDLE, indent=2),
        "\n".join(map(json.dumps, RESOURCES)),
        json.dumps(BUNDLE) + "\n" + json.dumps(RESOURCES[0]),
    ],
)
def test_fhir_keeps_the_resources_of_others(data: str) -> None:
    source = Source(match="*", format="fhir")
    finder = Finder(GROUP, "0" * 20, (None, source))
    assert finder.holds(data.encode())
    rewritten = finder.without(data.encode(), "a.json", source)
    assert (rewritten.rows, rewritten.others) == (6, 0)
    kept = [json.loads(line) for line in (rewritten.data or b"").splitlines()]
    stay = [RESOURCES[at] for at in (0, 2, 4, 7)]
    assert [each.get("resource", each) for each in kept][:4] == stay
    assert not finder.holds(rewritten.data or b"")
    assert not finder.holds(data.replace(GROUP, "MRN-47119").encode())


@pytest.mark.parametrize("codec", ["utf-8", "iso-8859-1", "utf-16"])
def test_xml_keeps_the_records_of_others(codec: str) -> None:
    source = Source(match="*", record="q", fields={"group_id": "ancestor::doc/@who", "input": "i"})
    finder = Finder(GROUP, "0" * 20, (None, source))
    docs = [
        f'<doc who="{who}"><name>n {who}</name><q><i>né &lt; {who}</i></q></doc>' for who in (GROUP, "other")
    ]
    data = f'<?xml version="1.0" encoding="{codec}"?><d>{docs[0]}{docs[1]}{docs[0]}</d>'.encode(codec)
    assert finder.holds(data)
    rewritten = finder.without(data, "a.xml", source)
    assert (rewritten.rows, rewritten.others) == (2, 0)
    text = (rewritten.data or b"").decode()
    assert text.endswith(f"<d>{docs[1]}</d>") and GROUP not in text
    broken = finder.without(data + b"<", "a.xml", source)
    assert (broken.rows, broken.data, broken.others) == (2, None, 2)


def test_an_empty_id_is_refused(checkout: Checkout) -> None:
    for group in ("", " ", "\r\n"):
        with pytest.raises(InputError, match="empty"):
            Finder.of(group, Params.load())


def test_what_stays_keeps_every_character(finder: Finder) -> None:
    rows = [
        row(1, "other", input="naïve 数据 \u2028 end"),
        row(2, GROUP),
        row(3, "y", input='a "quoted" text'),
    ]
    data = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in rows)
    rewritten = finder.without(data.encode(), "a.jsonl", None)
    lines = data.split("\n")
    assert (rewritten.data or b"").decode() == f"{lines[0]}\n{lines[2]}\n"
    western = "sample_id,input,target,group_id\ns1,café au lait,été,x\ns2,y,t,MRN-4711\n".encode("cp1252")
    kept = finder.without(western, "a.csv", None).data or b""
    assert "s1,café au lait,été,x\n" in kept.decode()


def test_a_file_without_the_group_is_left_alone(finder: Finder) -> None:
    data = jsonl([ROWS[0], ROWS[3]])
    assert finder.without(data, "a.jsonl", None).data is data
    assert not finder.holds(data)


def test_a_file_of_nothing_else_goes(finder: Finder) -> None:
    rewritten = finder.without(jsonl([ROWS[1], ROWS[4]]), "a.jsonl", None)
    assert (rewritten.rows, rewritten.data, rewritten.others) == (2, None, 0)


def test_a_file_that_is_cut_short_keeps_what_can_be_read(finder: Finder) -> None:
    rows = jsonl([each | {"x": hash(str(n))} for n in range(400) for each in ROWS])
    data = gzip.compress(rows)[:-20]
    assert finder.holds(data)
    rewritten = finder.without(data, "a.jsonl.gz", None)
    assert (rewritten.others, rewritten.damaged) == (1, True)  # the line that was cut
    assert set(ids(rewritten.data or b"", "a.jsonl.gz")) == {"s1", "s4"}


def test_a_damaged_file_that_holds_it_goes_whole(finder: Finder) -> None:
    target = io.BytesIO()
    frame = pl.DataFrame(ROWS * 100, infer_schema_length=None).to_arrow()
    pyarrow.parquet.write_table(frame, target, row_group_size=250, use_dictionary=False, compression="zstd")
    data = bytearray(target.getvalue())
    found = pyarrow.parquet.ParquetFile(io.BytesIO(bytes(data))).metadata.row_group(1).column(1)
    data[found.data_page_offset + 40 : found.data_page_offset + found.total_compressed_size - 40] = bytes(
        found.total_compressed_size - 80
    )
    rewritten = finder.without(bytes(data), "a.parquet", None)
    assert rewritten.data is None and rewritten.damaged
    assert (rewritten.rows, rewritten.others) == (150, 101)


def test_a_source_may_call_the_group_something_else(finder: Finder) -> None:
    data = b"question,case\nx,MRN-4711\ny,other\n"
    assert finder.holds(data)
    assert finder.without(data, "lab.csv", None).rows == 0
    assert finder.without(data, "lab.csv", MAPPED).rows == 1


def test_files_of_later_stages_are_known_by_the_pseudonym(finder: Finder) -> None:
    deidentified = pl.DataFrame({"sample_id": ["p"], "group_id": [finder.pseudonym], "input": ["x"]})
    quarantine = pl.DataFrame({"shard": ["0"], "reason": ["not_json"], "raw": ["{'id': MRN-4711}"]})
    others = [
        deidentified.with_columns(group_id=pl.lit("another")),
        quarantine.with_columns(raw=pl.lit("MRN-47110")),
        pl.DataFrame({"weight": [1.0]}),
    ]
    for frame, held in [(deidentified, True), (quarantine, True), *((other, False) for other in others)]:
        target = io.BytesIO()
        frame.write_parquet(target)
        assert finder.holds(target.getvalue()) is held


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PAR1 and then nothing",
        b"\x89PNG\r\n\x00\x00",
        json.dumps({"rows": {"in": 12}, "text": "12"}, indent=2).encode(),
        b"step,loss\n12,0.5\n",
        b"\x1f\x8bnot gzip",
    ],
)
def test_reports_and_pictures_are_no_records(data: bytes) -> None:
    assert not Finder("12", "0" * 20, (None,)).holds(data)


def test_the_finder_draws_what_deidentify_drew(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(key.VARIABLE, base64.b64encode(SECRET).decode())
    (paths.INBOX / "lab").mkdir(parents=True)
    (paths.INBOX / "a.jsonl").write_bytes(jsonl(ROWS))
    (paths.INBOX / "lab/b.csv").write_bytes(b"question,case\nx,MRN-4711\ny,other\n")
    (paths.INBOX / "notes.txt").write_text("asked for MRN-4711")
    damaged = gzip.compress(bytes(range(256)) * 20)
    (paths.INBOX / "c.jsonl.gz").write_bytes(damaged[:60] + b"\0\0\0\0" + damaged[64:])
    (paths.INBOX / "other.txt").write_text("asked for MRN-47119")
    checkout.params(ingest__sources=[{"match": "lab/*.csv", "fields": {"group_id": "case"}}])
    finder = Finder.of(GROUP, Params.load())
    assert finder.pseudonym == pseudonym(SECRET, "group_id", f"group\0{GROUP}")
    found, unreadable = raw_files(finder, Params.load())
    assert [(each.path.name, each.rewritten.rows) for each in found] == [("a.jsonl", 3), ("b.csv", 1)]
    assert unreadable == sorted(file_digest(paths.INBOX / name)[:16] for name in ("c.jsonl.gz", "notes.txt"))
    paths.KEY_ID.write_text("0" * 16)
    with pytest.raises(DeidKeyError, match="names another one"):
        Finder.of(GROUP, Params.load())
