"""What this stage needs of the records, without their text: an index of rows, and hashes of words.

A part is at most PART_ROWS rows, so that memory does not grow with a file: a slice of a large shard,
or many small ones together, so that time does not grow with their number. What is made of shards
depends on their content alone and is kept in the cache: only new ones are read.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet

from pipeline import paths, records
from pipeline.cache import Cache
from pipeline.digests import code_digest, file_digest
from pipeline.errors import DataError
from pipeline.files import write_atomically
from pipeline.records import CHOICE_TASK_TYPES, RECORD_SCHEMA
from pipeline.split import arrays
from pipeline.stage import Progress

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

PART_ROWS = 20_000

MOST_SMALL = 64
"""Entries of the cache with less than half a part; with more, their shards are put together anew."""

# One word: a run of letters and digits, or a single character of scripts without spaces.
WORD = r"[\p{Han}\p{Hiragana}\p{Katakana}]|[\w--[\p{Han}\p{Hiragana}\p{Katakana}]]+"

_SAME = {"sample_id", "task", "task_type", "group_id", "language", "split"}
INDEX_SCHEMA = pl.Schema(
    {name: kind for name, kind in RECORD_SCHEMA.items() if name in _SAME}
    | {
        "text": pl.UInt64,
        "answer": pl.UInt64,
        "label": pl.String,
        "choices": pl.UInt64,
        "input_length": pl.Int64,
        "target_length": pl.Int64,
    }
)
"""``text``, ``answer``: hashes of input and target, equal where only case, punctuation or spaces
differ (of a target: case and spaces). ``label``: the target of a type with choices, else null.
``choices``: a hash of the answer_choices, whatever their order. Lengths are characters."""


@dataclass(frozen=True)
class Words:
    """The words of consecutive rows: row ``i`` has ``hashes[ends[i - 1]:ends[i]]``."""

    hashes: Hashes
    ends: Ints

    def row(self) -> Ints:
        """The row of each word."""
        return np.repeat(np.arange(len(self.ends), dtype=np.int64), np.diff(self.ends, prepend=0))

    def span(self, row: int) -> slice:
        """Where the words of a row are."""
        return slice(int(self.ends[row - 1]) if row else 0, int(self.ends[row]))

    def where(self, mask: npt.NDArray[np.bool_]) -> "Words":
        """The words that ``mask`` (one a word) says, of the same rows."""
        lengths = np.bincount(self.row()[mask], minlength=len(self.ends))
        return Words(self.hashes[mask], np.cumsum(lengths, dtype=np.int64))


@dataclass(frozen=True)
class Part:
    """Rows ``first`` to ``first + len(index)`` of all, which are those from ``start`` on in ``shards``."""

    key: str
    shards: Sequence[Path]
    start: int
    first: int
    index: pl.DataFrame
    words: Words


class _Entry(NamedTuple):
    """What the cache holds of some shards: their digests, and the rows of all of them."""

    shards: list[str]
    rows: int


def read(progress: Progress) -> list[Part]:
    """The parts of ``data/deidentified``. Raises DataError for what is no table of records."""
    shards = _by_digest(sorted(paths.DEIDENTIFIED.glob("*.parquet")))
    cache = Cache("split")
    code = code_digest([__file__, arrays.__file__, records.__file__])
    made_by = {"code": code, "polars": pl.__version__, "rows": PART_ROWS}
    # Clones that share a cache have shards each.
    place = str(paths.DEIDENTIFIED.absolute())
    register = cache.beside(f"parts-{cache.key(place=place, **made_by)}.json")
    known = _known(register, cache, set(shards))
    held = {digest for entry in known.values() for digest in entry.shards}
    new = {digest: shard for digest, shard in shards.items() if digest not in held}
    done = made = 0
    for group in _together(new):
        entry = _Entry([digest for digest, _ in group], sum(rows for _, rows in group))
        key = cache.key(shards=entry.shards, **made_by)
        if cache.get(key) is None:
            with cache.put(key) as folder:
                _make([shards[digest] for digest in entry.shards], entry.rows, folder)
            made += len(group)
        known[key] = entry
        done += len(group)
        progress.update(done, len(new), "new shards read")
    write_atomically(register, json.dumps(known, sort_keys=True))
    progress.count(shards_read=made, shards_reused=len(shards) - made)
    return _parts(known, shards, cache)


def _by_digest(files: Sequence[Path]) -> dict[str, Path]:
    if not files:
        raise DataError(f"{paths.DEIDENTIFIED} holds no records: run the deidentify stage first")
    shards: dict[str, Path] = {}
    for shard in files:
        digest = file_digest(shard)
        if digest in shards and _height(shard):
            raise DataError(f"{paths.DEIDENTIFIED} has a shard twice: run the deidentify stage again")
        shards[digest] = shard
    return shards


def _known(register: Path, cache: Cache, digests: set[str]) -> dict[str, _Entry]:
    """The entries whose shards are all still there."""
    try:
        held = {key: _Entry(*entry) for key, entry in json.loads(register.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # none yet, or not ours: it only saves time
    held = {key: entry for key, entry in held.items() if cache.get(key) and digests.issuperset(entry.shards)}
    small = {key for key, entry in held.items() if entry.rows < PART_ROWS / 2}
    return {key: entry for key, entry in held.items() if key not in small or len(small) <= MOST_SMALL}


def _together(shards: dict[str, Path]) -> Iterator[list[tuple[str, int]]]:
    """Digests of shards, each with its rows, that make about a part together; a large one is alone."""
    group: list[tuple[str, int]] = []
    total = 0
    for digest, shard in shards.items():
        rows = _height(shard)
        if group and total + rows > PART_ROWS:
            yield group
            group, total = [], 0
        group.append((digest, rows))
        total += rows
    if group:
        yield group


def _height(shard: Path) -> int:
    try:
        return int(pyarrow.parquet.read_metadata(shard).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise _no_table(error) from None


def _make(shards: Sequence[Path], height: int, folder: Path) -> None:
    for number, start in enumerate(range(0, height, PART_ROWS)):
        index, words = describe(rows(shards, start, list(RECORD_SCHEMA)))
        below = folder / str(number)
        below.mkdir()
        index.write_parquet(below / "index.parquet")
        arrays.write(below / "words.arrow", {"hashes": words.hashes})
        arrays.write(below / "ends.arrow", {"ends": words.ends})


def _parts(known: dict[str, _Entry], shards: dict[str, Path], cache: Cache) -> list[Part]:
    parts: list[Part] = []
    first = 0
    for key, entry in sorted(known.items()):
        for number, start in zip(count(), range(0, entry.rows, PART_ROWS), strict=False):
            folder = cache.folder / key / str(number)
            index = pl.read_parquet(folder / "index.parquet")
            words = Words(
                arrays.read(folder / "words.arrow")["hashes"], arrays.read(folder / "ends.arrow")["ends"]
            )
            of_part = [shards[digest] for digest in entry.shards]
            parts.append(Part(f"{key}-{number}", of_part, start, first, index, words))
            first += index.height
    return parts


def rows(shards: Sequence[Path], start: int, columns: Sequence[str]) -> pl.DataFrame:
    """``columns`` of a part's records, in their order. Raises DataError."""
    try:
        # Of a column without any value the file knows no type, and bytes depend on it.
        frames = pl.scan_parquet([*shards], schema=RECORD_SCHEMA, extra_columns="ignore")
        return frames.select(columns).slice(start, PART_ROWS).collect()
    except pl.exceptions.PolarsError as error:
        raise _no_table(error) from None


