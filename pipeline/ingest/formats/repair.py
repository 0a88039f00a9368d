"""Damage to text that is undone, because what it was is certain.

mojibake   UTF-8 that was read as cp1252: the whole value, written as cp1252, is UTF-8 again
html       doubly escaped entities (``&amp;lt;``): nobody writes them; single ones only where the
           file's entry in ``ingest.sources`` says ``html_entities``
control    characters that are no text (C0 but tab, line ends and form feeds; DEL) are left out
nfc        Unicode's composed form, so that one word is one string
"""

import html
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

import polars as pl

CONTROL = r"[\x01-\x08\x0e-\x1f\x7f]"
DOUBLY_ESCAPED = re.compile(r"&amp;(?:amp;)*(#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
MOJIBAKE = r"[Â-ô][\x80-\xbfŒœŠšŸŽžƒˆ˜\u2013-\u203a€™]"
NO_PROOF = re.compile(r"[ÂÃ]\xa0")
"""A capital at the end of a word before a non-breaking space looks the same."""

TIMES = 3
"""Files are damaged more than once."""

_BYTES = {ord(bytes([byte]).decode("cp1252", "replace")): byte for byte in range(0x80, 0xA0)}
del _BYTES[0xFFFD]


def repaired(
    frame: pl.DataFrame, wanted: Sequence[str], lists: Sequence[str], html_entities: bool
) -> tuple[pl.DataFrame, Counter[str]]:
    """The frame with its text columns repaired (those of ``lists`` may hold JSON), and how many
    values were, by kind."""
    counts: Counter[str] = Counter()
    for name in wanted:
        column = frame[name]
        if column.null_count() == len(column):
            continue
        odd = _odd(column, html_entities).arg_true()
        if odd.is_empty():
            continue
        within = _within_json if name in lists else _mended
        values = [within(value, html_entities, counts) for value in column.gather(odd)]
        frame = frame.with_columns(column.clone().scatter(odd, values))
    return frame, counts


def _odd(column: pl.Series, html_entities: bool) -> pl.Series:
    """Values that may need repair."""
    text = column.str
    odd = text.contains(CONTROL + ("|&" if html_entities else "|&amp;"))
    if text.len_bytes().sum() != text.len_chars().sum():
        odd = odd | text.contains(MOJIBAKE) | (text.normalize("NFC") != column)
    return odd.fill_null(False)


def _within_json(text: str, html_entities: bool, counts: Counter[str]) -> str:
    try:
        values = json.loads(text, strict=False)  # polars leaves control characters as they are
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, list):
        return _mended(text, html_entities, counts)
    mended = [_mended(value, html_entities, counts) if isinstance(value, str) else value for value in values]
    return json.dumps(mended, ensure_ascii=False)


def _mended(text: str, html_entities: bool, counts: Counter[str]) -> str:
    repairs: dict[str, Callable[[str], str]] = {
        "control": lambda value: re.sub(CONTROL, "", value),
        "html": html.unescape if html_entities else _unescaped_twice,
        "mojibake": _decoded_again,
        "nfc": lambda value: unicodedata.normalize("NFC", value),
    }
    for kind, repair in repairs.items():
        after = repair(text)
        counts[kind] += after != text
        text = after
    return text


def _unescaped_twice(text: str) -> str:
    return DOUBLY_ESCAPED.sub(lambda found: html.unescape(f"&{found.group(1)};"), text)


def _decoded_again(text: str) -> str:
    for _ in range(TIMES):
        found = re.findall(MOJIBAKE, text)
        if all(map(NO_PROOF.fullmatch, found)):
            break
        try:
            text = text.translate(_BYTES).encode("latin-1").decode("utf-8")
        except UnicodeError:
            break
    return text
