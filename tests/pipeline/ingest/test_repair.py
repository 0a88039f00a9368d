"""What is undone in texts, and what is left as it is because nobody can be sure."""

import json
import unicodedata

import pytest

from pipeline.params import Source
from tests.pipeline.ingest.reading import frame, raw, repaired, values


def mojibake(text: str, times: int = 1) -> str:
    for _ in range(times):
        text = "".join(
            bytes([byte]).decode("cp1252") if byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D) else chr(byte)
            for byte in text.encode()
        )
    return text


def line(**values: object) -> bytes:
    return json.dumps(values, ensure_ascii=False).encode() + b"\n"


REPAIRED = [
    (mojibake("Besançon – l’été"), "Besançon – l’été", "mojibake"),
    (mojibake("病人说：没有"), "病人说：没有", "mojibake"),
    (mojibake("37 °C, µg", 2), "37 °C, µg", "mojibake"),
    (unicodedata.normalize("NFD", "é ü ñ"), "é ü ñ", "nfc"),
    ("a\x07b\x1b[0m\x7f", "ab[0m", "control"),
    ("BP &amp;lt; 120 &amp;amp; up", "BP < 120 & up", "html"),
]


@pytest.mark.parametrize(("damaged", "text", "kind"), REPAIRED)
def test_certain_damage_is_undone_and_counted(damaged: str, text: str, kind: str) -> None:
    data = line(input="plain") + line(input=damaged, target="t")
    assert values(data, "a.jsonl") == ["plain", text]
    assert repaired(data, "a.jsonl") == {kind: 1}
    assert json.loads(raw(data, "a.jsonl")[1])["input"] == damaged
    escaped = json.dumps({"input": damaged}).encode()
    assert values(escaped, "a.jsonl") == [text]
    table = b"input,target\n" + f'"{damaged}",t\n'.encode()
    assert values(table, "a.csv") == [text]


LEFT = [
    "Besançon – l’été",
    "Ã©tÃ© und Müller",  # not the whole value: nobody knows what it was
    "IRMÃ\xa0MARIA",
    "BP &lt; 120 &amp; up",
    "naïve Â£ 5 “x”…é",
    "病人说：没有",
    "tab\tline\nform\x0c",
    "R&D; A&amp;B",
]


@pytest.mark.parametrize("text", LEFT)
def test_what_is_not_certain_stays(text: str) -> None:
    data = line(input=text)
    assert values(data, "a.jsonl") == [text]
    assert repaired(data, "a.jsonl") == {}


def test_entities_become_characters_where_the_source_says_so() -> None:
    source = Source(match="*", html_entities=True)
    data = line(input="BP &lt; 120 &amp; &eacute;t&#233; &amp;gt;", target="x & y")
    assert values(data, "a.jsonl", source=source) == ["BP < 120 & été &gt;"]
    assert values(data, "a.jsonl", "target", source=source) == ["x & y"]


def test_choices_are_repaired_as_their_target_is() -> None:
    nfd = unicodedata.normalize("NFD", "été")
    data = line(input="a", target=nfd, answer_choices=[nfd, "a &amp;quot;b&amp;quot;", "\x07c", 1, None])
    row = frame(data, "a.jsonl").row(0, named=True)
    assert row["target"] == "été"
    assert json.loads(row["answer_choices"]) == ["été", 'a "b"', "c", 1, None]
