"""Notes: a plain text file is one record, its text the field ``input``.

What else a record needs comes from ``defaults`` of the file's entry in ``ingest.sources``: a folder
for each answer, say, with ``{match: "cardiology/*.txt", defaults: {target: cardiology, …}}``.
"""

from collections.abc import Iterator

from pipeline.ingest.formats.block import RECORD, SHOWN_CHARACTERS, Ask, Collected, Rows, text_fault
from pipeline.ingest.formats.content import Content


def read(content: Content, ask: Ask) -> Iterator[Rows]:
    """The one row of a note, at line 1; line ends become newlines."""
    data = b""
    for piece in content.utf8():
        data += piece
        if len(data) > ask.limits.row_bytes:
            break
    text = data.decode("utf-8", "surrogateescape").replace("\r\n", "\n").replace("\r", "\n")
    if len(data) > ask.limits.row_bytes:
        fault: tuple[str, str] | None = ("row_too_large", RECORD)
    elif not content.whole:
        fault = ("unreadable_file", RECORD)
    else:
        reason = text_fault(text)
        fault = (reason, RECORD if reason == "encoding" else "input") if reason else None
    rows = Collected(ask)
    rows.add(1, {} if fault else {"input": text}, text[:SHOWN_CHARACTERS] if fault else text, fault)
    yield rows.block()
