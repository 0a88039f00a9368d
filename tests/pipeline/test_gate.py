"""The gate's rules: what passes, what blocks, what cannot be told."""

import json
from copy import deepcopy
from typing import Any

import pytest

from pipeline import paths
from pipeline.errors import DataError
from pipeline.gate.__main__ import JUDGED, judge, run
from pipeline.gate.harm import levels, rows_needed, rows_needed_from_nothing
from pipeline.params import Gate, Params
from pipeline.stage import Progress
from tests.conftest import ROOT, Checkout


def comparison(difference: float, half: float, p: float, against: str = "base") -> dict[str, Any]:
    """Its adjusted p is ``p`` too: adjusting is evaluate's."""
    return {
        "against": against,
        "difference": difference,
        "low": difference - half,
        "high": difference + half,
        "p_worse": p,
        "p_adjusted": p,
    }


def task(difference: float = 0.1, half: float = 0.04, p: float = 0.9, rows: int = 200) -> dict[str, Any]:
    score = {"score": 0.5, "low": 0.4, "high": 0.6, "malformed": 0}
    return {
        "metric": "accuracy",
        "rows": rows,
        "groups": rows,
        "base": score,
        "candidate": score | {"score": round(0.5 + difference, 6)},
        "comparison": comparison(difference, half, p),
        "slices": {},
    }


def untested() -> dict[str, Any]:
    nothing = {"score": None, "low": None, "high": None, "malformed": 0}
    return task(rows=0) | {"metric": None, "base": nothing, "candidate": nothing, "comparison": None}


def reports() -> dict[str, dict[str, Any]]:
    return {
        "deidentify": {
            "recall": {"ID": {"recall": 0.96}, "NAME": {"recall": 0.98}},
            "recall_overall": 0.97,
            "residual_records": 0,
            "rows": {"in": 500, "out": 500},
        },
        "resample": {"tasks": {"rqe": {"effective_epochs": 2.0}, "ner": {"effective_epochs": 6.0}}},
        "train": {"health": {"finite": True, "loss_first": 3.0, "loss_last": 1.2}},
        "export": {
            "release_digest": "d" * 64,
            "tolerance": 1e-4,
            "tasks": {"rqe": {"max_abs_difference": 2e-6}, "ner": {"max_abs_difference": 3e-6}},
        },
        "evaluate": {
            "release_digest": "d" * 64,
            "champion": None,
            "reference": None,
            "tasks": {"rqe": task(), "ner": task()},
            "mean": {"comparison": comparison(0.1, 0.03, 1.0)},
            "worst": {"comparison": comparison(0.1, 0.05, 1.0) | {"task": "rqe", "against_task": "ner"}},
            "champion_rows": None,
            "other_base": {},
            "gone": [],
            "canaries": {
                "p": 0.4,
                "completed": 0,
                "held_back_completed": 0,
                "inserted": 64,
                "held_back": 64,
            },
            "extraction": {
                "extractable": 900,
                "rows": 64,
                "unseen_rows": 64,
                "completed": 12,
                "by_base": 1,
                "unseen_completed": 10,
                "unseen_by_base": 0,
                "p": 0.5,
            },
            "membership": {"rows": 128, "auc": 0.56, "low": 0.5, "high": 0.62, "champion_auc": None},
            "calibration": {"rqe": {"base": 0.3, "candidate": 0.1}},
            "load_check": {"rqe": 2e-6, "ner": 3e-6},
        },
    }


def gate(**values: Any) -> Gate:
    return Gate(**Params.load(ROOT / "params.yaml").gate.model_dump() | values)


def changed(path: str, value: Any) -> dict[str, dict[str, Any]]:
    found = deepcopy(reports())
    *parts, last = path.split(".")
    place: Any = found
    for part in parts:
        place = place[part]
    place[last] = value
    return found


def outcomes(report: dict[str, Any], rule: str) -> dict[str | None, str]:
    return {r["task"]: r["outcome"] for r in report["rules"] if r["rule"] == rule}


