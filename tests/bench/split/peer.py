"""The peer: datasketch's MinHashLSH over word shingles, as data sets are commonly cleaned with."""

import time
from pathlib import Path

import polars as pl
from datasketch import MinHash, MinHashLSH

from pipeline.records import SPLITS
from tests.bench.children import Result

SHINGLE = 3
THRESHOLD = 0.5
"""Jaccard similarity: that of texts with a twentieth of their words edited is about 0.75."""

PERMUTATIONS = 128


def hold_out(file: str) -> Result:
    """``held_out``: sample_ids of the records in ``file`` that meet one of a stronger split.

    ``file``: Parquet with sample_id, input and split.
    """
    start = time.perf_counter()
    rows = pl.read_parquet(Path(file))
    splits = dict(rows.select("sample_id", "split").iter_rows())
    signed = {sample_id: _sign(text) for sample_id, text in rows.select("sample_id", "input").iter_rows()}
    stronger: dict[str, MinHashLSH] = {}
    for name in SPLITS[1:]:
        stronger[name] = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS)
        for sample_id, hashes in signed.items():
            if splits[sample_id] == name:
                stronger[name].insert(sample_id, hashes)
    held_out = [
        sample_id
        for sample_id, hashes in signed.items()
        if any(
            hashes.jaccard(signed[other]) >= THRESHOLD
            for name in SPLITS[SPLITS.index(splits[sample_id]) + 1 :]
            for other in stronger[name].query(hashes)
        )
    ]
    return {"held_out": held_out, "seconds": time.perf_counter() - start}


def _sign(text: str) -> MinHash:
    words = text.lower().split()
    hashes = MinHash(num_perm=PERMUTATIONS)
    hashes.update_batch(
        [" ".join(words[at : at + SHINGLE]).encode() for at in range(len(words) - SHINGLE + 1)]
    )
    return hashes
