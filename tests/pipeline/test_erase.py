"""One group's records found in files of every stage, and raw files rewritten without them."""

import base64
import gzip
import io
import json
from typing import Any

import polars as pl
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
    assert (rewritten.rows, rewritten.whole) == (gone, False)
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
        assert (rewritten.rows, rewritten.whole) == (3, False)
        assert ids(rewritten.data or b"", "a.json") == ["s1", "s4"]


def test_a_file_that_cannot_be_rewritten_goes_whole() -> None:
    fhir = Source(match="*", format="fhir")
    xml = Source(match="*", record="q", fields={"group_id": "@who"})
    finder = Finder(GROUP, "0" * 20, (None, fhir, xml))
    resource = {"resourceType": "DocumentReference", "subject": {"reference": f"Patient/{GROUP}"}}
    other = {"resourceType": "DocumentReference", "subject": {"reference": "Patient/other"}}
    bundle = {"resourceType": "Bundle", "entry": [{"resource": resource}, {"resource": other}]}
    for data, name, source in [
        (json.dumps(bundle).encode(), "a.json", fhir),
        (f'<d><q who="{GROUP}"/><q who="other"/></d>'.encode(), "a.xml", xml),
    ]:
        assert finder.holds(data)
        assert finder.without(data, name, source).whole
    assert not finder.holds(json.dumps(bundle).replace(GROUP, "MRN-47119").encode())


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
    assert (rewritten.rows, rewritten.data, rewritten.whole) == (2, None, False)


def test_a_damaged_file_that_holds_it_goes_whole(finder: Finder) -> None:
    data = gzip.compress(jsonl(ROWS * 400))[:-20]
    assert finder.holds(data)
    assert finder.without(data, "a.jsonl.gz", None).whole


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
    (paths.INBOX / "other.txt").write_text("asked for MRN-47119")
    checkout.params(ingest__sources=[{"match": "lab/*.csv", "fields": {"group_id": "case"}}])
    finder = Finder.of(GROUP, Params.load())
    assert finder.pseudonym == pseudonym(SECRET, "group_id", f"group\0{GROUP}")
    found, unreadable = raw_files(finder, Params.load())
    assert [(each.path.name, each.rewritten.rows) for each in found] == [("a.jsonl", 3), ("b.csv", 1)]
    assert unreadable == [file_digest(paths.INBOX / "notes.txt")[:16]]
    paths.KEY_ID.write_text("0" * 16)
    with pytest.raises(DeidKeyError, match="names another one"):
        Finder.of(GROUP, Params.load())
