"""One group's records in files of any stage: which files hold them, and a file without them.

A group is known by its ``group_id`` in raw data, and by the pseudonym that ``deidentify`` drew for it
in everything after. A raw file is read as ``ingest`` reads it. A row that cannot be read is taken for
the group's where it spells the group's id as a whole word: it serves nobody, and may be the patient's.

>>> finder = Finder.of("4711", params)
>>> finder.holds(path.read_bytes())
True
"""

import gzip
import io
import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl
import zstandard

from pipeline import key, paths
from pipeline.digests import file_digest
from pipeline.errors import InputError, PipelineError
from pipeline.ingest import formats
from pipeline.ingest.formats import LINE, REASON, qa_xml
from pipeline.ingest.formats.block import Unreadable
from pipeline.ingest.formats.content import Content
from pipeline.ingest.rows import field_names
from pipeline.params import Limits, Params, Source
from pipeline.records import RECORD_SCHEMA

MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
PARQUET = b"PAR1"
SHARD_DIGITS = 16
BROKEN = ["not_json", "not_csv", "wrong_columns", "encoding"]
"""A record that is broken over several lines is as many rows of these, and spells its group once."""

WITHOUT_LIMITS = Limits(file_bytes=2**62, ratio=2**31, row_bytes=2**31, depth=2**31, columns=2**31)
"""Whatever ingest would not take may hold the patient's text all the same."""


@dataclass(frozen=True)
class Rewritten:
    """A raw file without the group: its ``rows`` that went, ``data`` of what stays, None for nothing.

    ``others``: rows that went with them though they are not the group's, because nothing can be taken out
    of what is damaged. ``damaged``: a part of the file could not be read.
    """

    rows: int
    data: bytes | None
    others: int = 0
    damaged: bool = False


@dataclass(frozen=True)
class Finder:
    """Looks for one group; ``mappings``: how the files of the inbox name their fields."""

    group: str
    pseudonym: str
    mappings: Sequence[Source | None]

    @classmethod
    def of(cls, group: str, params: Params) -> "Finder":
        """The finder of a raw ``group_id``, with the key in use.

        Raises DeidKeyError where the key is missing, or is not the one the data here was made with,
        InputError where the id is empty: every text would spell it.
        """
        from pipeline.deidentify import _group
        from pipeline.deidentify.drawing import pseudonym

        if not any(letter.isalnum() for letter in group):
            raise InputError("the group's id is empty: name a group_id")
        secret = key.load(file_digest(path)[:SHARD_DIGITS] for path in _included(params))
        if paths.KEY_ID.is_file():
            key.check_key_id(secret)
        drawn = pseudonym(secret, "group_id", _group({"group_id": group}))
        return cls(group, drawn, (None, *params.ingest.sources))

    def holds(self, data: bytes) -> bool:
        """Whether a file of any stage holds a record of the group."""
        if data[:4] == PARQUET:
            return self._in_parquet(data)
        names = {name for each in self.mappings for names in field_names(each).values() for name in names}
        found = _as_text(data, names)
        return any(
            self._rows(data, kind, each)[1]
            for each in self.mappings
            if (kind := formats.kind("a.xml" if each and each.record else "a", each) or found) is not None
        )

    def without(self, data: bytes, name: str, mapping: Source | None) -> Rewritten:
        """A raw file of this name without the group's rows, in UTF-8. Raises PipelineError where some stay.

        Arrays of JSON and FHIR Bundles become lines, which hold each record, or entry, as it was; what a
        Bundle says of itself goes. Of XML an element goes too where its last record did.
        """
        kind = formats.kind(name, mapping)
        if kind is None:
            return Rewritten(0, data)
        rows, removed = self._rows(data, kind, mapping)
        lost = set((rows.frame[REASON] == "unreadable_file").arg_true())
        if not removed:
            return Rewritten(0, data, damaged=bool(lost))
        others = rows.frame.height - len(removed)
        if not others:
            return Rewritten(len(removed), None)
        content = Content(data, kind.compression, WITHOUT_LIMITS, mapping.encoding if mapping else None)
        kept = _kept(content, kind.format, rows, {*removed, *lost}, mapping)
        if kept is None:
            return Rewritten(len(removed), None, others, damaged=True)
        packed = _compressed(kept, kind.compression)
        if self._rows(packed, kind, mapping)[1]:
            raise PipelineError(
                "erase: a file still holds the group after it was rewritten: remove it by hand"
            )
        return Rewritten(len(removed), packed, len(lost.difference(removed)), damaged=bool(lost))

    def mentions(self, text: str) -> bool:
        """Whether a text spells the group's id as a whole word."""
        return re.search(rf"(?<!\w){re.escape(self.group)}(?!\w)", text) is not None

    def _rows(
        self, data: bytes, kind: formats.Kind, mapping: Source | None
    ) -> tuple[formats.Rows, list[int]]:
        """The rows of a raw file, and the indices of those that are the group's."""
        names = field_names(mapping)
        wanted = list(dict.fromkeys(name for alternatives in names.values() for name in alternatives))
        lists = names["answer_choices"]
        rows = _whole(formats.read(data, kind, wanted, lists, source=mapping, limits=WITHOUT_LIMITS))
        default = (mapping.defaults if mapping else {}).get("group_id")
        group = pl.coalesce(
            pl.when(pl.col(name).str.strip_chars() != "").then(pl.col(name)) for name in names["group_id"]
        ).fill_null(pl.lit(default, pl.String))
        marks = rows.frame.select(
            own=(group == self.group).fill_null(False),
            broken=pl.col(REASON).is_in(BROKEN).fill_null(False),
            unread=(~pl.col(REASON).is_in(BROKEN)).fill_null(False),
        )
        own = set(marks["own"].arg_true())
        for run in [
            *_runs(marks["broken"].arg_true().to_list()),
            *([at] for at in marks["unread"].arg_true()),
        ]:
            if any(self.mentions(raw) for raw in rows.raw(run)):
                own.update(run)
        return rows, sorted(own)

    def _in_parquet(self, data: bytes) -> bool:
        import pyarrow
        import pyarrow.parquet

        try:
            file = pyarrow.parquet.ParquetFile(io.BytesIO(data))
            names = set(file.schema_arrow.names)
            if {"raw", "reason"} <= names:  # quarantine
                raw = pl.Series(pl.from_arrow(file.read(columns=["raw"])["raw"]))
                return any(self.mentions(text) for text in raw.drop_nulls())
            if "group_id" in names:
                groups = pl.Series(pl.from_arrow(file.read(columns=["group_id"])["group_id"]))
                if groups.cast(pl.String).is_in([self.group, self.pseudonym]).any():
                    return True
        except (pyarrow.ArrowException, pl.exceptions.PolarsError, OSError, ValueError):
            return False
        return any(self._rows(data, formats.Kind("parquet", None), each)[1] for each in self.mappings)