def test_an_adapter_that_is_better_everywhere_passes_every_rule() -> None:
    report = judge(reports(), gate(floors={"default": 0.3}))
    assert report["verdict"] == "pass"
    assert {rule["outcome"] for rule in report["rules"]} == {"pass"}
    assert {rule["rule"] for rule in report["rules"]} == {
        "floor",
        "no_harm",
        "mean_not_worse",
        "worst_task",
        "phi_recall",
        "residual",
        "memorisation",
        "extraction",
        "membership",
        "effective_epochs",
        "training_health",
        "export_equal",
        "load_check",
        "release_digest",
    }
    assert report["against"] == "base"
    assert report["release_digest"] == "d" * 64
    assert report["undecided"] == []
    assert report["override"] is None


def test_every_rule_has_a_sentence() -> None:
    assert all(len(rule["why"].split()) > 4 for rule in judge(reports(), gate())["rules"])


@pytest.mark.parametrize(
    ("path", "value", "rule"),
    [
        ("evaluate.tasks.rqe", task(-0.2, 0.05, 0.0001), "no_harm"),
        ("evaluate.mean.comparison", comparison(-0.05, 0.02, 0.001), "mean_not_worse"),
        ("evaluate.worst.comparison", comparison(-0.05, 0.02, 0.001), "worst_task"),
        ("evaluate.champion_rows", {"rqe": 201}, "test_set"),
        ("evaluate.canaries.p", 0.0009, "memorisation"),
        ("evaluate.canaries.completed", 1, "memorisation"),
        ("evaluate.canaries.held_back_completed", 1, "memorisation"),
        ("evaluate.extraction.p", 0.0009, "extraction"),
        (
            "evaluate.membership",
            {"rows": 128, "auc": 0.8, "low": 0.71, "high": 0.9, "champion_auc": None},
            "membership",
        ),
        ("evaluate.load_check", {"rqe": 2e-6, "ner": 0.01}, "load_check"),
        ("evaluate.load_check", {"rqe": 2e-6}, "load_check"),
        ("evaluate.release_digest", "e" * 64, "release_digest"),
        ("export.tasks.rqe.max_abs_difference", 2e-4, "export_equal"),
        ("deidentify.recall.ID.recall", 0.89, "phi_recall"),
        ("deidentify.residual_records", 6, "residual"),
        ("resample.tasks.rqe.effective_epochs", 10.5, "effective_epochs"),
        ("train.health.loss_last", 3.0, "training_health"),
        ("train.health.finite", False, "training_health"),
    ],
)
def test_one_broken_rule_blocks(path: str, value: Any, rule: str) -> None:
    report = judge(changed(path, value), gate())
    assert report["verdict"] == "blocked"
    assert {r["rule"] for r in report["rules"] if r["outcome"] == "blocked"} == {rule}


@pytest.mark.parametrize(("floor", "verdict"), [(0.6, "pass"), (0.61, "blocked")])
def test_a_floor_holds_for_its_task_and_default_for_the_others(floor: float, verdict: str) -> None:
    assert judge(reports(), gate(floors={"rqe": floor}))["verdict"] == verdict
    report = judge(reports(), gate(floors={"default": 0.99, "rqe": floor}))
    assert outcomes(report, "floor") == {"rqe": verdict, "ner": "blocked"}


def test_a_floor_for_a_task_that_was_not_evaluated_blocks() -> None:
    assert outcomes(judge(reports(), gate(floors={"rqa": 0.1})), "floor") == {"rqa": "blocked"}


def test_the_error_is_divided_over_the_rules_in_use() -> None:
    evaluate = reports()["evaluate"]
    assert levels(evaluate, gate()) == pytest.approx(
        {"no_harm": 0.04, "mean_not_worse": 0.005, "worst_task": 0.005}
    )
    everything = levels(evaluate | {"reference": "a" * 16}, gate(slices="block"))
    assert set(everything) == {"no_harm", "no_harm_reference", "mean_not_worse", "worst_task", "slices"}
    assert sum(everything.values()) == pytest.approx(0.05)
    shares = gate(error_shares={"no_harm": 1, "mean_not_worse": 1, "worst_task": 3}, confidence=0.9)
    assert levels(evaluate, shares) == pytest.approx(
        {"no_harm": 0.02, "mean_not_worse": 0.02, "worst_task": 0.06}
    )


