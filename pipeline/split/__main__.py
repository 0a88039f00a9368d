"""Divide the de-identified records into train, validation and test.

    python -m pipeline.split

Reads ``data/deidentified/*.parquet``; writes ``data/split/{train,validation,test}.parquet``
(the record's columns without ``split``, sorted by task and sample_id) and
``reports/split.json``.

- A group (patient, document) is never in two splits. Where the data's owner named a split for a
  record, the whole group goes there; a group without one goes by a hash of its pseudonym, which
  no other record can change.
- A record whose near-duplicate sits in a stronger split (test > validation > train) is held out
  and counted, also when that near-duplicate is held out itself. Near-duplicates have the same
  words, or ``split.near_duplicate`` of the words of both in the same order. Wording that a task's
  records share (instructions, options, templates) is set aside before; where fewer than five words
  are left, only the same words count. They are looked for by MinHash and locality-sensitive
  hashing, which misses one in a thousand of those that only just are near-duplicates, and none to
  speak of where a twentieth differs.
- Records of a task with the same input, or a near-duplicate one, and another target are counted
  as conflicts. They stay.

What is read of shards is kept in the cache: a run reads only new ones, signs only these and those
with a task whose shared wording the new ones changed, and gives the bytes of a full run.
"""

import sys

import polars as pl

from pipeline import paths
from pipeline.errors import DataError
from pipeline.params import Params
from pipeline.split import duplicates, groups, output, parts, signatures, wording
from pipeline.split.profile import report
from pipeline.stage import Progress, Report, main


def run(params: Params, progress: Progress) -> Report:
    """Split what is in ``data/deidentified``; returns the report. See the module's docstring.

    Raises DataError where that is no table of records, lacks a group, or has a sample_id twice.
    """
    pieces = parts.read(progress)
    records = _index(pieces)
    records = groups.assign(records, params.split)
    shared = wording.of_tasks(pieces, records)
    signed = signatures.of_parts(pieces, shared, params.split.near_duplicate, progress)
    records = duplicates.find(pieces, signed, records, params.split.near_duplicate)
    output.write(pieces, records)
    made = report(records)
    _warn(made)
    return made


def _index(pieces: list[parts.Part]) -> pl.DataFrame:
    """The index of all parts, with ``row``: its number among all."""
    if not pieces:
        return pl.DataFrame(schema={"row": pl.Int64} | dict(parts.INDEX_SCHEMA))
    records = pl.concat(part.index for part in pieces).select(
        pl.int_range(pl.len(), dtype=pl.Int64).alias("row"), pl.all()
    )
    if records["group_id"].has_nulls() or records["sample_id"].is_duplicated().any():
        raise DataError(
            f"{paths.DEIDENTIFIED} has a row without group_id or a sample_id twice: "
            "run the deidentify stage again"
        )
    return records


def _warn(made: Report) -> None:
    same, near = (sum(task[kind] for task in made["conflicts"].values()) for kind in ("same", "near"))
    if same or near:
        print(
            f"split: warning: {same} records have the same input as another of their task and another "
            f"target, {near} more a near-duplicate's; by task: conflicts in {paths.report('split')}",
            file=sys.stderr,
            flush=True,
        )


if __name__ == "__main__":
    main("split", run)
