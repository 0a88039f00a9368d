"""MinHash signatures of each row's own words, in bands: near-duplicates meet in at least one.

What is signed is the words, the second and third time each counted as another one: texts that share
a given part of their words in order share as much of these, wherever they differ. Signatures are
made by rensa, and kept in the cache for each part and the wording of its tasks.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from rensa import RMinHash

from pipeline.cache import Cache
from pipeline.digests import code_digest
from pipeline.split import arrays, wording
from pipeline.split.parts import Hashes, Part, Words
from pipeline.split.wording import Wording, mix
from pipeline.stage import Progress

BANDS = 84
MISSED = 0.001
"""Of texts that are only just near-duplicates, the share that may meet in no band."""

MOST_ROWS = 8
"""Hashes of a band at most, whatever the threshold: signing takes as much longer."""

SEED = 17
CHUNK_ROWS = 20_000
"""Rows signed at once; rensa hands their signatures over as Python numbers."""

MIN_OWN_WORDS = 5
"""With fewer, only a text of the same words is a duplicate: a word decides what it says."""

COUNTERS = 64

Bands = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Signed:
    """Of a part's rows: ``bands`` (u32 [BANDS][rows]; 0 where a row has fewer than MIN_OWN_WORDS words
    of its own), ``own``, these words, and ``counts`` (u8 [COUNTERS][rows]): how many there are of each
    of COUNTERS kinds, 255 at most."""

    bands: Sequence[Bands]
    own: Words
    counts: Sequence[npt.NDArray[np.uint8]]


def band_rows(threshold: float) -> int:
    """Hashes of a band, as many as MISSED allows, where ``threshold`` is the share of words that
    near-duplicates have in common: their Jaccard similarity is threshold / (2 - threshold) at least.

    Texts of similarity ``s`` meet with probability 1 - (1 - s ** rows) ** BANDS: Leskovec, Rajaraman,
    Ullman, Mining of Massive Datasets, 3.4.
    """
    similarity = threshold / (2 - threshold)
    if similarity >= 1:
        return MOST_ROWS
    most = math.log(1 - MISSED ** (1 / BANDS)) / math.log(similarity)
    return max(1, min(MOST_ROWS, math.floor(most)))


def of_parts(parts: Sequence[Part], shared: Wording, threshold: float, progress: Progress) -> list[Signed]:
    """``sign`` of each part, by ``band_rows`` of ``threshold``."""
    cache = Cache("split")
    made_by = {
        "code": code_digest([__file__, arrays.__file__, wording.__file__]),
        "rensa": version("rensa"),
        "numpy": np.__version__,
        "band_rows": band_rows(threshold),
    }
    digests = {task: hashlib.sha256(shingles.tobytes()).hexdigest() for task, shingles in shared.items()}
    found, made = [], 0
    for number, part in enumerate(parts, 1):
        own = {task: digests[task] for task in set(part.index["task"])}
        key = cache.key(part=part.key, wording=own, **made_by)
        if cache.get(key) is None:
            made += 1
            signed = sign(part.index["task"], part.words, shared, threshold)
            with cache.put(key) as folder:
                _write(signed, folder)
        found.append(_read(cache.folder / key))
        progress.update(number, len(parts), "parts signed")
    progress.count(parts_signed=made)
    return found


def _write(signed: Signed, folder: Path) -> None:
    arrays.write(folder / "bands.arrow", {str(number): band for number, band in enumerate(signed.bands)})
    arrays.write(folder / "counts.arrow", {str(number): each for number, each in enumerate(signed.counts)})
    arrays.write(folder / "own.arrow", {"hashes": signed.own.hashes})
    arrays.write(folder / "ends.arrow", {"ends": signed.own.ends})


def _read(folder: Path) -> Signed:
    own = Words(arrays.read(folder / "own.arrow")["hashes"], arrays.read(folder / "ends.arrow")["ends"])
    bands, counts = (list(arrays.read(folder / f"{name}.arrow").values()) for name in ("bands", "counts"))
    return Signed(bands, own, counts)


def sign(tasks: pl.Series, words: Words, shared: Wording, threshold: float) -> Signed:
    """Signatures of rows by their own words, of ``band_rows(threshold)`` hashes a band."""
    own = words.where(wording.own(tasks, words, shared))
    lengths = np.diff(own.ends, prepend=0)
    bands = np.zeros((BANDS, len(lengths)), dtype=np.uint32)
    counts = np.zeros((COUNTERS, len(lengths)), dtype=np.uint8)
    for first in range(0, len(lengths), CHUNK_ROWS):
        last = min(first + CHUNK_ROWS, len(lengths))
        start = own.span(first).start
        chunk = Words(own.hashes[start : own.ends[last - 1]], own.ends[first:last] - start)
        counts[:, first:last] = _counts(chunk)
        signed = np.flatnonzero(lengths[first:last] >= MIN_OWN_WORDS)
        if len(signed):
            bands[:, first + signed] = _bands(chunk, signed, band_rows(threshold))
    return Signed(list(bands), own, list(counts))


def _counts(words: Words) -> npt.NDArray[np.uint8]:
    kind = words.row() * COUNTERS + (words.hashes % np.uint64(COUNTERS)).astype(np.int64)
    counts = np.bincount(kind, minlength=COUNTERS * len(words.ends)).reshape(-1, COUNTERS)
    return counts.clip(max=255).astype(np.uint8).T


def _bands(words: Words, signed: npt.NDArray[np.int64], rows: int) -> Bands:
    counted = _counted(words)
    ends = np.cumsum(np.diff(words.ends, prepend=0)[signed])
    mask = np.isin(words.row(), signed)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        np.ascontiguousarray(counted[mask]), np.append(0, ends).astype(np.uint64), BANDS * rows, SEED
    )
    values = np.array(matrix.to_rows(), dtype=np.uint64).reshape(len(signed), BANDS, rows)
    found = np.zeros((len(signed), BANDS), dtype=np.uint64)
    for number in range(rows):
        found = mix(found ^ values[:, :, number])
    return (found >> np.uint64(32)).astype(np.uint32).clip(min=1).T


def _counted(words: Words) -> Hashes:
    """Each row's words, in any order, where the n-th of one is another than the first."""
    row = words.row()
    order = np.lexsort((words.hashes, row))
    row, hashes = row[order], words.hashes[order]
    begins = np.ones(len(row), dtype=bool)
    begins[1:] = (row[1:] != row[:-1]) | (hashes[1:] != hashes[:-1])
    firsts = np.flatnonzero(begins)
    times = np.arange(len(row)) - np.repeat(firsts, np.diff(np.append(firsts, len(row))))
    return mix(hashes ^ mix(times.astype(np.uint64)))
