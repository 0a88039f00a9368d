"""The policies of infra/s3 on a real S3 server: each suffices for its work, and more is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import RegistryUnavailable, ReleaseErased
from pipeline.registry import Registry, connect
from pipeline.registry.store import Store
from tests.pipeline.registry.releases import BIG, FACTS, folder_of, put, remove


def opened(config: Path, role: str, folder: Path) -> Registry:
    """The registry by the key of a role."""
    text = config.read_text().replace("root-key", f"{role}-key").replace("root-secret", f"{role}-secret")
    (folder / role).write_text(text)
    return Registry(Store(connect(folder / role, attempts=1), "moelora", "guarded"))


@pytest.fixture
def by(guarded_s3: Path, tmp_path: Path) -> Callable[[str], Registry]:
    return lambda role: opened(guarded_s3, role, tmp_path)


def refused(act: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    with pytest.raises(Exception, match=r"AccessDenied|Access Denied"):
        act(*args, **kwargs)


def test_each_role_can_do_its_work_and_no_more(by: Callable[[str], Registry], tmp_path: Path) -> None:
    made = folder_of(tmp_path / "made", {"README.md": b"a", "moelora/adapter.safetensors": b"x" * BIG})
    reader, publisher, promoter, admin = (by(role) for role in ("reader", "publisher", "promoter", "admin"))

    first = publisher.publish(made, FACTS).release
    (made / "README.md").write_text("b")
    receipt = publisher.publish(made, FACTS)
    second = receipt.release
    assert (receipt.uploaded, receipt.copied) == (1, 1)
    assert publisher.move("candidate", second, "Ann", "new", None, "candidate").release == second
    refused(publisher.move, "champion", first, "Ann", "mine", None)
    refused(remove, publisher, f"releases/{first}/README.md")
    assert publisher.channel() is None

    moved = promoter.move("champion", first, "Ann", "better", None)
    promoter.move("champion", second, "Ann", "better still", moved)
    assert promoter.roll_back("champion", None, "Ann", "worse").release == first
    refused(promoter.publish, folder_of(tmp_path / "other", {"README.md": b"c"}), FACTS)
    refused(promoter.move, "candidate", first, "Ann", "mine", promoter.channel("candidate"))
    refused(put, promoter, f"releases/{first}/README.md", b"evil")
    refused(remove, promoter, "channels/champion.json")

    assert [each.id for each in reader.releases()] == [first, second]
    assert reader.verify(first) == []
    assert reader.pull(first, tmp_path / "pulled").is_dir()
    assert [each.name for each in reader.channels()] == ["candidate", "champion"]
    assert "rolled back" in [entry["event"] for entry in reader.history()]
    refused(reader.append_history, "noted", None, "Ann", "mine")
    refused(reader.move, "champion", second, "Ann", "mine", reader.channel())
    refused(put, reader, f"releases/{first}/README.md", b"evil")
    refused(reader.plan_prune, 0)
    assert reader.channel().release == first  # type: ignore[union-attr]

    (made / "README.md").write_text("c")
    third = publisher.publish(made, FACTS).release
    plan = admin.plan_prune(0)
    assert [each.id for each in plan.removed] == [third]
    assert admin.prune(plan, "Eve", "old").removed == (third,)
    assert [each.id for each in reader.releases()] == [first, second]

    for other in (reader, publisher, promoter):
        refused(other.erase, second, "Ann", "mine")
    assert admin.erase(second, "Eve", "a patient asked")
    for other in (reader, publisher, promoter, admin):
        with pytest.raises(ReleaseErased):
            other.manifest(second)


@pytest.mark.parametrize("role", ["reader", "publisher", "promoter", "admin"])
def test_no_role_reaches_beyond_the_prefix(by: Callable[[str], Registry], role: str) -> None:
    store = by(role).store
    beyond = {"Bucket": "moelora", "Key": "another/secret"}
    by("root").store.client.put_object(**beyond, Body=b"secret")
    refused(store.client.get_object, **beyond)
    refused(store.client.put_object, **beyond, Body=b"mine")
    refused(store.client.delete_object, **beyond)
    refused(store.client.create_bucket, Bucket="mine")
    if role != "admin":  # whose listing of versions and uploads AWS restricts by bucket alone
        refused(store.client.list_objects_v2, Bucket="moelora", Prefix="another/")


def test_a_refusal_is_told_with_the_remedy(by: Callable[[str], Registry]) -> None:
    with pytest.raises(RegistryUnavailable, match=r"refuses PutObject.*moelora doctor"):
        by("reader").append_history("noted", None, "Ann", "mine")
