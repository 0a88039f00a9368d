import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline import paths
from pipeline.errors import DataError
from pipeline.records import RECORD_SCHEMA, SPLITS
from pipeline.split import output, parts, signatures
from pipeline.stage import Progress, Report
from tests.conftest import Checkout
from tests.pipeline.split.made import deidentified, frame, outputs, run_stage, text, write_shard


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


@pytest.mark.parametrize("content", [b"no parquet", b"PAR1" + b"\xff" * 100 + b"\x40\0\0\0PAR1"])
def test_a_broken_shard_is_said_and_leaves_nothing(checkout: Checkout, content: bytes) -> None:
    paths.DEIDENTIFIED.mkdir(parents=True)
    (paths.DEIDENTIFIED / "0123456789abcdef.parquet").write_bytes(content)
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


def test_conflicts_are_counted_without_text(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    base = text(*range(40))
    said = [(base, "Quetzal"), (base, "Toucan"), (f"{base} Zanzibar", "Quetzal"), ("fine", "Quetzal")]
    rows = [{"task": "triage", "input": words, "target": target, "split": "train"} for words, target in said]
    deidentified(frame(rows))
    report = run_stage()
    assert report["conflicts"] == {"triage": {"same": 2, "near": 1}}
    assert report["rows"]["out"] == 4
    printed = capsys.readouterr()
    assert "split: warning: 2 records have the same input as another of their task" in printed.err
    assert "1 more a near-duplicate's" in printed.err
    everything = json.dumps(report) + printed.out + printed.err
    assert not any(word in everything for word in ("Quetzal", "Toucan", "Zanzibar", "word3"))


# --- growth and deletion ---


def patients(first: int, count: int, task: str = "notes") -> pl.DataFrame:
    return frame(
        [
            {
                "sample_id": f"s{number}",
                "group_id": f"g{number // 2}",
                "task": task,
                "input": text(*range(30 * (number % 37), 30 * (number % 37) + 30), number),
            }
            for number in range(first, first + count)
        ]
    )


def worked() -> tuple[int, int]:
    """Shards read and parts signed by a run of the stage."""
    progress = Progress("split")
    run_stage(progress)
    return progress.state["work"]["shards_read"], progress.state["work"]["parts_signed"]


def alone(monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, bytes], Report]:
    """Outputs and report of a run that has no cache."""
    with monkeypatch.context() as patch:
        patch.setenv("MOELORA_CACHE", "elsewhere")
        report = run_stage()
    return outputs(), report


