"""Recall and precision on labelled text, by the definitions that the module states."""

import gzip
import json
from pathlib import Path

import pytest
import zstandard

from pipeline.deidentify.labelled import Labelled, as_predictions, in_group, read, recalls
from pipeline.deidentify.spans import Span
from pipeline.errors import InputError

TEXT = "Dr. Moss saw Ana Lopez, 61, on 3/9/2024."
ROW = {
    "doc_id": "notes/1",
    "text": TEXT,
    "spans": [
        {"start": 4, "end": 8, "category": "NAME"},
        {"start": 13, "end": 22, "category": "NAME"},
        {"start": 24, "end": 26, "category": "AGE"},
        {"start": 31, "end": 39, "category": "DATE"},
    ],
}


def labelled(**values: object) -> Labelled:
    spans = [(span["start"], span["end"], span["category"]) for span in ROW["spans"]]  # type: ignore[index]
    return Labelled("notes/1", TEXT, spans)._replace(**values)  # type: ignore[arg-type]


def test_a_span_is_found_where_each_letter_and_digit_of_it_is() -> None:
    # The title beside a name is a letter too many; half of a name is none.
    found = [Span(0, 8, "NAME"), Span(13, 16, "NAME"), Span(24, 26, "AGE"), Span(31, 39, "DATE")]
    rows = {row.category: row for row in recalls([labelled()], [found])}
    assert [(row.found, row.labelled) for row in rows.values()] == [(2, 3), (1, 2), (1, 1), (1, 1)]
    assert list(rows) == ["PHI", "NAME", "DATE", "AGE"]
    assert rows["PHI"].recall == pytest.approx(2 / 3)
    # Letters and digits found: 2 of "Dr", 4 + 3 of names, 6 of the date; those of the age count neither way.
    assert rows["PHI"].precision == pytest.approx(13 / 15)
    assert rows["NAME"].precision is None


def test_intervals_are_wilsons() -> None:
    texts = [labelled(spans=[(4, 8, "NAME")]) for _ in range(10)]
    found = [[Span(4, 8, "NAME")]] * 9 + [[]]
    row = recalls(texts, found)[0]
    assert (row.low, row.high) == (pytest.approx(0.5958, abs=1e-4), pytest.approx(0.9821, abs=1e-4))


def test_labels_that_are_not_exhaustive_tell_no_precision() -> None:
    row = recalls([labelled(exhaustive=False)], [[Span(4, 8, "NAME")]])[0]
    assert (row.recall, row.precision) == (pytest.approx(1 / 3), None)


def test_each_source_has_rows_of_its_own() -> None:
    rows = recalls([labelled(), labelled(doc_id="mail#4")], [[], []])
    assert [(row.source, row.category) for row in rows] == [
        (source, category) for source in ("mail", "notes") for category in ("PHI", "NAME", "DATE", "AGE")
    ]


def test_what_is_found_once_is_found_everywhere_in_a_document() -> None:
    text = "Ana Lopez called. Lopez will call again."
    assert in_group(text, [Span(0, 9, "NAME")], "x") == [Span(0, 9, "NAME"), Span(18, 23, "NAME")]


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "jsonl.zst"])
def test_files_are_read_plain_or_compressed(tmp_path: Path, suffix: str) -> None:
    content = (json.dumps(ROW) + "\n\n" + json.dumps(ROW | {"exhaustive": False, "language": "es"})).encode()
    pack = {"jsonl": bytes, "jsonl.gz": gzip.compress, "jsonl.zst": zstandard.ZstdCompressor().compress}
    file = tmp_path / f"gold.{suffix}"
    file.write_bytes(pack[suffix](content))
    assert read(file) == [labelled(), labelled(exhaustive=False, language="es")]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: no JSON object"),
        (json.dumps({"doc_id": "x"}), r"line 2: needs doc_id, text and spans"),
        (json.dumps(ROW | {"spans": [{"start": 3}]}), r"line 2: needs doc_id, text and spans"),
        (
            json.dumps(ROW | {"spans": [{"start": 30, "end": 90, "category": "ID"}]}),
            "line 2: a span lies outside",
        ),
        ("[]", "line 2: no JSON object"),
    ],
)
def test_a_line_that_is_not_labelled_text_is_named_without_its_text(
    tmp_path: Path, line: str, said: str
) -> None:
    file = tmp_path / "gold.jsonl"
    file.write_text(f"{json.dumps(ROW)}\n{line}\n")
    with pytest.raises(InputError, match=said) as raised:
        read(file)
    assert "Lopez" not in str(raised.value)


def test_a_file_that_is_missing_empty_or_no_text_is_an_error(tmp_path: Path) -> None:
    empty, binary = tmp_path / "empty.jsonl", tmp_path / "binary.jsonl.gz"
    empty.write_text("\n")
    binary.write_bytes(b"\x1f\x8bnot really")
    for file, said in (
        (empty, "no labelled documents"),
        (binary, "cannot be read"),
        (tmp_path / "no", "cannot be"),
    ):
        with pytest.raises(InputError, match=said):
            read(file)


def test_predictions_hold_no_text() -> None:
    line = next(as_predictions([labelled()], [[Span(4, 8, "NAME")]]))
    assert json.loads(line) == {"doc_id": "notes/1", "spans": [{"start": 4, "end": 8, "kind": "NAME"}]}
