"""A channel that is followed, against a real S3 server."""

from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.registry import Registry, connect, pulled
from pipeline.release_folder import check_base, release_id
from pipeline.serve.follower import Follower
from pipeline.serve.loader import Loader, Served
from pipeline.serve.metrics import Metrics
from tests.pipeline.serve.test_answering import alone, asked
from tests.releases import write_release
from tests.s3 import BUCKET

WHY = {"by": "test", "reason": "test"}


class Current:
    served: Served | None = None
    reason = ""


def point(registry: Registry, release: str) -> None:
    registry.move("champion", release, "test", "test", registry.channel())


@pytest.fixture
def follower(empty_registry: Registry, loader: Loader) -> Follower:
    return Follower(empty_registry, "champion", loader, Metrics(), 1.0)


def test_a_promotion_and_a_rollback_are_followed(
    empty_registry: Registry, loader: Loader, release: Path, follower: Follower, tmp_path: Path
) -> None:
    current = Current()
    follower.look(current)
    assert current.served is None
    assert "moelora promote" in current.reason
    old = empty_registry.publish(release, WHY).release
    new = empty_registry.publish(write_release(tmp_path / "new", seed=1), WHY).release
    point(empty_registry, old)
    follower.look(current)
    before = current.served
    assert before is not None
    assert before.release == old == release_id(release)
    answers = alone(before, asked(loader, "ner", "gout"))
    point(empty_registry, new)
    follower.look(current)
    assert current.served is not None
    assert current.served.release == new
    assert alone(current.served, asked(loader, "ner", "gout")) != answers
    # The one before is still whole: requests it was given are answered by it.
    assert alone(before, asked(loader, "ner", "gout")) == answers
    point(empty_registry, old)
    follower.look(current)
    assert alone(current.served, asked(loader, "ner", "gout")) == answers
    unchanged = current.served
    follower.look(current)
    assert current.served is unchanged


def test_releases_share_the_weights_of_the_base(loader: Loader, release: Path) -> None:
    first, second = (loader.load(release, "0" * 16).answerer._system.model for _ in range(2))
    assert first is not second
    weight = "model.embed_tokens.weight"
    assert dict(first.named_parameters())[weight] is dict(second.named_parameters())[weight]


def test_a_release_that_cannot_be_had_leaves_the_one_before(
    empty_registry: Registry,
    registry_url: str,
    aws: Path,
    release: Path,
    follower: Follower,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    current = Current()
    old = empty_registry.publish(release, WHY).release
    bad = empty_registry.publish(write_release(tmp_path / "bad", seed=1), WHY).release
    point(empty_registry, old)
    follower.look(current)
    point(empty_registry, bad)
    client = connect(aws)
    prefix = registry_url.rpartition("/")[2]
    place = {"Bucket": BUCKET, "Key": f"{prefix}/releases/{bad}/moelora/adapter.json"}
    good = client.get_object(**place)["Body"].read()
    client.put_object(**place, Body=good[::-1])
    for _ in range(2):
        follower.look(current)
    assert current.served is not None
    assert current.served.release == old
    assert caplog.text.count("moelora/adapter.json") == 1  # told once
    client.put_object(**place, Body=good)
    follower.look(current)
    assert current.served.release == bad


def test_a_withdrawn_release_is_served_no_more(
    empty_registry: Registry, release: Path, follower: Follower, tmp_path: Path
) -> None:
    current = Current()
    old = empty_registry.publish(release, WHY).release
    new = empty_registry.publish(write_release(tmp_path / "new", seed=1), WHY).release
    point(empty_registry, old)
    follower.look(current)
    empty_registry.erase(old, "test", "a request")
    follower.look(current)
    assert current.served is None
    assert "withdrawn" in current.reason
    point(empty_registry, new)
    follower.look(current)
    assert current.served is not None
    assert current.served.release == new


def test_a_release_of_another_base_is_refused_and_none_without_lineage(loader: Loader, release: Path) -> None:
    (release / "lineage.json").write_text('{"base": {"digest": "0"}}')
    with pytest.raises(InputError, match="another base model"):
        loader.load(release, "0" * 16)
    (release / "lineage.json").unlink()
    check_base(release)
    assert loader.load(release, "0" * 16).tasks == ("ner", "rqe")


def test_the_id_of_a_pulled_folder_is_the_releases(empty_registry: Registry, release: Path) -> None:
    published = empty_registry.publish(release, WHY).release
    folder = empty_registry.pull(published)
    assert folder == pulled(published)
    assert release_id(folder) == published
