"""What this stage needs of the records, without their text: an index of rows, and hashes of words.

A part is at most PART_ROWS rows of one shard, so that memory does not grow with a file. What is
made of it depends on the shard's content alone and is kept in the cache: only new parts are read.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline import paths, records
from pipeline.cache import Cache
from pipeline.digests import code_digest, file_digest
from pipeline.errors import DataError
from pipeline.records import CHOICE_TASK_TYPES, RECORD_SCHEMA
from pipeline.stage import Progress

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

PART_ROWS = 50_000

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


@dataclass(frozen=True)
class Part:
    """Rows ``first`` to ``first + len(index)`` of all; ``start`` is the place in its shard."""

    key: str
    shard: Path
    start: int
    first: int
    index: pl.DataFrame
    words: Words


def read(progress: Progress) -> list[Part]:
    """The parts of ``data/deidentified``, by shard. Raises DataError for what is no table of records."""
    shards = sorted(paths.DEIDENTIFIED.glob("*.parquet"))
    if not shards:
        raise DataError(f"{paths.DEIDENTIFIED} holds no records: run the deidentify stage first")
    cache = Cache("split")
    code = code_digest([__file__, records.__file__])
    parts: list[Part] = []
    first = made = 0
    for number, shard in enumerate(shards, 1):
        digest = file_digest(shard)
        for start in range(0, _height(shard), PART_ROWS):
            key = cache.key(shard=digest, start=start, rows=PART_ROWS, code=code, polars=pl.__version__)
            if cache.get(key) is None:
                made += 1
                _make(shard, start, cache, key)
            entry = cache.folder / key
            index = pl.read_parquet(entry / "index.parquet")
            # Mapped, for all words of all parts may not fit memory.
            hashes = np.load(entry / "words.npy", mmap_mode="r")
            words = Words(hashes, np.load(entry / "ends.npy"))
            parts.append(Part(key, shard, start, first, index, words))
            first += index.height
        progress.update(number, len(shards), "shards read")
    progress.count(parts_read=made, parts_reused=len(parts) - made)
    return parts


def _height(shard: Path) -> int:
    try:
        return int(pl.scan_parquet(shard).select(pl.len()).collect().item())
    except pl.exceptions.PolarsError as error:
        raise _no_table(error) from None


def rows(shard: Path, start: int, columns: Sequence[str]) -> pl.DataFrame:
    """``columns`` of a part's records, in their order. Raises DataError."""
    try:
        frame = pl.scan_parquet(shard).select(columns).slice(start, PART_ROWS).collect()
        # The cast also gives a column without any value its type, on which bytes depend.
        return frame.cast({name: RECORD_SCHEMA[name] for name in columns})  # type: ignore[arg-type]
    except pl.exceptions.PolarsError as error:
        raise _no_table(error) from None


def _no_table(error: Exception) -> DataError:
    return DataError(
        f"{paths.DEIDENTIFIED} has a shard that is no table of records ({type(error).__name__}): "
        "run the deidentify stage again"
    )


def _make(shard: Path, start: int, cache: Cache, key: str) -> None:
    index, words = describe(rows(shard, start, list(RECORD_SCHEMA)))
    with cache.put(key) as folder:
        index.write_parquet(folder / "index.parquet")
        np.save(folder / "words.npy", words.hashes)
        np.save(folder / "ends.npy", words.ends)


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