@dataclass(frozen=True)
class RawFile:
    """A file of the inbox that holds the group: ``shard`` is what it may be called by."""

    path: Path
    shard: str
    rewritten: Rewritten


def raw_files(finder: Finder, params: Params) -> tuple[list[RawFile], list[str]]:
    """The files of the inbox that hold the group, and the shards of those that nothing here can clear:
    damaged ones, and those without fields that spell its id or are no text."""
    found, unreadable = [], []
    for path in _inbox():
        data = path.read_bytes()
        shard = file_digest(path)[:SHARD_DIGITS]
        below = path.relative_to(paths.INBOX)
        mapping = next((source for source in params.ingest.sources if source.covers(below)), None)
        kind = formats.kind(path.name, mapping)
        rewritten = finder.without(data, path.name, mapping)
        if rewritten.rows:
            found.append(RawFile(path, shard, rewritten))
            if rewritten.data is None:
                continue
            data = rewritten.data
        elif rewritten.damaged:
            unreadable.append(shard)
            continue
        if kind is None or kind.format in ("notes", "xml"):  # its text may name whom no field names
            text = data if kind is None else _inflated(data, kind)
            if b"\0" in text[:4096] or finder.mentions(text.decode("utf-8", "replace")):
                unreadable.append(shard)
    return found, sorted(unreadable)


def _runs(places: Sequence[int]) -> Iterator[list[int]]:
    """Places next to each other, together."""
    for _, run in groupby(enumerate(places), lambda pair: pair[1] - pair[0]):
        yield [place for _, place in run]


def derived_folders() -> list[Path]:
    """Everything in this checkout that is made of the inbox, as far as it is there."""
    folders = [paths.INGESTED, paths.QUARANTINE, paths.DEIDENTIFIED, paths.SPLIT, paths.RESAMPLED]
    folders += [paths.PREDICTIONS, paths.ADAPTER, paths.RELEASE]
    # Beside each, what a stage that was killed had begun.
    begun = [path for folder in folders for path in sorted(folder.parent.glob(f".{folder.name}.*"))]
    return [folder for folder in folders + begun if folder.exists()]


