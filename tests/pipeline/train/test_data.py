"""Tokens, packing, and the choice of validation records."""

import numpy as np
import polars as pl
import pytest

from pipeline import paths
from pipeline.params import Params
from pipeline.stage import Progress
from pipeline.train import data
from pipeline.train.data import Sample
from tests.pipeline.train.conftest import Project, records


def sample(task: str, length: int, answer: int) -> Sample:
    return Sample(task, np.arange(100, 100 + length, dtype=np.int32), length - answer, False)


def test_a_packed_row_predicts_every_answer_token_and_nothing_else() -> None:
    row = data.batch([sample("a", 5, 2), sample("b", 4, 1)], "cpu")
    assert row.ids.tolist() == [[100, 101, 102, 103, 100, 101, 102]]
    assert row.positions.tolist() == [[0, 1, 2, 3, 0, 1, 2]]
    assert row.predicting.tolist() == [2, 3, 6]
    assert row.labels.tolist() == [103, 104, 103]
    assert (row.tasks, row.lengths, row.answers) == (("a", "b"), (4, 3), (2, 1))


def test_packing_keeps_every_sample_and_the_cap() -> None:
    samples = [sample(f"t{i}", 3 + i * 7 % 40, 1) for i in range(30)]
    rows = data.pack(samples, 60, "cpu")
    assert sorted(task for row in rows for task in row.tasks) == sorted(s.task for s in samples)
    assert all(row.ids.shape[1] <= 60 for row in rows)
    # First fit decreasing: no two rows could have been one.
    sizes = sorted(row.ids.shape[1] for row in rows)
    assert len(sizes) < 2 or sizes[0] + sizes[1] > 60


def test_a_sample_longer_than_the_cap_has_a_row_of_its_own() -> None:
    rows = data.pack([sample("long", 90, 1), sample("short", 5, 1)], 60, "cpu")
    assert [row.tasks for row in rows] == [("long",), ("short",)]


def test_validation_is_even_over_tasks_and_knows_no_other_task(project: Project) -> None:
    many = pl.concat([records(60, "v"), records(2, "w").with_columns(task=pl.lit("unheard"))])
    many.filter((pl.col("task") != "rqe") | (pl.col("sample_id") < "v004")).write_parquet(
        paths.VALIDATION_SPLIT
    )
    chosen = data.choose_validation(["mts-section", "rqe", "summary"], 20)
    counts = dict(chosen["task"].value_counts().iter_rows())
    assert counts == {"mts-section": 9, "rqe": 2, "summary": 9}
    again = data.choose_validation(["summary", "rqe", "mts-section"], 20)
    assert again.equals(chosen)


def test_tokens_come_back_from_disk_as_they_were_made(project: Project) -> None:
    from pipeline import base, prompts

    params = Params.load()
    _, tokenizer = base.load(params.compute)
    table = data.read_training_records(data.read_order())
    progress = Progress("train")
    data.tokenise(table, tokenizer, params.train, progress, base="x")
    assert progress.state["work"] == {"records_tokenised": 31}
    tokens = data.tokenise(table, tokenizer, params.train, progress, base="x")
    assert progress.state["work"] == {"records_tokenised": 0}
    for row in table.iter_rows(named=True):
        prompt = prompts.encode(tokenizer, row["input"], row["target"], params.train.max_tokens)
        found = tokens[row["sample_id"]]
        assert found.ids.tolist() == prompt.ids
        assert (found.task, found.answer_start, found.cut) == (row["task"], prompt.answer_start, prompt.cut)


def test_only_records_that_are_new_or_changed_are_tokenised(project: Project) -> None:
    from pipeline import base

    params = Params.load()
    _, tokenizer = base.load(params.compute)
    table = data.read_training_records(data.read_order())
    progress = Progress("train")
    before = data.tokenise(table.head(20), tokenizer, params.train, progress, base="x")
    changed = table.with_columns(
        target=pl.when(pl.int_range(pl.len()) == 3).then(pl.lit("another answer")).otherwise("target")
    )
    tokens = data.tokenise(changed.tail(-1), tokenizer, params.train, progress, base="x")
    assert progress.state["work"] == {"records_tokenised": 12}
    kept, gone, new = (table["sample_id"][at] for at in (5, 0, 3))
    assert tokens[kept].ids.tolist() == before[kept].ids.tolist()
    assert tokens[new].ids.tolist() != before[new].ids.tolist()
    with pytest.raises(KeyError):
        tokens[gone]
    data.tokenise(table, tokenizer, params.train, progress, base="another")
    assert progress.state["work"] == {"records_tokenised": 31}
