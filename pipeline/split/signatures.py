"""MinHash signatures of each row's own wording, in bands: similar texts meet in at least one.

Made by rensa, and kept in the cache for each part and the wording of its tasks.
"""

import hashlib
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
import numpy.typing as npt
import polars as pl
from rensa import RMinHash

from pipeline.cache import Cache
from pipeline.digests import code_digest
from pipeline.split import wording
from pipeline.split.parts import Hashes, Part, Words
from pipeline.split.wording import SHINGLE, Wording, is_shared, windows
from pipeline.stage import Progress

BANDS = 42
BAND_ROWS = 2
"""Texts with a Jaccard similarity of shingles of 0.4, a short one with four words of thirty
changed, meet with probability 1 - (1 - 0.4 ** 2) ** 42 = 0.9993."""

SEED = 17
CHUNK_ROWS = 20_000
"""Rows signed at once; rensa hands their signatures over as Python numbers."""

MIN_OWN_WORDS = 8
"""With fewer, only a text of the same words is a duplicate: a word decides what it says."""


def of_parts(
    parts: Sequence[Part], shared: Wording, progress: Progress
) -> list[tuple[Hashes, npt.NDArray[np.bool_]]]:
    """``sign`` of each part."""
    cache = Cache("split")
    made_by = {
        "code": code_digest([__file__, wording.__file__]),
        "rensa": version("rensa"),
        "numpy": np.__version__,
    }
    digests = {task: hashlib.sha256(shingles.tobytes()).hexdigest() for task, shingles in shared.items()}
    found, made = [], 0
    for number, part in enumerate(parts, 1):
        own = {task: digests[task] for task in set(part.index["task"])}
        key = cache.key(part=part.key, wording=own, **made_by)
        if cache.get(key) is None:
            made += 1
            bands, mask = sign(part.index["task"], part.words, shared)
            with cache.put(key) as folder:
                np.save(folder / "bands.npy", bands)
                np.save(folder / "own.npy", mask)
        entry = cache.folder / key
        found.append((np.load(entry / "bands.npy", mmap_mode="r"), np.load(entry / "own.npy", mmap_mode="r")))
        progress.update(number, len(parts), "parts signed")
    progress.count(parts_signed=made)
    return found


def sign(tasks: pl.Series, words: Words, shared: Wording) -> tuple[Hashes, npt.NDArray[np.bool_]]:
    """Bands (u64 [BANDS, rows]; 0 where a row has too few words of its own), and which of the words
    (bool) are the row's own: in no shingle of its task's wording."""
    row = words.row()
    start, shingle = windows(words)
    common = is_shared(tasks, row[start], shingle, shared)
    own = np.ones(len(row), dtype=bool)
    for offset in range(SHINGLE):
        own[start[common] + offset] = False
    enough = np.bincount(row[own], minlength=len(words.ends)) >= MIN_OWN_WORDS
    kept = ~common & enough[row[start]]
    of_row, shingle = row[start[kept]], shingle[kept]
    bands = np.zeros((BANDS, len(words.ends)), dtype=np.uint64)
    for first in range(0, len(words.ends), CHUNK_ROWS):
        signed = np.flatnonzero(enough[first : first + CHUNK_ROWS]) + first
        edges = np.append(np.searchsorted(of_row, signed), np.searchsorted(of_row, first + CHUNK_ROWS))
        edges = edges.astype(np.uint64)
        if not len(signed):
            continue
        flat = np.ascontiguousarray(shingle[int(edges[0]) : int(edges[-1])])
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            flat, edges - edges[0], BANDS * BAND_ROWS, SEED
        )
        values = np.array(matrix.to_rows(), dtype=np.uint64).reshape(len(signed), BANDS, BAND_ROWS)
        bands[:, signed] = (values[:, :, 0] << np.uint64(32) | values[:, :, 1]).T
    return bands, own
