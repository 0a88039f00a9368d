"""What `moelora deidentify` shows."""

import gzip
import json
from pathlib import Path

import pytest

from pipeline.deidentify.preview import Piece, pieces, texts
from pipeline.errors import InputError

NOTE = "Seen by Dr. Ada Lopez on 3/9/2024 for a sharp pain. Lopez will call."


def test_pieces_give_the_text_before_and_after() -> None:
    (cut,) = pieces([NOTE], bytes(32), 0.4, "shift")
    assert "".join(piece.before for piece in cut) == NOTE
    assert [(piece.before, piece.kind) for piece in cut if piece.kind] == [
        ("Dr. Ada Lopez", "NAME"),
        ("3/9/2024", "DATE"),
        ("Lopez", "NAME"),
    ]
    after = "".join(piece.after for piece in cut)
    assert "Lopez" not in after
    assert after.startswith("Seen by Dr. ")
    assert cut[1].after.endswith(cut[5].after), "one person stays one"


def test_a_text_without_phi_is_one_piece() -> None:
    assert list(pieces(["A sharp pain."], bytes(32), 0.4, "shift")) == [
        [Piece("A sharp pain.", "A sharp pain.", None)]
    ]


def test_a_text_is_whole_and_json_lines_are_limited(tmp_path: Path) -> None:
    text, lines = tmp_path / "note.txt", tmp_path / "records.jsonl"
    text.write_text("One.\nTwo.\n")
    rows = [{"input": "a", "target": "b", "answer_choices": ["c", "d"]}, {"text": "e"}, {"text": "f"}]
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert texts(text, 1) == [["One.\nTwo.\n"]]
    assert texts(lines, 2) == [["a", "b", "c", "d"], ["e"]]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("note.jsonl", b"\n{", "line 2: no JSON object"),
        ("note.jsonl", b"[]", "line 1: no JSON object"),
        ("note.txt", b"\xff\xfe\xff", "cannot be read"),
        ("note.jsonl.gz", gzip.compress(b"{}\n" * 9)[:-9], "cannot be read"),
        ("note.jsonl.zst", b"nothing of the kind", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_an_error(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        texts(tmp_path / name, 9)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        texts(tmp_path / "none.txt", 3)