def test_only_new_shards_are_read_and_signed_and_bytes_are_those_of_a_full_run(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        write_shard(f"{number:016x}", patients(50 * number, 50, task=f"t{number}"))
    assert worked() == (4, 1)
    assert worked() == (0, 0)
    write_shard("aa", patients(200, 50, task="t4"))
    assert worked() == (1, 1)
    report = run_stage()
    assert (outputs(), report) == alone(monkeypatch)


def test_a_shard_that_changes_wording_has_its_tasks_signed_again_and_no_other(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = text(*range(1000, 1020))
    for number, task in enumerate(["notes", "letters"]):
        rows = patients(50 * number, 8, task)
        write_shard(task, rows.with_columns(input=pl.format("{} {}", pl.lit(template), "input")))
        assert worked() == (1, 1)
    rows = patients(200, 8, "notes")
    write_shard("more", rows.with_columns(input=pl.format("{} {}", pl.lit(template), "input")))
    assert worked() == (1, 2)
    report = run_stage()
    assert (outputs(), report) == alone(monkeypatch)


def test_small_shards_are_kept_together_and_those_that_came_alone_now_and_then(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "MOST_SMALL", 3)
    for number in range(30):
        write_shard(f"{number:016x}", patients(20 * number, 20))
    assert worked() == (30, 1)
    for number in range(30, 32):
        write_shard(f"{number:016x}", patients(20 * number, 20))
        assert worked()[0] == 1
    assert len(entries(checkout)) == 3
    write_shard("d", patients(20 * 32, 20))
    run_stage()
    assert worked() == (33, 1)
    assert len(entries(checkout)) == 1
    report = run_stage()
    assert (outputs(), report) == alone(monkeypatch)


def entries(checkout: Checkout) -> dict[str, object]:
    """The parts that the stage says are in its cache."""
    (register,) = (checkout.root / "scratch/open/split").glob("parts-*.json")
    held: dict[str, object] = json.loads(register.read_text())
    return held


@pytest.mark.parametrize("content", ["", "[]", '{"no entry": [[], 1]}', '{"a": 1}'])
def test_a_register_that_is_lost_or_broken_costs_only_time(checkout: Checkout, content: str) -> None:
    deidentified(patients(0, 40))
    report = run_stage()
    (register,) = (checkout.root / "scratch/open/split").glob("parts-*.json")
    written = outputs()
    register.write_text(content)
    assert run_stage() == report
    assert outputs() == written


def test_clones_that_share_a_cache_read_only_what_is_new_to_each(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOELORA_CACHE", str(tmp_path / "shared"))
    for number in range(3):
        write_shard(f"{number:016x}", patients(20 * number, 20))
    assert worked() == (3, 1)
    (tmp_path / "other").mkdir()
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path / "other")
        shutil.copy(checkout.root / "params.yaml", tmp_path / "other")
        for number in range(3, 6):
            write_shard(f"{number:016x}", patients(20 * number, 20))
        assert worked() == (3, 1)
    assert worked() == (0, 0)


def test_a_shard_twice_is_refused_until_one_is_gone(checkout: Checkout) -> None:
    shard = write_shard("a", patients(0, 20))
    for name in ("none", "nothing"):
        write_shard("empty", frame([])).rename(paths.DEIDENTIFIED / f"{name}.parquet")
    report = run_stage()
    copy = shutil.copy(shard, paths.DEIDENTIFIED / "b.parquet")
    with pytest.raises(DataError, match="a shard twice"):
        run_stage()
    Path(copy).unlink()
    assert run_stage() == report


def test_no_file_stays_open(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_ROWS", 10)
    deidentified(patients(0, 400), shards=40)
    opened = Path("/proc/self/fd")
    before = len([*opened.iterdir()])
    assert len(parts.read(Progress("split"))) == 40
    assert len([*opened.iterdir()]) - before < 20


def test_a_shard_removed_or_replaced_leaves_the_bytes_of_a_full_run(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = [write_shard(f"{number:016x}", patients(40 * number, 40)) for number in range(4)]
    run_stage()
    shards[1].unlink()
    report = run_stage()
    assert report["rows"]["in"] == 120
    assert (outputs(), report) == alone(monkeypatch)
    write_shard(shards[2].stem, patients(1000, 30))
    report = run_stage()
    assert report["rows"]["in"] == 110
    assert (outputs(), report) == alone(monkeypatch)


def test_a_patient_whose_records_left_is_in_no_output_and_no_report(checkout: Checkout) -> None:
    gone = [
        {"sample_id": f"Xenon{n}", "group_id": "Argon", "input": f"Krypton said {text(*range(n, n + 20))}",
         "target": "Radon", "task": "Neon"}
        for n in range(6)
    ]  # fmt: skip
    kept = frame([{"sample_id": f"k{n}", "input": text(*range(30 * n, 30 * n + 30))} for n in range(20)])
    deidentified(pl.concat([kept, frame(gone)]), shards=3)
    report = run_stage()
    assert "Neon" in json.dumps(report)
    for shard in paths.DEIDENTIFIED.iterdir():
        pl.read_parquet(shard).filter(pl.col("group_id") != "Argon").write_parquet(shard)
    report = run_stage()
    assert report["rows"]["in"] == 20
    words = ("Argon", "Xenon", "Krypton", "Radon", "Neon")
    written = [pl.read_parquet(paths.SPLIT / f"{name}.parquet") for name in SPLITS]
    searched = json.dumps(report) + "".join(rows.write_ndjson() for rows in written)
    assert not any(word in searched for word in words)
    assert sorted(path.name for path in paths.SPLIT.iterdir()) == sorted(f"{name}.parquet" for name in SPLITS)


# --- odd data ---


def test_an_empty_shard_and_no_record_at_all_are_fine(checkout: Checkout) -> None:
    write_shard("empty", frame([]))
    report = run_stage()
    assert report["rows"] == {"in": 0, "out": 0, "held_out": 0}
    assert report["conflicts"] == report["tasks"] == {}
    write_shard("one", frame([{"input": "a single record"}]))
    report = run_stage()
    assert report["rows"]["out"] == 1
    assert sum(pl.read_parquet(paths.SPLIT / f"{name}.parquet").height for name in SPLITS) == 1


def test_texts_without_words_are_fine(checkout: Checkout) -> None:
    inputs = ["", " ", "?!", "?!", "\n", "🙂", "é", "e\u0301"]
    deidentified(frame([{"input": each} for each in inputs]), shards=1)
    assert run_stage()["rows"]["in"] == len(inputs)


def test_parts_and_chunks_change_no_byte(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    deidentified(pl.concat([patients(0, 90, "notes"), patients(90, 30, "letters")]))
    report = run_stage()
    whole = {name: pl.read_parquet(paths.SPLIT / f"{name}.parquet") for name in SPLITS}
    monkeypatch.setattr(parts, "PART_ROWS", 7)
    monkeypatch.setattr(output, "PART_ROWS", 7)
    monkeypatch.setattr(output, "CHUNK_ROWS", 11)
    monkeypatch.setattr(signatures, "CHUNK_ROWS", 5)
    assert run_stage() == report
    for name, rows in whole.items():
        assert_frame_equal(pl.read_parquet(paths.SPLIT / f"{name}.parquet"), rows)


def test_the_copies_of_a_text_stay_in_one_split(checkout: Checkout) -> None:
    rows = [{"input": text(*range(200)), "group_id": f"g{number}"} for number in range(20_000)]
    deidentified(frame(rows))
    report = run_stage()
    assert report["splits"]["test"] > 3_000
    assert report["splits"]["train"] == report["splits"]["validation"] == 0


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