def _no_table(error: Exception) -> DataError:
    return DataError(
        f"{paths.DEIDENTIFIED} has a shard that is no table of records ({type(error).__name__}): "
        "run the deidentify stage again"
    )


def describe(frame: pl.DataFrame) -> tuple[pl.DataFrame, Words]:
    """INDEX_SCHEMA of the records of a frame (RECORD_SCHEMA), and the words of their inputs."""
    words = of_texts(frame["input"])
    choice = pl.col("task_type").is_in(CHOICE_TASK_TYPES)
    plain = pl.col("target").str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()
    index = frame.select(
        *(name for name in INDEX_SCHEMA if name in _SAME),
        text=pl.Series(_identities(words, frame["input"]), dtype=pl.UInt64),
        answer=pl.Series(_hashes(frame.select(plain)["target"]), dtype=pl.UInt64),
        label=pl.when(choice).then("target"),
        choices=pl.Series(
            [
                None if each is None else _hash("\0".join(sorted(each)).encode())
                for each in frame["answer_choices"]
            ],
            dtype=pl.UInt64,
        ),
        input_length=pl.col("input").str.len_chars().cast(pl.Int64),
        target_length=pl.col("target").str.len_chars().cast(pl.Int64),
    )
    return index.match_to_schema(INDEX_SCHEMA), words


def of_texts(texts: pl.Series) -> Words:
    """The hashed words of each text, lower-cased."""
    found = texts.str.to_lowercase().str.extract_all(WORD)
    words = found.explode(empty_as_null=False)
    vocabulary = words.unique().sort()
    codes = words.cast(pl.Enum(vocabulary)).to_physical().to_numpy()
    hashes: Hashes = np.asarray(_hashes(vocabulary), dtype=np.uint64)
    return Words(hashes[codes], found.list.len().cum_sum().cast(pl.Int64).to_numpy())


def _identities(words: Words, texts: pl.Series) -> Iterator[int]:
    for row, text in enumerate(texts):
        of_row = words.hashes[words.span(row)]
        # Texts without a word are told apart by what else they have.
        yield _hash(of_row.tobytes() if len(of_row) else text.strip().encode())


def _hashes(texts: pl.Series) -> list[int]:
    return [_hash(text.encode()) for text in texts]


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest())