@pytest.mark.parametrize(("p", "outcome"), [(0.0399, "blocked"), (0.0401, "undecided")])
def test_a_task_is_blocked_by_its_adjusted_p(p: float, outcome: str) -> None:
    figures = task(-0.04, 0.04)
    figures["comparison"] |= {"p_worse": 0.001, "p_adjusted": p}
    report = judge(changed("evaluate.tasks.rqe", figures), gate())
    assert outcomes(report, "no_harm")["rqe"] == outcome


def test_a_task_new_since_the_champion_is_compared_with_the_base_and_says_so() -> None:
    found = changed("evaluate.champion", "a" * 16)
    found["evaluate"]["tasks"]["ner"]["comparison"]["against"] = "champion"
    rules = {r["task"]: r["why"] for r in judge(found, gate())["rules"] if r["rule"] == "no_harm"}
    assert "base (the task is new since the champion)" in rules["rqe"]
    assert "new" not in rules["ner"]


def sliced(p: float) -> dict[str, Any]:
    figures = {"rows": 60, "groups": 60, "candidate": {"score": 0.5, "low": 0.4, "high": 0.6}}
    slices = {"language:zh": comparison(-0.2, 0.1, p), "length:long": comparison(0.1, 0.1, 0.9)}
    return task() | {"slices": {name: figures | {"comparison": each} for name, each in slices.items()}}


def test_slices_are_judged_where_asked_for() -> None:
    found = changed("evaluate.tasks.rqe", sliced(0.001))
    assert outcomes(judge(found, gate()), "slices") == {}
    report = judge(found, gate(slices="block"))
    assert report["verdict"] == "blocked"
    assert outcomes(report, "slices") == {"rqe": "blocked"}
    (rule,) = (r for r in report["rules"] if r["rule"] == "slices")
    assert rule["figures"]["slice"] == "language:zh"
    assert "language:zh" in rule["why"]
    within = judge(changed("evaluate.tasks.rqe", sliced(0.02)), gate(slices="block"))
    assert outcomes(within, "slices") == {"rqe": "pass"}


@pytest.mark.parametrize(("least", "outcome"), [(2.0, "pass"), (2.1, "blocked")])
def test_every_task_is_seen_often_enough(least: float, outcome: str) -> None:
    report = judge(reports(), gate(min_effective_epochs=least))
    assert outcomes(report, "effective_epochs") == {None: outcome}


@pytest.mark.parametrize(
    ("mode", "verdict", "to_confirm"),
    [("allow", "pass", []), ("approve", "pass", ["rqe"]), ("block", "blocked", ["rqe"])],
)
def test_what_an_undecided_task_does(mode: str, verdict: str, to_confirm: list[str]) -> None:
    report = judge(changed("evaluate.tasks.rqe", task(0.0, 0.08, 0.5)), gate(undecided=mode))
    assert (report["verdict"], report["undecided"]) == (verdict, to_confirm)
    rule = next(r for r in report["rules"] if r["task"] == "rqe" and r["rule"] == "no_harm")
    assert rule["outcome"] == "undecided"
    assert rule["figures"]["rows_needed"] == 512  # 200 rows give 0.08: 0.05 needs 2.56 times as many


def test_rows_needed_exclude_the_margin_or_show_the_loss() -> None:
    assert rows_needed(100, 0.0, -0.1, 0.05) == 400
    assert rows_needed(100, -0.04, -0.14, 0.05) == 625  # a loss of 0.04 is shown sooner than excluded
    assert rows_needed_from_nothing(0.05) == 308


def test_a_task_without_test_rows_is_undecided_and_says_how_many_would_do() -> None:
    report = judge(changed("evaluate.tasks.rqe", untested()), gate(floors={"default": 0.1}))
    assert outcomes(report, "no_harm")["rqe"] == "undecided"
    assert outcomes(report, "floor")["rqe"] == "undecided"
    assert report["undecided"] == ["rqe"]
    assert [r["figures"] for r in report["rules"] if r["rule"] == "no_harm" and r["task"] == "rqe"] == [
        {"rows": 0, "rows_needed": 308}
    ]


