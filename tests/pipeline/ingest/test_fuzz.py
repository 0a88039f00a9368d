"""Lines and files that nobody would write: nothing crashes, and each line is accounted for.

At full size, some six minutes:

    python -c "from tests.pipeline.ingest.test_fuzz import *; [fuzz_files(n, 2000, 4) for n in seeds()]"
"""

import csv
import gzip
import io
import json
import random
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.ingest import formats
from pipeline.ingest.rows import check
from pipeline.params import Limits, Source
from tests.pipeline.ingest import test_sources
from tests.pipeline.ingest.reading import blocks, documented

REASONS = documented()
LIMITS = Limits(row_bytes=2000, depth=8, columns=50, file_bytes=2**22)
SEED = {
    "task": "t",
    "task_type": "summarization",
    "language": "en",
    "input": "Patient né à Besançon: 中文",
    "target": "x",
    "answer_choices": ["a", 1],
}
SOURCES: dict[str, Source | None] = {
    "a.xml": test_sources.QA,
    "a.fhir": test_sources.FHIR,
}


def seeds() -> dict[str, list[bytes]]:
    """Good files of every format, to be damaged."""
    lines = [json.dumps(SEED | {"sample_id": n}, ensure_ascii=bool(n % 2)) for n in range(6)]
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, list(SEED))
    writer.writeheader()
    writer.writerows([SEED | {"input": f'a "{n}",\nb'} for n in range(6)])
    jsonl = "\n".join(lines).encode()
    return {
        "a.jsonl": [jsonl, jsonl.replace(b"\n", b"\r\n"), "\n".join(lines).encode("utf-16")],
        "a.json": [
            f"[{','.join(lines)}]".encode(),
            json.dumps([SEED] * 4, indent=1).encode(),
            "".join(lines).encode(),
        ],
        "a.csv": [table.getvalue().encode(), table.getvalue().replace(",", ";").encode("gb18030")],
        "a.parquet": [
            test_sources.to_parquet([SEED | {"answer_choices": ["a"], "meta": {"x": n}} for n in range(50)])
        ],
        "a.xml": [(test_sources.XML % "utf-8").encode(), test_sources.pairs("a", "b", "c")],
        "a.fhir": [text.encode() for text in test_sources.FHIR_FILES.values()],
        "a.txt": [b"A note.\r\nMore.", "病人".encode("gb18030")],
        "a.jsonl.gz": [gzip.compress(jsonl), gzip.compress(jsonl) * 2],
        "a.jsonl.zst": [zstandard.compress(jsonl), zstandard.compress(jsonl) * 2],
    }


PIECES = [
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b"\n",
    b"\r",
    b"\\",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"<",
    b"&",
    b"'",
    b":",
    b"NaN",
    b"\xed\xa0\x80",
]


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, lost, doubled or put in."""
    content = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        at = rng.randrange(len(content) + 1)
        end = min(len(content), at + rng.choice([0, 1, 1, 3, 50]))
        action = rng.randrange(4)
        if action == 0:
            content[at:end] = rng.randbytes(end - at)
        elif action == 1:
            del content[at:end]
        elif action == 2:
            content[at:at] = content[at:end] * rng.randrange(3)
        else:
            content[at:at] = rng.choice(PIECES) * rng.choice([1, 1, 2, 100])
    return bytes(content[: rng.randrange(len(content) + 1)] if rng.random() < 0.1 else content)


def account_for(data: bytes, name: str) -> list[int]:
    """The lines of a file's rows, each either a record or in quarantine with a reason."""
    source = SOURCES.get(name)
    numbers = []
    for rows in blocks(data, name, source=source, limits=LIMITS):
        checked = check(rows, "0" * 16, source)
        lines = rows.frame[formats.LINE].to_list()
        told = [*checked.records["line"], *checked.quarantine["line"]]
        assert len(set(told)) == len(told) == len(lines) - checked.duplicates
        assert set(told) <= set(lines)
        assert set(checked.quarantine["reason"]) <= REASONS
        assert checked.quarantine["reason"].null_count() == checked.quarantine["raw"].null_count() == 0
        numbers += lines
    assert numbers == sorted(set(numbers))
    return numbers


def fuzz_lines(count: int, seed: int) -> None:
    """JSONL lines, each damaged on its own: every one that is not blank is a row."""
    rng = random.Random(seed)
    seed_lines = [json.dumps(SEED).encode(), json.dumps(SEED, ensure_ascii=False).encode()]
    for start in range(0, count, 1000):
        lines = []
        for _ in range(min(1000, count - start)):
            line = damaged(rng.choice(seed_lines), rng).replace(b"\n", b" ").replace(b"\r", b" ")
            lines.append(line.replace(b"\xef\xbb\xbf", b"") or b"x")
        lines[0] = seed_lines[0]  # so that it is a file of lines
        expected = [number for number, line in enumerate(lines, 1) if line.strip()]
        assert account_for(b"\n".join(lines), "a.jsonl") == expected


def fuzz_files(name: str, count: int, seed: int) -> None:
    rng = random.Random(seed)
    files = seeds()[name]
    for _ in range(count):
        data = damaged(rng.choice(files), rng)
        account_for(data, name)


def test_some_fuzzed_lines() -> None:
    fuzz_lines(1000, 1)


@pytest.mark.parametrize("name", seeds())
def test_some_fuzzed_files(name: str) -> None:
    fuzz_files(name, 15, 2)


@pytest.mark.slow
def test_100000_fuzzed_lines() -> None:
    fuzz_lines(100_000, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", seeds())
def test_300_fuzzed_files(name: str) -> None:
    fuzz_files(name, 300, 4)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["input", "target", "x", "é"]), inner)
    ),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from([*SEED, "x"]), JSON, max_size=6)
LAYOUTS: list[Callable[[list[object]], str]] = [
    json.dumps,
    lambda values: json.dumps(values, ensure_ascii=False, indent=1),
    lambda values: "\n".join(map(json.dumps, values)),
    lambda values: "".join(json.dumps(value, ensure_ascii=False) for value in values),
]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(OBJECTS, min_size=1, max_size=5), st.sampled_from(LAYOUTS))
def test_every_json_value_is_a_row_in_every_layout(
    objects: list[object], layout: Callable[[list[object]], str]
) -> None:
    text = layout(objects).encode("utf-8", "surrogatepass")
    assert len(account_for(text, "a.json")) == len(objects)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.text(), st.text(min_size=1)), min_size=1, max_size=5))
def test_what_csv_writers_write_is_read(pairs: list[tuple[str, str]]) -> None:
    rows = [(a.replace("\0", ""), f"x{b}".replace("\0", "")) for a, b in pairs]
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("input", "target"), *rows])
    data = text.getvalue().encode("utf-8", "surrogatepass")
    assert len(account_for(data, "a.csv")) >= len(rows)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=300), st.sampled_from(list(seeds())))
def test_any_bytes_are_accounted_for(data: bytes, name: str) -> None:
    account_for(data, name)
