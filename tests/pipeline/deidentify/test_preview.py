"""What `moelora deidentify` shows."""

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


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "note.jsonl"
    file.write_text("{")
    for missing in (file, tmp_path / "none.txt"):
        with pytest.raises(InputError, match="cannot be read"):
            texts(missing, 3)