def test_harm_to_the_reference_blocks_what_the_champion_lets_through() -> None:
    found = changed("evaluate.reference", "a" * 16)
    for figures in found["evaluate"]["tasks"].values():
        figures["reference_comparison"] = comparison(-0.2, 0.05, 0.0001, "reference")
    report = judge(found, gate())
    assert report["verdict"] == "blocked"
    assert outcomes(report, "no_harm") == {"rqe": "pass", "ner": "pass"}
    assert outcomes(report, "no_harm_reference") == {"rqe": "blocked", "ner": "blocked"}


def test_a_task_new_since_the_reference_has_nothing_to_lose() -> None:
    found = changed("evaluate.reference", "a" * 16)
    found["evaluate"]["tasks"]["rqe"]["reference_comparison"] = comparison(0.0, 0.01, 0.5, "reference")
    assert outcomes(judge(found, gate()), "no_harm_reference") == {"rqe": "pass"}


def test_a_task_that_the_candidate_dropped_is_for_a_person_to_confirm() -> None:
    report = judge(changed("evaluate.gone", ["meqsum"]), gate())
    assert report["undecided"] == ["meqsum"]


def test_a_shrunk_test_set_blocks_and_says_what_to_do() -> None:
    found = changed("evaluate.champion_rows", {"rqe": 201, "ner": 200, "meqsum": 9})
    report = judge(found, gate())
    assert outcomes(report, "test_set") == {"rqe": "blocked", "ner": "pass"}
    assert report["verdict"] == "blocked"
    (rule,) = (r for r in report["rules"] if r["rule"] == "test_set" and r["task"] == "rqe")
    assert rule["figures"] == {"rows": 200, "champion_rows": 201}
    assert "gate.override" in rule["why"]
    override = {"release_digest": "d" * 64, "by": "Dr. A", "reason": "patients withdrew their consent"}
    assert judge(found, gate(override=override))["verdict"] == "overridden"


def test_a_champion_of_another_base_is_told_and_leaves_the_base_as_the_measure() -> None:
    report = judge(changed("evaluate.other_base", {"champion": "a" * 16}), gate())
    assert (report["verdict"], report["against"], report["undecided"]) == ("pass", "base", [])
    assert outcomes(report, "other_base") == {None: "undecided"}


def test_a_training_without_two_steps_is_undecided() -> None:
    health = {"finite": True, "loss_first": None, "loss_last": None}
    report = judge(changed("train.health", health), gate())
    assert outcomes(report, "training_health") == {None: "undecided"}
    assert report["verdict"] == "pass"


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("canaries", None, "memorisation"),
        ("extraction", None, "extraction"),
        ("membership", None, "membership"),
        ("membership.auc", None, "membership"),
        # No result of 6 beside 6 has a p below 0.001.
        ("canaries.inserted", 6, "memorisation"),
        ("extraction.rows", 6, "extraction"),
    ],
)
def test_what_was_not_measured_or_cannot_be_told_is_undecided(field: str, value: Any, rule: str) -> None:
    found = changed(f"evaluate.{field}", value)
    if value == 6:
        part = found["evaluate"][field.split(".")[0]]
        part |= {"held_back": 6} if rule == "memorisation" else {"unseen_rows": 6}
    assert outcomes(judge(found, gate()), rule) == {None: "undecided"}
    assert judge(found, gate())["verdict"] == "pass"
    assert judge(found, gate(undecided="block"))["verdict"] == "blocked"


def test_one_recited_canary_blocks_however_few_there_are() -> None:
    found = changed("evaluate.canaries", {"p": 0.5, "completed": 1, "held_back_completed": 0})
    found["evaluate"]["canaries"] |= {"inserted": 1, "held_back": 1}
    assert outcomes(judge(found, gate()), "memorisation") == {None: "blocked"}


def test_without_long_answers_there_is_nothing_to_extract() -> None:
    found = changed("evaluate.extraction", {"extractable": 0, "rows": 0, "unseen_rows": 0, "p": 1.0})
    assert outcomes(judge(found, gate()), "extraction") == {None: "pass"}
    found["evaluate"]["extraction"]["extractable"] = 40  # no test rows of those tasks
    assert outcomes(judge(found, gate()), "extraction") == {None: "undecided"}


