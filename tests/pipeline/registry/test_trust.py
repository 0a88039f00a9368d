"""Signatures and tombstones on the ways into and out of the registry."""

from pathlib import Path

import pytest

from pipeline import signing
from pipeline.errors import InputError, ReleaseErased, ReleaseUntrusted
from pipeline.registry import SIGNATURE, Registry
from tests.conftest import Checkout
from tests.pipeline.registry.releases import BIG, FACTS, folder_of, put, remove
from tests.signed import trust


@pytest.fixture
def key(checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trust("ann", tmp_path_factory.mktemp("secrets"))


def signed(folder: Path, key: Path, card: bytes = b"card\n") -> Path:
    made = folder_of(folder, {"README.md": card, "moelora/adapter.safetensors": b"x" * BIG})
    signing.sign(made, key)
    return made


@pytest.fixture
def moved_on(empty_registry: Registry, key: Path) -> tuple[str, str]:
    """The champion before, and the champion."""
    releases = [
        empty_registry.publish(signed(Path(name), key, name.encode()), FACTS).release
        for name in ("before", "after")
    ]
    for release in releases:
        empty_registry.move("champion", release, "Ann", "better", empty_registry.channel())
    return releases[0], releases[1]


def test_the_signature_is_there_before_the_manifest(empty_registry: Registry, key: Path) -> None:
    sent: list[str] = []
    events = empty_registry.store.client.meta.events
    events.register(
        "provide-client-params.s3.PutObject", lambda params, **_: sent.append(params["Key"].split("/")[-1])
    )
    empty_registry.publish(signed(Path("made"), key), FACTS)
    assert sent[:3] == ["README.md", "manifest.sig", "manifest.json"]


def test_a_signed_release_is_pulled_in_parts_with_its_signature(empty_registry: Registry, key: Path) -> None:
    made = signed(Path("made"), key)
    folder = empty_registry.pull(empty_registry.publish(made, FACTS).release)
    assert (folder / SIGNATURE).read_bytes() == (made / SIGNATURE).read_bytes()


def test_nothing_of_an_unsigned_release_reaches_this_disk(empty_registry: Registry, key: Path) -> None:
    release = empty_registry.publish(signed(Path("made"), key), FACTS).release
    remove(empty_registry, f"releases/{release}/{SIGNATURE}")
    with pytest.raises(ReleaseUntrusted, match="not signed"):
        empty_registry.pull(release, Path("pulled"))
    assert not list(Path().glob("*pulled*"))


def test_a_copied_file_needs_a_signature_of_its_own_release(empty_registry: Registry, key: Path) -> None:
    empty_registry.publish(signed(Path("first"), key, b"a"), FACTS)
    made = signed(Path("second"), key, b"b")
    receipt = empty_registry.publish(made, FACTS)
    assert (receipt.uploaded, receipt.copied) == (1, 1)
    assert empty_registry.verify(receipt.release) == []
    (made / SIGNATURE).write_bytes(Path("first", SIGNATURE).read_bytes())
    with pytest.raises(ReleaseUntrusted, match=r"made for other files, README\.md"):
        empty_registry.publish(made, FACTS)


@pytest.mark.parametrize("signature", [None, b"vandalised"])
def test_no_way_back_to_a_release_without_its_signature(
    empty_registry: Registry, moved_on: tuple[str, str], signature: bytes | None
) -> None:
    before, champion = moved_on
    where = f"releases/{before}/{SIGNATURE}"
    if signature is None:
        remove(empty_registry, where)
    else:
        put(empty_registry, where, signature)
    with pytest.raises(ReleaseUntrusted):
        empty_registry.roll_back("champion", None, "Ann", "worse")
    now = empty_registry.channel()
    assert now is not None and now.release == champion


def test_no_way_back_to_a_withdrawn_release(empty_registry: Registry, moved_on: tuple[str, str]) -> None:
    before, champion = moved_on
    empty_registry.erase(before, "Ann", "a request")
    with pytest.raises(ReleaseErased):
        empty_registry.roll_back("champion", before, "Ann", "worse")
    with pytest.raises(InputError, match="no champion is left"):
        empty_registry.roll_back("champion", None, "Ann", "worse")
    now = empty_registry.channel()
    assert now is not None and now.release == champion


def test_a_pruned_release_that_was_withdrawn_does_not_come_back(
    empty_registry: Registry, moved_on: tuple[str, str], key: Path
) -> None:
    made = signed(Path("third"), key, b"c")
    third = empty_registry.publish(made, FACTS).release
    empty_registry.erase(third, "Ann", "a request")
    assert empty_registry.prune(empty_registry.plan_prune(0), "Eve", "old").removed == (third,)
    with pytest.raises(ReleaseErased):
        empty_registry.publish(made, FACTS)
