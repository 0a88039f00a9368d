"""Tokens and batches: records tokenised once into a memory-mapped Arrow file, samples packed
without padding into rows of at most ``train.micro_batch_tokens``."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from torch import Tensor

from pipeline import paths, prompts
from pipeline.cache import Cache
from pipeline.digests import file_digest
from pipeline.errors import DataError
from pipeline.files import write_atomically
from pipeline.params import Train
from pipeline.stage import Progress

TOKENS = "tokens.arrow"
_SCHEMA = pa.schema(
    {
        "sample_id": pa.string(),
        "content": pa.uint64(),
        "task": pa.string(),
        "ids": pa.list_(pa.int32()),
        "answer_start": pa.int32(),
        "cut": pa.bool_(),
    }
)


@dataclass(frozen=True)
class Sample:
    """One tokenised record."""

    task: str
    ids: np.ndarray[Any, np.dtype[np.int32]]
    """Prompt, answer, end of sequence."""
    answer_start: int
    cut: bool
    """Whether tokens were left out."""

    @property
    def length(self) -> int:
        """Tokens computed: the last one is predicted only, never read."""
        return len(self.ids) - 1

    @property
    def answer_tokens(self) -> int:
        """Tokens that the loss is taken over."""
        return len(self.ids) - self.answer_start


@dataclass(frozen=True)
class Batch:
    """One packed row of T tokens with K to be predicted."""

    ids: Tensor
    """[1, T] int64."""
    positions: Tensor
    """[1, T] int64, starting at 0 for each sample."""
    predicting: Tensor
    """[K] int64: where in the row the next token is one of an answer."""
    labels: Tensor
    """[K] int64: that token."""
    tasks: tuple[str, ...]
    lengths: tuple[int, ...]
    answers: tuple[int, ...]
    """Task, tokens and predicted tokens of each sample, in the row's order."""


class Tokens:
    """The samples of some records by sample_id; the token ids stay on disk until they are read."""

    def __init__(self, files: Sequence[Path], contents: pl.DataFrame) -> None:
        """contents: ``sample_id, content`` of the records. Of files that hold a record, the first counts."""
        self._tables = [
            pa.ipc.open_file(pa.memory_map(str(file))).read_all().combine_chunks() for file in files
        ]
        facts = ["sample_id", "content"]
        held = [
            pl.DataFrame(pl.from_arrow(table.select(facts))).with_columns(
                file=pl.lit(number), row=pl.int_range(table.num_rows)
            )
            for number, table in enumerate(self._tables)
        ]
        places = pl.concat(held).unique(facts, keep="first", maintain_order=True) if held else None
        found = contents.join(places, on=facts) if places is not None else contents.clear()
        self.missing = contents.join(found, on=facts, how="anti")
        """Those of ``contents`` that no file holds."""
        self._places = {sample_id: (file, row) for sample_id, _, file, row in found.iter_rows()}

    def __getitem__(self, sample_id: str) -> Sample:
        file, row = self._places[sample_id]
        table = self._tables[file]
        ids = table["ids"].chunk(0)
        start, stop = ids.offsets[row].as_py(), ids.offsets[row + 1].as_py()
        return Sample(
            table["task"][row].as_py(),
            ids.values.slice(start, stop - start).to_numpy(),
            table["answer_start"][row].as_py(),
            table["cut"][row].as_py(),
        )


def read_order() -> pl.DataFrame:
    """``sample_id, task`` of every draw, in order. Raises DataError where there is none."""
    order = pl.read_parquet(paths.ORDER).sort("position")
    if order.is_empty():
        raise DataError(f"{paths.ORDER} holds no draws: raise resample.records or add training records")
    return order.select("sample_id", "task")


def read_training_records(order: pl.DataFrame) -> pl.DataFrame:
    """``sample_id, task, input, target`` of all records and canaries that ``order`` names, once each."""
    columns = ["sample_id", "task", "input", "target"]
    records = pl.read_parquet(paths.TRAIN_SPLIT, columns=columns)
    canaries = pl.read_parquet(paths.CANARIES).rename({"canary_id": "sample_id"}).select(columns)
    named = order.select("sample_id").unique()
    found = pl.concat([records, canaries]).join(named, on="sample_id", how="semi").sort("sample_id")
    if found.height != named.height:
        raise DataError(
            f"{paths.ORDER} names {named.height} records, {found.height} of them are in {paths.TRAIN_SPLIT}: "
            "run the resample stage again"
        )
    return found


