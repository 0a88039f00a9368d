import json
from typing import Any

import numpy as np
import polars as pl
import pytest

from pipeline import paths
from pipeline.errors import InputError
from pipeline.validate import drift
from pipeline.validate.across import independent
from pipeline.validate.drift import Figure
from tests.conftest import Checkout
from tests.pipeline.validate.conftest import found, shard, validate

RELEASE = "0123456789abcdef"
EDGES = [0, 50, 100]


def profile(languages: dict[str, int] | None = None, **tasks: int) -> dict[str, Any]:
    """What a release says of its data: tasks with so many patients, all with inputs below 50 characters."""
    lengths = {
        task: {"input_lengths": [rows, 0, 0], "target_lengths": [rows, 0, 0], "labels": None}
        for task, rows in tasks.items()
    }
    return {
        "length_edges": EDGES,
        "labels_named": {"groups": 5, "most": 64},
        "independent": {"tasks": tasks, "languages": languages or {"en": sum(tasks.values())}},
        "tasks": {task: {"independent": each} for task, each in lengths.items()},
    }


def put_baseline(profile: Any) -> None:
    folder = paths.cache_root() / "open/releases" / RELEASE
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "profile.json").write_text(json.dumps(profile))


def moved(*figures: Figure, least: float = 0.2) -> dict[str, list[str]]:
    return {str(each.figure): [*each.moved] for each in drift.judge([*figures], least) if each.moved}


def test_a_halved_share_is_found_and_named() -> None:
    before = {"triage": 100, "ner": 400, "summary": 500}
    now = {"triage": 50, "ner": 425, "summary": 525}
    assert moved(Figure("tasks", None, before, now)) == {"tasks": ["triage"]}
    (judged,) = drift.judge([Figure("tasks", None, before, now)], 0.2)
    assert judged.p is not None
    assert judged.p < 0.01
    assert judged.change == pytest.approx(0.5)
    assert judged.moved["triage"] == (0.1, 0.05)


def test_values_that_are_new_or_gone_are_found() -> None:
    figure = Figure("languages", None, {"en": 900, "de": 100}, {"en": 900, "zh": 100})
    assert moved(figure) == {"languages": ["de", "zh"]}
    assert drift.judge([figure], 0.2)[0].change == 1.0


def test_a_small_change_of_much_data_is_none() -> None:
    before, now = {"a": 5_000_000, "b": 5_000_000}, {"a": 5_100_000, "b": 4_900_000}
    (judged,) = drift.judge([Figure("tasks", None, before, now)], 0.2)
    assert (judged.p, judged.moved) == (None, {})
    assert moved(Figure("tasks", None, before, now), least=0.01) == {"tasks": ["a", "b"]}


def test_a_large_change_of_little_data_is_chance() -> None:
    (judged,) = drift.judge([Figure("tasks", None, {"a": 30, "b": 10}, {"a": 25, "b": 15})], 0.2)
    assert judged.p is not None
    assert judged.p > 0.05
    assert judged.moved == {}


def test_many_figures_ask_for_more_of_each() -> None:
    before, now = {"a": 500, "b": 100}, {"a": 535, "b": 65}
    one = Figure("tasks", None, before, now)
    others = [Figure("labels", f"task-{n}", before, before) for n in range(40)]
    assert moved(one) == {"tasks": ["b"]}
    assert moved(one, *others) == {}


def test_values_too_rare_for_a_standard_error_are_pooled() -> None:
    before = {"a": 10_000} | {f"rare-{n}": 3 for n in range(5)}
    assert moved(Figure("tasks", None, before, {"a": 1_000, "new": 1, "newer": 1})) == {}
    now = {"a": 1_000} | {f"new-{n}": 4 for n in range(40)}
    assert moved(Figure("tasks", None, before, now)) == {"tasks": [drift.REST]}


def test_nothing_to_choose_between_is_not_tested() -> None:
    assert drift.judge([Figure("languages", None, {"en": 50}, {"en": 70})], 0.2) == []
    assert drift.judge([Figure("labels", "a", {}, {"x": 9, "y": 9})], 0.2) == []


def test_the_same_data_warns_at_most_once_in_twenty_runs() -> None:
    rng = np.random.default_rng(0)
    shares = np.array([0.3, 0.3, 0.2, 0.1, 0.06, 0.04])
    names = "abcdef"

    def draw(size: int) -> dict[str, int]:
        return dict(zip(names, rng.multinomial(size, shares).tolist(), strict=True))

    runs = [[Figure("labels", str(n), draw(300), draw(80)) for n in range(6)] for _ in range(150)]
    assert sum(bool(moved(*run, least=0.0)) for run in runs) <= 0.05 * 150 + 5


def test_a_patient_counts_once_however_many_records_there_are(checkout: Checkout) -> None:
    many = [{"group_id": "one", "task": "ner", "language": "de-CH"}] * 40
    shard("aa", *many, {"group_id": "one"}, {"group_id": "two"}, {"group_id": None}, {"group_id": None})
    records = independent([paths.INGESTED / "aa.parquet"])
    assert sorted(records["task"]) == ["ner", "triage", "triage", "triage", "triage"]
    assert set(records.filter(task="ner")["language"]) == {"de"}
    tasks = drift.figures(profile(triage=4), records)[0]
    assert sum(tasks.after.values()) == 4


