import json

import polars as pl

from pipeline import paths
from pipeline.ingest import quarantine
from tests.conftest import Checkout

NAME = "Featherstone"


def put(shard: str, *rows: tuple[int, str, str, str]) -> None:
    paths.QUARANTINE.mkdir(parents=True, exist_ok=True)
    columns = ["line", "field", "reason", "raw"]
    frame = pl.DataFrame(rows, schema=columns, orient="row").select(pl.lit(shard).alias("shard"), *columns)
    frame.write_parquet(paths.QUARANTINE / f"{shard}.parquet")


def test_rows_are_grouped_by_reason_field_and_task_without_text(checkout: Checkout) -> None:
    raw = json.dumps({"task": "Triage", "input": "", "target": NAME})
    put("bb", (7, "input", "empty", raw), (2, "input", "empty", raw), (3, "record", "not_json", f"{{{NAME}"))
    put("aa", *((line, "input", "empty", raw) for line in range(1, 31)))
    first, second = quarantine.grouped(quarantine.read())
    assert (first["reason"], first["field"], first["task"], first["rows"]) == ("empty", "input", "triage", 32)
    assert first["places"] == [f"aa:{line}" for line in range(1, 21)]
    assert second == {"reason": "not_json", "field": "record", "task": None, "rows": 1, "places": ["bb:3"]}
    assert quarantine.grouped(quarantine.read(), {"aa": "a.csv", "bb": "b.csv"})[1]["places"] == ["b.csv:3"]


def test_a_task_is_read_from_broken_rows_but_never_text(checkout: Checkout) -> None:
    put(
        "aa",
        (1, "record", "not_json", '{"task_dataset": "CMeEE-V2", "input": '),
        (2, "task", "bad_task_name", json.dumps({"task": f"{NAME} ward"})),
        (3, "input", "empty", json.dumps({"input": f'says "task": "{NAME.lower()}"'})),
        (4, "record", "wrong_columns", f"{NAME},1,2"),
    )
    assert quarantine.read()["task"].to_list() == ["cmeee-v2", None, None, None]


def test_nothing_in_quarantine_is_no_group(checkout: Checkout) -> None:
    assert quarantine.grouped(quarantine.read()) == []