def choose_validation(tasks: Sequence[str], count: int) -> pl.DataFrame:
    """At most ``count`` validation records of known tasks, as even over tasks as their numbers
    allow; the same ones every time, since sample_id is a keyed pseudonym."""
    records = pl.read_parquet(paths.VALIDATION_SPLIT, columns=["sample_id", "task", "input", "target"])
    return (
        records.filter(pl.col("task").is_in(list(tasks)))
        .sort("task", "sample_id")
        .with_columns(rank=pl.int_range(pl.len()).over("task"))
        .sort("rank", "task")
        .head(count)
        .sort("task", "sample_id")
        .drop("rank")
    )


def tokenise(records: pl.DataFrame, tokenizer: Any, params: Train, progress: Progress, base: str) -> Tokens:
    """The tokens of ``records`` (``sample_id, task, input, target``), from the cache where the same
    record was tokenised before.

    base: the digest of the model whose tokenizer it is.
    """
    cache = Cache("tokens")
    code = [file_digest(Path(file)) for file in (__file__, prompts.__file__)]
    kind = cache.key(code=code, max_tokens=params.max_tokens, base=base, polars=pl.__version__)
    listed = cache.beside(f"{kind}.json")
    names: list[str] = json.loads(listed.read_text()) if listed.is_file() else []
    names = [name for name in names if cache.get(name)]

    def files() -> list[Path]:
        return [cache.folder / name / TOKENS for name in names]

    contents = records.select("sample_id", content=pl.struct("task", "input", "target").hash())
    tokens = Tokens(files(), contents)
    progress.count(records_tokenised=tokens.missing.height)
    if tokens.missing.is_empty():
        return tokens
    missing = records.with_columns(contents["content"]).join(
        tokens.missing, on=["sample_id", "content"], how="semi"
    )
    names.append(cache.key(kind=kind, records=missing["content"].sort().to_list()))
    with cache.put(names[-1]) as folder:
        _write(missing, tokenizer, params.max_tokens, folder / TOKENS)
    write_atomically(listed, json.dumps(names))
    return Tokens(files(), contents)


def _write(records: pl.DataFrame, tokenizer: Any, max_tokens: int, file: Path) -> None:
    rows = []
    for row in records.iter_rows(named=True):
        prompt = prompts.encode(tokenizer, row["input"], row["target"], max_tokens)
        rows.append(
            {
                "sample_id": row["sample_id"],
                "content": row["content"],
                "task": row["task"],
                "ids": prompt.ids,
                "answer_start": prompt.answer_start,
                "cut": prompt.cut,
            }
        )
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
        writer.write_table(pa.Table.from_pylist(rows, _SCHEMA))


def part(samples: Sequence[Sample], rank: int, ranks: int) -> list[Sample]:
    """What one of ``ranks`` computes of a step: longest sample first to whoever has fewest tokens."""
    parts: list[list[Sample]] = [[] for _ in range(ranks)]
    tokens = [0] * ranks
    for sample in sorted(samples, key=lambda sample: -sample.length):
        index = tokens.index(min(tokens))
        parts[index].append(sample)
        tokens[index] += sample.length
    return parts[rank]


def fit(samples: Sequence[Sample], max_tokens: int) -> list[list[Sample]]:
    """Rows of at most ``max_tokens`` tokens (a longer sample has its own), longest sample first
    into the first row with room."""
    rows: list[list[Sample]] = []
    room: list[int] = []
    for sample in sorted(samples, key=lambda sample: -sample.length):
        index = next((i for i, free in enumerate(room) if sample.length <= free), len(rows))
        if index == len(rows):
            rows.append([])
            room.append(max_tokens)
        rows[index].append(sample)
        room[index] -= sample.length
    return rows


def pack(samples: Sequence[Sample], max_tokens: int, device: str) -> list[Batch]:
    """The rows of ``fit`` as batches."""
    return [batch(row, device) for row in fit(samples, max_tokens)]


def batch(samples: Sequence[Sample], device: str) -> Batch:
    """One packed row of ``samples``."""
    lengths = [sample.length for sample in samples]
    starts = np.cumsum([0, *lengths[:-1]])
    ids = np.concatenate([sample.ids[:-1] for sample in samples])
    positions = np.concatenate([np.arange(length) for length in lengths])
    predicting = np.concatenate(
        [start + np.arange(s.answer_start - 1, s.length) for start, s in zip(starts, samples, strict=True)]
    )
    labels = np.concatenate([sample.ids[sample.answer_start :] for sample in samples])

    def tensor(values: Any) -> Tensor:
        return torch.from_numpy(values.astype(np.int64)).to(device)

    return Batch(
        tensor(ids)[None],
        tensor(positions)[None],
        tensor(predicting),
        tensor(labels),
        tuple(sample.task for sample in samples),
        tuple(lengths),
        tuple(sample.answer_tokens for sample in samples),
    )
