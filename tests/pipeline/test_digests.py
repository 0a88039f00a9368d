import hashlib
import subprocess
from pathlib import Path

from pipeline.digests import canonical_json, folder_digest, listing


def test_a_folder_digest_is_what_sha256sum_gives(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x").write_bytes(b"1")
    (tmp_path / "a").write_bytes(b"2")
    printed = subprocess.run(["sha256sum", "a", "b/x"], cwd=tmp_path, capture_output=True, check=True).stdout
    assert folder_digest(tmp_path) == hashlib.sha256(printed).hexdigest()
    assert list(listing(tmp_path)) == ["a", "b/x"]


def test_one_text_for_one_value() -> None:
    assert canonical_json({"b": 1, "a": "é"}) == '{\n  "a": "é",\n  "b": 1\n}\n'
