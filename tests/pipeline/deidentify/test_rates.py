import numpy as np
import pytest

from pipeline.deidentify.rates import Rates, moved, rates

NONE: frozenset[str] = frozenset()


def test_a_patient_counts_once_by_the_record_of_the_first_pseudonym() -> None:
    one = ("one", "b", frozenset({"DATE"}))
    records = [("one", "a", frozenset({"NAME"})), *[one] * 9, ("two", "a", NONE)]
    assert rates(records) == rates(reversed(records)) == {"groups": 2, "kinds": {"NAME": 1}}


def test_only_kinds_whose_share_moved_beyond_chance_are_named() -> None:
    before = {"groups": 1000, "kinds": {"NAME": 400, "DATE": 200, "EMAIL": 2}}
    now = {"groups": 500, "kinds": {"NAME": 80, "DATE": 104, "ID": 60}}
    assert moved(before, now, 0.2) == {
        "ID": {"before": 0.0, "after": 0.12},
        "NAME": {"before": 0.4, "after": 0.16},
    }
    assert moved(before, before, 0.2) == {}


@pytest.mark.parametrize("groups", [0, 1])
def test_of_hardly_any_patients_nothing_is_said(groups: int) -> None:
    few = {"groups": groups, "kinds": {"NAME": groups}}
    assert moved({"groups": 1000, "kinds": {}}, few, 0.2) == moved(few, few, 0.2) == {}


def test_what_did_not_move_is_hardly_ever_named() -> None:
    rng = np.random.default_rng(0)

    def draw(groups: int) -> Rates:
        return {"groups": groups, "kinds": {kind: int(rng.binomial(groups, 0.3)) for kind in "abcdef"}}

    assert sum(bool(moved(draw(400), draw(200), 0.0)) for _ in range(100)) <= 5
