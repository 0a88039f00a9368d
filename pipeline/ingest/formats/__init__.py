"""A file's bytes as rows of text, whatever its format, compression and encoding.

    for rows in read(path, kind(path.name, source), wanted, lists, source=source): …

A format is a function ``read(content, ask)`` in a file of its own, which gives blocks of rows:

jsonl       a JSON object a line, or arrays and objects that are no lines
delimited   CSV
parquet
qa_xml      question-answer XML, by the paths of ``ingest.sources``
fhir        FHIR R4 resources
notes       a plain text file for each record

content      a file's bytes and text, its encoding proven; ``compression`` inflates, ``lines`` cuts
documents    JSON values one by one; ``objects`` reads lines of them
html         the text of HTML
repair       what is undone in texts
block        Rows, and what is asked of a format

To add one: write ``read`` in a new file, which takes bytes from ``content.file()``, text from
``content.utf8()`` or lines from ``lines.blocks``, collects rows in ``block.Collected`` and raises
``Unreadable(reason)`` for a file as a whole; enter it in READERS, its ending in FORMATS, its name in
``params.Source.format``, its reasons in rows.py's docstring, its endings in ``ingest.include``, and
good files of it in tests/pipeline/ingest/test_fuzz.py. ``notes`` is the shortest example.

Every row of a file, good or not, is in exactly one block. A row that cannot be read carries the
reason and costs none of its neighbours. Numbers and booleans are taken as text (1.50 as 1.5). What is
held in memory is bounded, however large a file or a row claims to be (``ingest.limits``).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from pipeline.ingest.formats import delimited, fhir, jsonl, notes, objects, parquet, qa_xml, repair
from pipeline.ingest.formats.block import (
    FIELD,
    LINE,
    REASON,
    RECORD,
    Ask,
    Encoding,
    Rows,
    Unreadable,
    faulty,
    schema,
    text_fault,
)
from pipeline.ingest.formats.compression import COMPRESSIONS
from pipeline.ingest.formats.content import Content
from pipeline.ingest.formats.lines import Lines
from pipeline.params import Limits, Source

__all__ = ["FIELD", "LINE", "REASON", "RECORD", "Kind", "Part", "Rows", "kind", "parts", "read", "text_fault"]

FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".xml": "xml",
    ".txt": "notes",
}
READERS: dict[str, Callable[[Content, Ask], Iterator[Rows | Lines] | Iterator[Rows]]] = {
    "jsonl": jsonl.read,
    "csv": delimited.read,
    "parquet": parquet.read,
    "xml": qa_xml.read,
    "fhir": fhir.read,
    "notes": notes.read,
}


class Kind(NamedTuple):
    """How a file is read: a key of READERS, and gzip, zstd or None."""

    format: str
    compression: str | None


def kind(name: str, source: Source | None = None) -> Kind | None:
    """Format and compression that a file's name, or its source, says; None for a type that is not read."""
    name = name.lower()
    compression = next((COMPRESSIONS[suffix] for suffix in COMPRESSIONS if name.endswith(suffix)), None)
    inner = Path(name).stem if compression else name
    found = (source and source.format) or FORMATS.get(Path(inner).suffix)
    return Kind(found, compression) if found else None


@dataclass(frozen=True)
class Part:
    """Lines of JSON that can be read apart from the others of their file, in any process."""

    lines: Lines
    ask: Ask
    encoding: Encoding | None

    def rows(self) -> Rows:
        return _mended(objects.of_lines(self.lines, self.ask), self.ask, self.encoding)


def read(
    file: Path | bytes,
    kind: tuple[str, str | None],
    wanted: Sequence[str],
    lists: Sequence[str],
    *,
    source: Source | None = None,
    limits: Limits | None = None,
) -> Iterator[Rows]:
    """Blocks of a file's rows, in order and at most some 32 MiB of text each; at least one, which
    may be empty.

    file: its path, or its bytes. wanted: field names to read, others are left out; ``a.b`` is ``b``
    within ``a``. lists: those of them that may hold a list. The file is read twice where it is text,
    once to prove its encoding. A file damaged beyond trust is one row at line 0; a compressed text file
    that merely ends too early keeps its whole rows and gets a faulty one after them.
    """
    for part in parts(file, kind, wanted, lists, source=source, limits=limits):
        yield part.rows() if isinstance(part, Part) else part


def parts(
    file: Path | bytes,
    kind: tuple[str, str | None],
    wanted: Sequence[str],
    lists: Sequence[str],
    *,
    source: Source | None = None,
    limits: Limits | None = None,
) -> Iterator[Part | Rows]:
    """What ``read`` gives, where a file of JSON lines is only cut and not read yet."""
    file_format, compression = kind
    ask = Ask(tuple(wanted), tuple(lists), limits or Limits(), source)
    content = Content(file, compression, ask.limits, source.encoding if source else None)
    try:
        encoding = None if file_format == "parquet" else content.survey.encoding
        block = None
        for block in READERS[file_format](content, ask):
            if isinstance(block, Lines):
                yield Part(block, ask, encoding)
            else:
                yield _mended(block, ask, encoding)
        if block is None:
            yield Rows(schema(wanted).to_frame(), lambda _: [], encoding)
    except Unreadable as error:
        yield faulty(0, str(error.args[0]), wanted)


def _mended(rows: Rows, ask: Ask, encoding: Encoding | None) -> Rows:
    frame, counts = rows.frame, Counter[str]()
    html_entities = ask.source is not None and ask.source.html_entities
    if html_entities or not rows.plain:
        frame, counts = repair.repaired(frame, ask.wanted, ask.lists, html_entities)
    return replace(rows, frame=frame, encoding=encoding, repaired=Counter(rows.repaired) + counts)