def test_of_many_patients_some_are_drawn(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.validate import across as room

    shard("aa", *[{}] * 1000)
    monkeypatch.setattr(room, "DRIFT_GROUPS", 100)
    drawn = independent([paths.INGESTED / "aa.parquet"])
    assert 50 < drawn.height < 150
    assert drawn.equals(independent([paths.INGESTED / "aa.parquet"]))


def test_labels_near_the_limit_of_a_profile_count_as_others() -> None:
    facts = profile(triage=300)
    facts["tasks"]["triage"]["independent"]["labels"] = {"a": 200, "b": 70, "c": 6, "d": 5, "other": 19}
    now = ["a"] * 200 + ["b"] * 70 + ["c"] * 2 + ["d"] * 2 + ["e", "f", "g"] * 9
    records = pl.DataFrame(
        {
            "group": range(len(now)),
            "task": "triage",
            "language": "en",
            "input_length": 9,
            "target_length": 1,
            "label": now,
        }
    )
    labels = drift.figures(facts, records)[-1]
    assert (labels.name, labels.task) == ("labels", "triage")
    assert labels.before == {"a": 200, "b": 70, "other": 30}
    assert labels.after == {"a": 200, "b": 70, "other": 31}


def test_lengths_are_joined_until_there_are_enough() -> None:
    facts = profile(summary=100)
    facts["length_edges"] = [0, 50, 100, 200]
    lengths = {"input_lengths": [2, 50, 45, 3], "target_lengths": [100, 0, 0, 0], "labels": None}
    facts["tasks"]["summary"]["independent"] = lengths
    records = pl.DataFrame(
        {"group": range(20), "task": "summary", "language": "en", "input_length": [60, 150] * 10}
    ).with_columns(target_length=pl.lit(5), label=pl.lit(None, pl.String))
    inputs, targets = drift.figures(facts, records)[-2:]
    assert inputs.before == {"0 to 99": 52, "100 characters and more": 48}
    assert inputs.after == {"0 to 99": 10, "100 characters and more": 10}
    assert targets.before == {"0 characters and more": 100}


def test_drift_is_a_warning_that_names_what_moved(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    checkout.params(validate__baseline=RELEASE)
    shard(
        "aa",
        *[{}] * 60,
        *[{"task": "other"}] * 60,
        {"target": "nobody"},
        {"task": "other", "target": "nobody"},
    )
    put_baseline(profile(triage=500, other=500))
    report = validate()
    assert found(report, "share_change", "warning")["success"]
    assert report["drift"] == []
    put_baseline(profile(triage=900, gone=100))
    report = validate()
    assert report["success"]
    assert found(report, "share_change", "warning")["names"] == ["tasks"]
    (entry,) = [each for each in report["drift"] if each["moved"]]
    assert entry["figure"] == "tasks"
    assert entry["moved"]["gone"] == {"before": 0.1, "after": 0.0}
    out = capsys.readouterr().out
    assert "validate: warning expect_column_values_to_be_between(share_change at most 0.2)" in out
    assert "validate: tasks: gone: 10.0% -> 0.0%" in out
    assert json.dumps(report) == json.dumps(validate())


def test_without_a_baseline_nothing_is_compared(checkout: Checkout) -> None:
    shard("aa", {})
    report = validate()
    assert report["drift"] is None
    assert "share_change" not in {each["column"] for each in report["expectations"]}


def test_a_baseline_of_before_says_that_it_cannot_be_compared(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    checkout.params(validate__baseline=RELEASE)
    shard("aa", {})
    put_baseline({"length_edges": EDGES, "tasks": {"triage": {"rows": 5}}, "languages": {"en": 5}})
    assert validate()["drift"] is None
    assert f"release {RELEASE} was published before" in capsys.readouterr().out


def test_a_baseline_that_is_missing_or_none_says_what_to_do(checkout: Checkout) -> None:
    checkout.params(validate__baseline=RELEASE)
    shard("aa", {})
    with pytest.raises(InputError, match=f"moelora pull {RELEASE}"):
        validate()
    put_baseline([])
    with pytest.raises(InputError, match=r"validate\.baseline"):
        validate()
    (paths.cache_root() / "open/releases" / RELEASE / "profile.json").write_text("{")
    with pytest.raises(InputError, match=f"moelora pull {RELEASE}"):
        validate()


def test_a_profile_of_split_can_be_compared(checkout: Checkout) -> None:
    """The counts are those of the stage that makes profiles, so that equal data has equal counts."""
    from pipeline.split.parts import describe
    from pipeline.split.profile import profile as described

    shard("aa", *[{"task": task} for task in ("triage", "other") for _ in range(50)])
    path = paths.INGESTED / "aa.parquet"
    records = independent([path])
    for figure in drift.figures(described(describe(pl.read_parquet(path))[0]), records):
        assert figure.before == figure.after, figure
