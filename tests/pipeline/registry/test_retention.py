"""What a prune keeps, what it removes, and what may happen meanwhile."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ReleaseNotFound
from pipeline.registry import Registry, retention
from pipeline.registry.removal import mark_removal
from tests.pipeline.registry.releases import FACTS, folder_of, put


@pytest.fixture
def six(empty_registry: Registry, tmp_path: Path) -> list[str]:
    """Six releases in the registry's order, which among those of one second is not that of making."""
    for letter in b"abcdef":
        empty_registry.publish(folder_of(tmp_path / "made", {"README.md": bytes([letter])}), FACTS)
    return names(empty_registry)


def promote(store: Registry, release: str, name: str = "champion") -> None:
    store.move(name, release, "Ann", "better", store.channel(name))


def names(store: Registry) -> list[str]:
    return [each.id for each in store.releases()]


def test_champions_their_predecessors_and_the_newest_stay(empty_registry: Registry, six: list[str]) -> None:
    for release in six[:3]:
        promote(empty_registry, release)
    promote(empty_registry, six[3], "ward-3")
    plan = empty_registry.plan_prune(1)
    assert plan.kept == {
        six[1]: "champion before",
        six[2]: "champion",
        six[3]: "ward-3",
        six[5]: "among the 1 newest",
    }
    assert [each.id for each in plan.removed] == [six[0], six[4]]
    assert names(empty_registry) == six  # a plan removes nothing
    done = empty_registry.prune(plan, "Eve", "our policy")
    assert (done.removed, done.spared, done.locked) == ((six[0], six[4]), (), ())
    assert names(empty_registry) == six[1:4] + six[5:]
    told = [(entry["event"], entry["release"], entry["by"]) for entry in empty_registry.history()[-4:]]
    assert told == [(event, each, "Eve") for each in (six[0], six[4]) for event in ("pruning", "pruned")]
    assert empty_registry.roll_back("champion", None, "Ann", "worse").release == six[1]


def test_a_killed_prune_is_forgotten_for_what_is_kept_and_goes_on_for_the_rest(
    empty_registry: Registry, six: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mark_removal(empty_registry.store, six[0], "Eve", "killed")
    mark_removal(empty_registry.store, six[5], "Eve", "killed")
    promote(empty_registry, six[4])
    empty_registry.prune(empty_registry.plan_prune(1), "Eve", "old")
    with pytest.raises(ReleaseNotFound, match="being removed"):
        promote(empty_registry, six[5])
    monkeypatch.setattr(retention, "UNDECIDED", timedelta(0))
    empty_registry.prune(empty_registry.plan_prune(1), "Eve", "old")
    promote(empty_registry, six[5])
    assert set(names(empty_registry)) == {six[4], six[5]}


def test_a_publication_completed_since_the_plan_is_spared(empty_registry: Registry, tmp_path: Path) -> None:
    release = empty_registry.publish(folder_of(tmp_path / "made", {"README.md": b"a"}), FACTS).release
    plan = retention.Plan({}, (), (release,), ())
    assert empty_registry.prune(plan, "Eve", "old").spared == (release,)
    assert empty_registry.verify(release) == []


def test_where_a_rollback_goes_stays_too(empty_registry: Registry, six: list[str]) -> None:
    for release in six[:3]:
        promote(empty_registry, release)
    empty_registry.roll_back("champion", None, "Ann", "worse")
    assert empty_registry.plan_prune(0).kept == {
        six[0]: "champion before",  # where the next rollback goes
        six[1]: "champion",
        six[2]: "champion before",  # where the pointer came from
    }


def test_all_is_kept_where_there_is_less_than_asked_for(empty_registry: Registry, six: list[str]) -> None:
    plan = empty_registry.plan_prune(10)
    assert (list(plan.kept), plan.removed, plan.unfinished, plan.uploads) == (six, (), (), ())


def test_a_release_promoted_since_the_plan_is_spared(empty_registry: Registry, six: list[str]) -> None:
    plan = empty_registry.plan_prune(0)
    promote(empty_registry, six[2])
    done = empty_registry.prune(plan, "Eve", "our policy")
    assert done.spared == (six[2],)
    assert names(empty_registry) == [six[2]]
    assert empty_registry.verify(six[2]) == []
    promote(empty_registry, six[2], "ward-3")  # and is free again


def test_a_release_that_somebody_is_promoting_is_spared(empty_registry: Registry, six: list[str]) -> None:
    plan = empty_registry.plan_prune(0)
    facts: dict[str, Any] = {"intended": "promoted", "channel": "champion", "replaces": None}
    empty_registry.append_history("intended", six[0], "Ann", "better", **facts)
    assert empty_registry.prune(plan, "Eve", "our policy").spared == (six[0],)


def test_a_release_that_is_being_removed_is_neither_promoted_nor_published(
    empty_registry: Registry, tmp_path: Path
) -> None:
    made = folder_of(tmp_path / "made", {"README.md": b"a"})
    release = empty_registry.publish(made, FACTS).release
    mark_removal(empty_registry.store, release, "Eve", "our policy")
    with pytest.raises(ReleaseNotFound, match=r"being removed.*moelora prune"):
        promote(empty_registry, release)
    with pytest.raises(ReleaseNotFound, match="being removed"):
        empty_registry.publish(made, FACTS)
    assert empty_registry.channel() is None


def test_a_prune_that_was_cut_off_is_completed_by_the_next(
    empty_registry: Registry, six: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = empty_registry.store

    def killed(**_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store.client, "delete_objects", killed)
        with pytest.raises(KeyboardInterrupt):
            empty_registry.prune(empty_registry.plan_prune(5), "Eve", "our policy")
    assert names(empty_registry) == six[1:]  # hidden already, its files are not gone yet
    plan = empty_registry.plan_prune(5)
    assert (plan.removed, plan.unfinished) == ((), (six[0],))
    empty_registry.prune(plan, "Eve", "our policy")
    assert not list(store.list(f"{store.prefix}/releases/{six[0]}/"))
    assert not list(store.list(f"{store.prefix}/removals/"))
    assert empty_registry.plan_prune(5).unfinished == ()


def test_what_was_given_up_goes_and_what_is_under_way_stays(
    empty_registry: Registry, six: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, half = empty_registry.store, "0" * 16
    put(empty_registry, f"releases/{half}/README.md", b"no manifest")
    key = f"{store.prefix}/releases/{half}/big"
    upload = store.client.create_multipart_upload(Bucket=store.bucket, Key=key)["UploadId"]
    plan = empty_registry.plan_prune(9)
    assert (plan.unfinished, plan.uploads) == ((), ())
    monkeypatch.setattr(retention, "UNFINISHED", timedelta(0))
    plan = empty_registry.plan_prune(9)
    assert (plan.unfinished, plan.uploads) == ((half,), ((key, upload),))
    empty_registry.prune(plan, "Eve", "our policy")
    plan = empty_registry.plan_prune(9)
    assert (plan.unfinished, plan.uploads) == ((), ())
    assert names(empty_registry) == six