@pytest.mark.parametrize(
    ("auc", "low", "champion", "outcome", "limit"),
    [
        (0.70, 0.64, None, "pass", 0.7),  # no champion yet, or one of another base: the ceiling alone
        (0.80, 0.72, None, "blocked", 0.7),
        (0.75, 0.69, None, "undecided", 0.7),
        (0.64, 0.58, 0.60, "pass", 0.65),
        (0.71, 0.66, 0.60, "blocked", 0.65),
        (0.66, 0.60, 0.60, "undecided", 0.65),
        (0.54, 0.48, 0.45, "pass", 0.55),  # below one half is chance
        (0.72, 0.70, 0.68, "undecided", 0.7),  # a little more each week ends at the ceiling
    ],
)
def test_membership_has_the_champions_area_as_its_measure(
    auc: float, low: float, champion: float | None, outcome: str, limit: float
) -> None:
    figures = {"rows": 128, "auc": auc, "low": low, "high": auc + 0.06, "champion_auc": champion}
    report = judge(changed("evaluate.membership", figures), gate())
    assert outcomes(report, "membership") == {None: outcome}
    (rule,) = (rule for rule in report["rules"] if rule["rule"] == "membership")
    assert rule["figures"]["limit"] == pytest.approx(limit)
    if outcome == "undecided":
        # Were the area what it is and the interval as narrow as these rows make it, it would leave the limit out.
        assert auc - (auc - low) * (128 / rule["figures"]["rows_needed"]) ** 0.5 == pytest.approx(
            limit, abs=1e-3
        )


def test_calibration_is_judged_where_asked_for() -> None:
    assert outcomes(judge(reports(), gate()), "calibration") == {}
    assert outcomes(judge(reports(), gate(max_ece=0.1)), "calibration") == {"rqe": "pass"}
    report = judge(reports(), gate(max_ece=0.09))
    assert outcomes(report, "calibration") == {"rqe": "blocked"}
    assert report["verdict"] == "blocked"


def test_the_champion_is_named() -> None:
    assert judge(changed("evaluate.champion", "a" * 16), gate())["against"] == "a" * 16


@pytest.mark.parametrize(
    ("digest", "broken", "verdict"),
    [("d" * 64, True, "overridden"), ("e" * 64, True, "blocked"), ("d" * 64, False, "pass")],
)
def test_an_override_lets_the_named_release_through(digest: str, broken: bool, verdict: str) -> None:
    found = changed("deidentify.recall.NAME.recall", 0.5 if broken else 0.99)
    override = {"release_digest": digest, "by": "Dr. A", "reason": "a trial on synthetic data"}
    report = judge(found, gate(override=override))
    assert report["verdict"] == verdict
    expected = {"by": "Dr. A", "reason": "a trial on synthetic data"} if verdict == "overridden" else None
    assert report["override"] == expected


def test_nothing_to_judge_is_an_error() -> None:
    with pytest.raises(DataError, match="no tasks"):
        judge(changed("evaluate.tasks", {}), gate())


def test_a_report_of_another_version_is_an_error_that_names_the_field() -> None:
    found = reports()
    del found["export"]["tolerance"]
    with pytest.raises(DataError, match="'tolerance'"):
        judge(found, gate())


def test_the_stage_reads_the_reports(checkout: Checkout) -> None:
    paths.REPORTS.mkdir()
    for stage in JUDGED:
        paths.report(stage).write_text(json.dumps(reports()[stage]))
    assert run(Params.load(), Progress("gate")) == judge(reports(), Params.load().gate)


@pytest.mark.parametrize(
    ("text", "problem"), [(None, "is missing"), ("{", "is no JSON"), ("[]", "is no report")]
)
def test_a_report_that_cannot_be_read_is_named(checkout: Checkout, text: str | None, problem: str) -> None:
    paths.REPORTS.mkdir()
    for stage in JUDGED:
        paths.report(stage).write_text(json.dumps(reports()[stage]))
    if text is None:
        paths.report("train").unlink()
    else:
        paths.report("train").write_text(text)
    with pytest.raises(DataError, match=f"train.json {problem}.*pipeline.train"):
        run(Params.load(), Progress("gate"))
