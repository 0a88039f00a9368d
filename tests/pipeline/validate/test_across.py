from pipeline import paths
from pipeline.validate.across import across
from tests.conftest import Checkout
from tests.pipeline.validate.conftest import shard


def test_shards_together_show_what_one_cannot(checkout: Checkout) -> None:
    shard("aa", {"group_id": "g", "split": "train", "sample_id": "1"}, {"task": "other", "task_type": "nli"})
    shard("bb", {"group_id": "g", "split": "test"}, {"task": "other"}, {"sample_id": "1"})
    shard("cc", {}, {"group_id": "h", "split": "test"}, {"group_id": "h"})
    together = across(sorted(paths.INGESTED.glob("*.parquet")))
    assert together.rows == 8
    assert (together.repeated.len(), together.torn.len()) == (1, 1)
    assert together.mixed.to_list() == ["other"]
    assert together.tasks["records"].to_list() == [2, 6]


def test_a_shard_is_flagged_by_its_own_odd_records(checkout: Checkout) -> None:
    def flagged() -> dict[str, list[int]]:
        shards = sorted(paths.INGESTED.glob("*.parquet"))
        return across(shards).flagged(shards)

    shard("aa", {}, {"sample_id": "1"})
    shard("bb", {}, {})
    assert flagged() == {}
    shard("cc", {"sample_id": "1"})
    first = flagged()
    assert {name: numbers[0] for name, numbers in first.items()} == {"aa": 1, "cc": 1}
    shard("dd", {"sample_id": "2"}, {"sample_id": "2"})
    assert flagged() == first | {"dd": flagged()["dd"]}
    shard("aa", {"sample_id": "1"}, {})
    assert flagged()["aa"] != first["aa"]