def _inbox() -> Iterator[Path]:
    return (path for path in sorted(paths.INBOX.rglob("*")) if path.is_file())


def _included(params: Params) -> Iterable[Path]:
    return (path for path in _inbox() if paths.matches(path, params.ingest.include))


def _as_text(data: bytes, names: set[str]) -> formats.Kind | None:
    """Format and compression of a raw file by its content, or None where it can be no file of records,
    whose fields have ``names``."""
    compression = next((name for magic, name in MAGIC.items() if data.startswith(magic)), None)
    try:
        content = _decompressed(data, compression)
    except (OSError, EOFError, zstandard.ZstdError):
        return formats.Kind("jsonl", compression)  # cut short: what can be read of it decides
    if b"\0" in content[:4096] and not content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return None
    first = content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        first = content[2:].replace(b"\0", b"").lstrip()[:1]
    if first not in (b"{", b"["):
        return formats.Kind("csv", compression)
    try:
        whole = json.loads(content)
    except ValueError:
        return formats.Kind("jsonl", compression)
    # A report is one document over many lines; a line of its own may be a record.
    known = names | RECORD_SCHEMA.keys()
    records = whole if isinstance(whole, list) else [whole]
    is_record = any(isinstance(each, dict) and not each.keys().isdisjoint(known) for each in records)
    return formats.Kind("jsonl", compression) if is_record else None


def _inflated(data: bytes, kind: formats.Kind) -> bytes:
    """Content as far as it can be read."""
    pieces = []
    with suppress(Unreadable):
        for piece in Content(data, kind.compression, WITHOUT_LIMITS).pieces():
            pieces.append(piece)
    return b"".join(pieces)


def _decompressed(data: bytes, compression: str | None) -> bytes:
    if compression == "gzip":
        return gzip.decompress(data)
    if compression == "zstd":
        with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True) as stream:
            content: bytes = stream.read()
        return content
    return data


def _compressed(data: bytes, compression: str | None) -> bytes:
    if compression == "gzip":
        return gzip.compress(data, mtime=0)
    return zstandard.ZstdCompressor().compress(data) if compression == "zstd" else data


def _whole(blocks: Iterator[formats.Rows]) -> formats.Rows:
    """All rows of a file as one block."""
    each = list(blocks)
    starts = list(accumulate((rows.frame.height for rows in each), initial=0))

    def raw(indices: Sequence[int]) -> list[str]:
        found = []
        for index in indices:
            at = bisect_right(starts, index) - 1
            found += each[at].raw([index - starts[at]])
        return found

    by_line = all(rows.by_line for rows in each if rows.frame.height)
    return formats.Rows(pl.concat(rows.frame for rows in each), raw, each[-1].encoding, by_line=by_line)


def _kept(
    content: Content, file_format: str, rows: formats.Rows, removed: set[int], mapping: Source | None
) -> bytes | None:
    """What stays of a file without the rows of these indices; None where nothing can be taken out of it."""
    try:
        if file_format == "parquet":
            return _kept_parquet(content.file(), removed)
        if file_format == "xml":
            return qa_xml.without(content, mapping.record, removed) if mapping and mapping.record else None
        text = b"".join(content.utf8()).decode("utf-8", "surrogateescape")
    except (OSError, ValueError, Unreadable):
        return None
    if not rows.by_line:
        stay = rows.raw([at for at in range(rows.frame.height) if at not in removed])
        # Of FHIR the answers to a questionnaire are rows of one resource. A line end is none of a text's.
        return "".join(re.sub(r"[\r\n]", " ", each) + "\n" for each, _ in groupby(stay)).encode()
    lines = io.StringIO(text, newline="").readlines()
    numbers: list[Any] = rows.frame[LINE].to_list()
    gone: set[int] = set()
    for at in removed:
        # A CSV row reaches to where the next one starts; what is between is blank.
        end = numbers[at + 1] if at + 1 < len(numbers) else len(lines) + 1
        gone.update(range(numbers[at], end))
    kept = (line for number, line in enumerate(lines, 1) if number not in gone)
    return "".join(kept).encode("utf-8", "surrogateescape")


def _kept_parquet(content: BinaryIO, removed: set[int]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    with content:
        table = pyarrow.parquet.read_table(content)
    stay = pyarrow.array([row not in removed for row in range(table.num_rows)])
    target = io.BytesIO()
    pyarrow.parquet.write_table(table.filter(stay), target)
    return target.getvalue()
