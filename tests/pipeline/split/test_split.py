import gzip
import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline import paths
from pipeline.errors import DataError
from pipeline.records import RECORD_SCHEMA, SPLITS
from tests.conftest import Checkout
from tests.pipeline.split.made import deidentified, frame, outputs, run_stage, text


def test_the_stage_writes_whole_groups_and_counts_add_up(checkout: Checkout) -> None:
    rows = frame(
        [
            {
                "group_id": f"g{number // 3}",
                "task": f"t{number % 2}",
                "input": text(*range(30 * number, 30 * number + 30)),
            }
            for number in range(90)
        ]
        + [{"group_id": f"copy{number}", "task": "t0", "input": text(*range(30))} for number in range(20)]
    )
    deidentified(rows)
    report = run_stage()
    written = {name: pl.read_parquet(paths.SPLIT / f"{name}.parquet") for name in SPLITS}
    assert report["rows"]["in"] == 110 == report["rows"]["out"] + report["rows"]["held_out"]
    assert report["rows"]["held_out"] > 0
    assert report["splits"] == {name: rows.height for name, rows in written.items()}
    assert sum(sum(places.values()) for places in report["tasks"].values()) == 110
    seen = [set(rows["group_id"]) for rows in written.values()]
    assert not seen[0] & seen[1] | seen[0] & seen[2] | seen[1] & seen[2]
    for out in written.values():
        assert out.columns == [column for column in RECORD_SCHEMA if column != "split"]
        assert_frame_equal(out, out.sort("task", "sample_id"))


def test_the_same_records_in_other_shards_give_the_same_bytes(checkout: Checkout) -> None:
    rows = frame([{"input": text(*range(9 * number, 9 * number + 12))} for number in range(40)])
    deidentified(rows, shards=2)
    report = run_stage()
    first = outputs()
    for shard in paths.DEIDENTIFIED.iterdir():
        shard.unlink()
    deidentified(rows.reverse(), shards=5)
    assert run_stage() == report
    assert outputs() == first


def test_tasks_without_a_row_in_a_split_are_named(checkout: Checkout) -> None:
    deidentified(frame([{"task": "lonely", "input": "one record", "split": "test"}]), shards=1)
    report = run_stage()
    assert report["lacking"] == {"train": ["lonely"], "validation": ["lonely"], "test": []}
    assert pl.read_parquet(paths.TRAIN_SPLIT).is_empty()


def test_no_text_of_a_record_is_in_the_report(checkout: Checkout) -> None:
    deidentified(frame([{"input": "Zanzibar", "target": "Quetzal", "source": "Xylophone"}]), shards=1)
    written = json.dumps(run_stage())
    assert not any(word in written for word in ("Zanzibar", "Quetzal", "Xylophone", "s0", "g0"))


def test_nothing_to_split_is_said(checkout: Checkout) -> None:
    with pytest.raises(DataError, match="run the deidentify stage first"):
        run_stage()


def test_a_broken_shard_is_said_and_leaves_nothing(checkout: Checkout) -> None:
    paths.DEIDENTIFIED.mkdir(parents=True)
    (paths.DEIDENTIFIED / "0123456789abcdef.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="run the deidentify stage again"):
        run_stage()
    assert not paths.SPLIT.exists()


def test_a_sample_id_twice_is_refused(checkout: Checkout) -> None:
    deidentified(frame([{"sample_id": "same", "input": "a"}, {"sample_id": "same", "input": "b"}]))
    with pytest.raises(DataError, match="sample_id twice"):
        run_stage()


def test_it_runs_as_a_program(checkout: Checkout) -> None:
    deidentified(frame([{"input": text(*range(number, number + 9))} for number in range(20)]))
    subprocess.run([sys.executable, "-m", "pipeline.split"], check=True, capture_output=True)
    assert json.loads(paths.report("split").read_text())["rows"]["in"] == 20


@pytest.mark.slow
def test_real_data_keeps_its_splits_and_loses_its_near_duplicates(
    checkout: Checkout, shared_data: Path
) -> None:
    rows = []
    for name in SPLITS:
        with gzip.open(shared_data / f"en.{name}.jsonl.gz", "rt", encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                rows.append({"group_id": row["doc_id"], **{k: row[k] for k in RECORD_SCHEMA if k in row}})
    deidentified(pl.DataFrame(rows, schema=RECORD_SCHEMA), shards=3)
    report = run_stage()
    assert report["rows"] == {
        "in": 38986,
        "out": 38986 - report["rows"]["held_out"],
        "held_out": report["rows"]["held_out"],
    }
    assert 0 < report["rows"]["held_out"] < 400
    assert report["tasks"]["bc5cdr-ner"]["test"] == 2263
