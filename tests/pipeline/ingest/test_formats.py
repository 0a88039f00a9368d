"""JSON and CSV in every layout, encoding and compression, and what is too absurd to be read."""

import gzip
import json
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from pipeline.ingest import formats
from pipeline.ingest.formats import lines
from pipeline.params import Limits, Source
from tests.pipeline.ingest.reading import blocks, encoding, faults, frame, raw, values

THREE = [{"input": f"text {n}", "target": "t", "meta": {"a": [n, {}]}} for n in range(3)]
TEXTS = [row["input"] for row in THREE]
LINES = "".join(json.dumps(row) + "\n" for row in THREE).encode()

LAYOUTS = {
    "array": json.dumps(THREE),
    "array over lines": json.dumps(THREE, indent=2),
    "array, an object a line": "[\n" + ",\n".join(map(json.dumps, THREE)) + "\n]\n",
    "array of one": "[\n" + ",\n".join(map(json.dumps, THREE)) + "]",
    "pretty objects": "\n".join(json.dumps(row, indent=2) for row in THREE),
    "objects side by side": "".join(map(json.dumps, THREE)),
    "objects with spaces": "  ".join(map(json.dumps, THREE)),
    "lines with commas": ",\n".join(map(json.dumps, THREE)) + ",\n",
    "two arrays": json.dumps(THREE[:2]) + "\n" + json.dumps(THREE[2:]),
    "text sequence": "".join(f"\x1e{json.dumps(row)}\n" for row in THREE),
    "array with a mark": "\ufeff" + json.dumps(THREE),
    "lines": LINES.decode(),
    "lines of old Macs": LINES.decode().replace("\n", "\r"),
    "mixed line ends": LINES.decode().replace("\n", "\r\n", 1),
    "no last line end": LINES.decode().rstrip(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.ndjson"])
def test_json_in_every_layout(layout: str, name: str) -> None:
    data = LAYOUTS[layout].encode()
    assert values(data, name) == TEXTS
    assert faults(data, name) == []
    assert frame(data, name)[formats.LINE].to_list() == [1, 2, 3]


def test_a_broken_object_of_an_array_costs_none_of_its_neighbours() -> None:
    parts = list(map(json.dumps, THREE))
    parts.insert(1, '{"input": "broken, "target": 3}')
    parts.insert(3, '{"input": "cut", "meta": {"a": ')
    data = f"[{', '.join(parts[:3])},\n{parts[3]},\n{parts[4]}]".encode()
    assert values(data, "a.json") == TEXTS
    assert [reason for _, _, reason in faults(data, "a.json")] == ["not_json", "not_json"]


def test_what_an_array_holds_beside_objects_is_counted() -> None:
    data = b'[{"input": "a"}, 17, "x", null, {"input": "b"}]'
    assert values(data, "a.json") == ["a", "b"]
    assert faults(data, "a.json") == [(line, "record", "not_an_object") for line in (2, 3, 4)]


def test_an_array_that_is_cut_short_says_so() -> None:
    whole = json.dumps(THREE).encode()
    assert values(whole[:-1], "a.json") == TEXTS
    assert faults(whole[:-1], "a.json") == [(4, "record", "not_json")]
    assert values(whole[:-9], "a.json") == TEXTS[:2]
    assert {reason for _, _, reason in faults(whole[:-9], "a.json")} == {"not_json"}


@pytest.mark.parametrize("size", [1, 7, 100])
def test_json_is_read_whatever_pieces_it_comes_in(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.ingest.formats.compression.PIECE_BYTES", size)
    rows = [{"input": f"é中😀 {n}", "sample_id": 10**n, "x": [True, None, "\\", '"']} for n in range(20)]
    for text in (json.dumps(rows), json.dumps(rows, ensure_ascii=False, indent=1)):
        assert values(text.encode(), "a.json") == [row["input"] for row in rows]
        assert values(text.encode(), "a.json", "sample_id") == [str(row["sample_id"]) for row in rows]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 3, 5, 64])
def test_blocks_never_cut_a_line(end: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.ingest.formats.compression.PIECE_BYTES", size)
    monkeypatch.setattr(lines, "BLOCK_BYTES", 100)
    rows = [{"input": f"text 中 {n}"} for n in range(40)]
    data = "".join(json.dumps(row, ensure_ascii=False) + end * (1 + n % 2) for n, row in enumerate(rows))
    found = blocks(data.encode(), "a.jsonl")
    if (size, end) != (1, "\r"):  # a \r that ends a piece may have its \n to come: no such piece is cut
        assert len(found) > 5
    assert values(data.encode(), "a.jsonl") == [row["input"] for row in rows]
    expected = [1 + n + n // 2 for n in range(40)]
    assert frame(data.encode(), "a.jsonl")[formats.LINE].to_list() == expected
    table = f"input,target{end}" + "".join(f'"a{end}{n}",中{end}' for n in range(40))
    assert values(table.encode(), "a.csv") == [f"a{end}{n}" for n in range(40)]
    assert frame(table.encode(), "a.csv")[formats.LINE].to_list() == [2 + 2 * n for n in range(40)]


READ_ALL_THE_SAME = [
    ('{"input": "a", "x": NaN}', "a"),
    ('{"input": "a", "x": [Infinity, -Infinity]}', "a"),
    ('{"input": NaN}', None),
    ('{"input": "a\tb"}', "a\tb"),
    ('{"input": "a", "x": 1e999}', "a"),
    ('{"input": 12345678901234567890123}', "12345678901234567890123"),
    ('{"input": %s}' % ("9" * 60), "9" * 60),
    ('{"input": %s}' % ("9" * 6000), "9" * 6000),
    ('{"input": "a", "input": "a"}', "a"),
    ('{"x": 1, "x": 2, "input": "a"}', "a"),
    ('{"input": "a", "input": null}', "a"),
    ('{"input": "a", "input": null, "x": NaN}', "a"),
    ('\ufeff{"input": "a"}', "a"),
    ('{"input": "[a", "answer_choices": "b"}', "[a"),
    ('{"input": "{a", "target": ": null"}', "{a"),
    ('{"input": "\\"target\\": \\"a\\"", "target": null}', '"target": "a"'),
]


@pytest.mark.parametrize(("line", "value"), READ_ALL_THE_SAME)
def test_what_can_mean_one_thing_only_is_read(line: str, value: str | None) -> None:
    data = LINES + line.encode() + b"\n" + LINES
    assert values(data, "a.jsonl") == [*TEXTS, value, *TEXTS]


REFUSED = [
    ('{"input": "a", "input": "b"}', "input", "duplicate_key"),
    ('{"input": "a", "target": "x", "x": NaN, "target": "y"}', "target", "duplicate_key"),
    ('{"input": null, "input": "a"}', "input", "duplicate_key"),
    ('{"input":":null","input":"b","target":null}', "input", "duplicate_key"),
    ('{"input": ["a"], "answer_choices": "b"}', "input", "not_text"),
    ('{"input": {}, "answer_choices": ["b"]}', "input", "not_text"),
    ('{"input": "a"} {"input": "b"}', "record", "not_json"),
    ("{'input': 'a'}", "record", "not_json"),
    ('{"input": "a",}', "record", "not_json"),
    ('{"input": "a"', "record", "not_json"),
    ('{"input": ' + "[" * 70 + "]" * 70 + "}", "record", "too_deep"),
    ('{"input": ' + "[" * 5000 + "]" * 5000 + "}", "record", "too_deep"),
    ('{"input": "a", "x": %s}' % ('{"x":' * 10**5), "record", "too_deep"),
    ('{"input": "\\ud83d", "x": NaN}', "input", "not_text"),
]


@pytest.mark.parametrize(("line", "field", "reason"), REFUSED)
def test_what_cannot_be_told_is_refused(line: str, field: str, reason: str) -> None:
    data = LINES + line.encode() + b"\n" + LINES
    assert values(data, "a.jsonl") == [*TEXTS, *TEXTS]
    assert faults(data, "a.jsonl") == [(4, field, reason)]
    assert raw(data, "a.jsonl")[3] == line


def test_two_values_of_a_name_are_refused_whatever_else_is_wrong() -> None:
    twice = '[{"input": "a\nb", "input": "c"}, {"input": "d\ne"}]'
    assert faults(twice.encode(), "a.json") == [(1, "input", "duplicate_key")]
    assert values(twice.encode(), "a.json") == ["d\ne"]


def test_a_value_does_not_depend_on_the_lines_beside_it() -> None:
    line = b'{"input": "a", "input": null}\n'
    assert values(line, "a.jsonl") == values(line + b"{bad\n", "a.jsonl") == ["a"]


def test_brackets_in_texts_are_no_nesting() -> None:
    text = "[**name**] " * 500
    assert values(json.dumps({"input": text}).encode(), "a.jsonl") == [text]


def test_names_with_a_dot_reach_into_objects() -> None:
    source = Source(match="*", fields={"input": "note.text", "group_id": "who.id.value"})
    rows = [
        {"note": {"text": "a"}, "who": {"id": {"value": 7}}},
        {"note": {"text": ["a"]}},
        {"note": "b", "input": "c"},
    ]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    assert frame(data, "a.jsonl", source=source)["note.text"].to_list()[0] == "a"
    assert frame(data, "a.jsonl", source=source)["who.id.value"].to_list()[0] == "7"
    assert faults(data, "a.jsonl", source=source) == [(2, "note.text", "not_text")]


# -- encodings ---------------------------------------------------------------------------------

WESTERN = "".join(f'{{"input": "Le patient né à Besançon – déjà opéré, {i} fièvre"}}\n' for i in range(3))
CHINESE = '{"input": "医生：你好，患者在三小时后来到医院，没有说明胸痛的原因。"}\n'
RUSSIAN = '{"input": "Пациент поступил в отделение с жалобами на боль в груди."}\n' * 9
ENCODED = [
    (WESTERN, "utf-8", "utf-8"),
    (WESTERN, "utf-8-sig", "utf-8"),
    (WESTERN, "cp1252", "cp1252"),
    (CHINESE, "gb18030", "gb18030"),
    (CHINESE, "utf-16", "utf-16"),
    (CHINESE, "utf-16-le", "utf-16-le"),
    (RUSSIAN, "utf-16-be", "utf-16-be"),
    (RUSSIAN, "utf-8", "utf-8"),
]


@pytest.mark.parametrize(("text", "codec", "name"), ENCODED)
def test_a_provable_encoding_is_read_and_named(text: str, codec: str, name: str) -> None:
    expected = [json.loads(line)["input"] for line in text.splitlines()]
    for layout in (text, f"[{','.join(text.splitlines())}]"):
        assert encoding(layout.encode(codec)) == name
        assert values(layout.encode(codec), "a.jsonl") == expected


@pytest.mark.parametrize(
    "data",
    [
        ('{"input": "病人三小時後來到醫院，沒有說明胸痛的原因。"}\n' * 9).encode("big5"),
        RUSSIAN.encode("koi8-r"),
        WESTERN.encode() + b'{"input": "\xe9"}\n',
    ],
)
def test_an_encoding_that_is_not_proven_is_unknown(data: bytes) -> None:
    assert encoding(data) == "unknown"
    assert {reason for _, _, reason in faults(data, "a.jsonl")} == {"encoding"}


FOREIGN = {
    "cp1250": "Pacient byl přijat pro bolesti břicha, má zvýšenou teplotu a žaludeční potíže.",
    "iso8859_2": "Pacjent zgłosił się z powodu bólu w klatce piersiowej, ciśnienie podwyższone.",
    "cp1254": "Hasta ağrı şikayeti ile geldi, yüksek ateş",
    "cp850": "Patient né à Besançon, fièvre élevée, opéré déjà",
    "mac_roman": "Patient né, opéré, fiévreux",
    "cp1251": "Пациент жалуется на боли",
    "shift_jis": "患者は昨日から発熱があり、今日来院しました。",
    "euc_kr": "환자는 어제부터 열이 있었고 오늘 병원에 왔습니다.",
}


@pytest.mark.parametrize("codec", FOREIGN)
def test_another_encoding_is_not_taken_for_cp1252_but_may_be_said(codec: str) -> None:
    text = FOREIGN[codec]
    data = json.dumps({"input": text}, ensure_ascii=False).encode(codec) + b"\n" + LINES
    assert encoding(data) == "unknown"
    assert faults(data, "a.jsonl") == [(1, "record", "encoding")]
    source = Source(match="*", encoding=codec)
    assert values(data, "a.jsonl", source=source) == [text, *TEXTS]
    assert values(text.encode(codec), "a.txt", source=source) == [text]
    # What is proven counts all the same.
    assert values(data.decode(codec).encode(), "a.jsonl", source=source) == [text, *TEXTS]
    assert values(
        b'{"input": "\xff\xff"}\n' + LINES, "a.jsonl", source=Source(match="*", encoding="shift_jis")
    )


def test_a_guess_is_named_with_its_confidence() -> None:
    mixed = WESTERN * 30 + '{"input": "Kowałski"}\n'.encode("cp1250").decode("cp1252")
    for data, least, most in [(WESTERN.encode("cp1252"), 1, 1), (mixed.encode("cp1252"), 0.98, 0.9999)]:
        found = blocks(data, "a.jsonl")[-1].encoding
        assert found is not None and found.confidence is not None
        assert found.name == "cp1252" and least <= found.confidence <= most
    proven = blocks(WESTERN.encode(), "a.jsonl")[-1].encoding
    assert proven is not None and proven.confidence is None


def test_half_a_character_in_utf16_costs_its_line() -> None:
    data = '{"input": "a"}\n{"input": "X"}\n{"input": "b"}\n'.encode("utf-16").replace(b"X\0", b"\x00\xd8")
    assert values(data, "a.jsonl") == ["a", "b"]
    assert faults(data, "a.jsonl") == [(2, "record", "encoding")]
    assert faults(data[:-1], "a.jsonl") == [(2, "record", "encoding"), (3, "record", "encoding")]


def test_a_long_line_is_no_reason_to_doubt_the_encoding() -> None:
    rows = [{"input": "中é" * 300_000, "target": str(n)} for n in range(10)]
    data = json.dumps(rows, ensure_ascii=False).encode()
    assert encoding(data, "a.json") == "utf-8"
    assert values(data, "a.json", "target") == [row["target"] for row in rows]


# -- compression -------------------------------------------------------------------------------


def test_members_follow_each_other_with_padding_between() -> None:
    parts = [json.dumps(row).encode() + b"\n" for row in THREE]
    gz = gzip.compress(parts[0]) + b"\0" * 700 + gzip.compress(parts[1]) + gzip.compress(parts[2]) + b"\0" * 9
    assert values(gz, "a.jsonl.gz") == TEXTS
    skippable = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"
    zst = zstandard.compress(parts[0]) + skippable + b"".join(map(zstandard.compress, parts[1:]))
    assert values(zst, "a.jsonl.zst") == TEXTS


def test_what_follows_the_last_member_costs_none_of_the_rows() -> None:
    data = gzip.compress(LINES) + b"<html>too much</html>"
    assert values(data, "a.jsonl.gz") == TEXTS
    assert faults(data, "a.jsonl.gz") == [(4, "record", "unreadable_file")]


def test_the_content_says_how_it_is_compressed() -> None:
    assert values(gzip.compress(LINES), "a.jsonl") == TEXTS
    assert values(zstandard.compress(LINES), "a.jsonl.gz") == TEXTS


@pytest.mark.parametrize("name", ["a.json.gz", "a.csv.gz", "a.txt.gz"])
def test_a_cut_file_gets_a_row_that_says_so(name: str) -> None:
    rng = random.Random(3)
    rows = [{"input": "".join(rng.choices("abcdefgh", k=5000)), "target": str(n)} for n in range(20)]
    texts = {
        "a.json.gz": json.dumps(rows),
        "a.csv.gz": "input,target\n" + "".join(f"{row['input']},{row['target']}\n" for row in rows),
        "a.txt.gz": str(rows),
    }
    data = gzip.compress(texts[name].encode())
    found = frame(data[: len(data) // 2], name)
    assert found[formats.REASON].to_list()[-1] == "unreadable_file"
    assert found[formats.REASON].null_count() == found.height - 1
    good = found["input"].drop_nulls().to_list()
    assert good == [row["input"] for row in rows[: len(good)]]


# -- CSV ---------------------------------------------------------------------------------------

DIALECTS = {
    "comma": 'input,target\n"a, ""b""",t\n',
    "semicolon": 'input;target\n"a, ""b""";t\n',
    "tab": 'input\ttarget\n"a, ""b"""\tt\n',
    "pipe": 'input|target\n"a, ""b"""|t\n',
    "apostrophes": "'input','target'\n'a, \"b\"','t'\n",
    "backslashes": 'input,target\n"a, \\"b\\"",t\n',
    "excel": 'sep=;\ninput;target\n"a, ""b""";t\n',
    "mark": '\ufeffinput,target\n"a, ""b""",t\n',
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_of_csv(dialect: str) -> None:
    data = DIALECTS[dialect].encode()
    assert values(data, "a.csv") == ['a, "b"']
    assert values(data, "a.csv", "target") == ["t"]


def test_a_backslash_stays_where_it_escapes_nothing() -> None:
    data = b'input,target\n"C:\\new, ""b""",t\n"x\\",t\n'
    assert values(data, "a.csv") == ['C:\\new, "b"', "x\\"]


def test_tables_put_together_have_a_header_each() -> None:
    table = b"\r\n\xef\xbb\xbfinput,target\r\na,b\r\n"
    assert values(table.replace(b"\r\n\xef", b"\xef", 1) + table, "a.csv") == ["a", "a"]
    assert faults(b"\n" + table[5:] + table[2:], "a.csv") == [(4, "record", "repeated_header")]


def test_a_column_twice_is_refused_where_it_differs() -> None:
    data = b"input,target,input\na,t,a\nb,t,c\n"
    assert values(data, "a.csv") == ["a"]
    assert faults(data, "a.csv") == [(3, "input", "duplicate_key")]


# -- limits ------------------------------------------------------------------------------------

SMALL = Limits(row_bytes=1000, depth=5, columns=10)


def test_a_row_that_is_too_large_costs_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "BLOCK_BYTES", 500)
    monkeypatch.setattr("pipeline.ingest.formats.compression.PIECE_BYTES", 300)
    for length in (900, 5000, 100_000):
        row = json.dumps({"input": "x" * length}).encode() + b"\n"
        reasons = [(4, "record", "row_too_large")] if length > 1000 else []
        assert faults(LINES + row + LINES, "a.jsonl", limits=SMALL) == reasons
        assert values(LINES + row + LINES, "a.jsonl", "target", limits=SMALL)[-3:] == ["t"] * 3
        array = b"[" + b",".join((LINES + row + LINES).splitlines()) + b"]"
        assert faults(array, "a.json", limits=SMALL) == reasons
        table = b"input,target\na,t\n" + b"x" * length + b",t\nb,t\n"
        assert faults(table, "a.csv", limits=SMALL) == ([(3, "record", "row_too_large")] if reasons else [])
        assert values(table, "a.csv", limits=SMALL)[-1] == "b"
        note = faults(b"x" * length, "a.txt", limits=SMALL)
        assert note == ([(1, "record", "row_too_large")] if reasons else [])


def test_a_table_may_not_have_any_number_of_columns() -> None:
    data = ",".join(f"c{n}" for n in range(11)).encode() + b"\n"
    assert faults(data, "a.csv", limits=SMALL) == [(0, "record", "too_many_columns")]


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_a_bomb_is_stopped_before_it_fills_the_memory(
    compress: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    part = compress(b'{"input": "a"}\n' + bytes(2**24))
    path = tmp_path / "bomb.jsonl.gz"
    path.write_bytes(part * 40)
    tracemalloc.start()
    found = list(formats.read(path, formats.Kind("jsonl", "gzip"), ["input"], []))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [rows.frame.select("#line", "#reason").rows() for rows in found] == [[(0, "zip_bomb")]]
    assert peak < 100 * 2**20


def test_a_file_may_not_inflate_without_end() -> None:
    small = Limits(file_bytes=2000)
    assert faults(gzip.compress(LINES), "a.jsonl.gz", limits=small) == []
    assert faults(gzip.compress(LINES * 20), "a.jsonl.gz", limits=small) == [(0, "record", "file_too_large")]


def test_a_file_is_read_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    line = json.dumps({"input": "x" * 2000, "target": "t"}).encode() + b"\n"
    with path.open("wb") as file:
        for _ in range(50_000):
            file.write(line)
    size = path.stat().st_size
    tracemalloc.start()
    count = largest = 0
    for rows in formats.read(path, formats.Kind("jsonl", None), ["input", "target"], []):
        count += rows.frame.height
        largest = max(largest, rows.frame.estimated_size())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 50_000
    assert largest < 34 * 2**20  # polars' own memory is not traced
    assert peak < size * 0.9
