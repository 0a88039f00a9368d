"""What verify says of releases, in the registry and on this disk, after every kind of tampering."""

import json
import random
import re
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pipeline import paths, signing, tensors
from pipeline.digests import file_digest, listing_digest
from pipeline.errors import ReleaseCorrupt, ReleaseErased, ReleaseUntrusted
from pipeline.registry import Registry, verify_folder
from pipeline.verify import ADAPTER, FACTS, folder_problems, problems
from tests.conftest import Checkout
from tests.signed import LAYERS, make_base, make_release, trust
from tests.tampering import KINDS, tamper

FACTS_OF_PUBLICATION = {"by": "Ann", "reason": "a test"}
TASK = "tasks/gout/adapter_model.safetensors"


@pytest.fixture
def key(checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trust("ann", tmp_path_factory.mktemp("secrets"))


@pytest.fixture
def made(checkout: Checkout) -> Path:
    return make_release(Path("made"))


@pytest.fixture
def published(empty_registry: Registry, made: Path, key: Path) -> str:
    signing.sign(made, key)
    return empty_registry.publish(made, FACTS_OF_PUBLICATION).release


def object_name(store: Registry, release: str, path: str) -> str:
    return f"{store.store.prefix}/releases/{release}/{path}"


def put(store: Registry, release: str, path: str, data: bytes) -> None:
    key = object_name(store, release, path)
    store.store.client.put_object(Bucket=store.store.bucket, Key=key, Body=data)


def remove(store: Registry, release: str, path: str) -> None:
    store.store.client.delete_object(Bucket=store.store.bucket, Key=object_name(store, release, path))


def contents(folder: Path) -> dict[str, bytes]:
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    return {name: data for name, data in found.items() if name not in signing.UNSIGNED}


def test_a_signed_release_that_fits_its_base_has_no_problems(
    empty_registry: Registry, key: Path, checkout: Checkout
) -> None:
    folder = make_release(Path("fitting"), base=make_base())
    signing.sign(folder, key)
    release = empty_registry.publish(folder, FACTS_OF_PUBLICATION).release
    assert problems(empty_registry, release) == []
    assert folder_problems(empty_registry.pull(release)) == []


@pytest.mark.parametrize("kind", KINDS)
def test_tampering_in_the_registry_is_refused_and_named(
    empty_registry: Registry, published: str, made: Path, kind: str
) -> None:
    before = contents(made)
    for seed in range(4):
        after, concerned = tamper(before, kind, random.Random(f"{kind} {seed}"))
        for name in before.keys() - after.keys():
            remove(empty_registry, published, name)
        for name, data in after.items():
            if before.get(name) != data:
                put(empty_registry, published, name, data)
        text = "; ".join(problems(empty_registry, published))
        assert all(name in text for name in concerned), (concerned, text)
        if kind != "added":  # what no manifest names is not copied
            with pytest.raises(ReleaseCorrupt):
                empty_registry.pull(published, Path(f"pulled-{seed}"))
            assert not Path(f"pulled-{seed}").exists()
        for name in after.keys() - before.keys():
            remove(empty_registry, published, name)
        for name, data in before.items():
            if after.get(name) != data:
                put(empty_registry, published, name, data)
    assert problems(empty_registry, published) == []


def test_tampering_with_a_pulled_folder_is_refused_and_named(
    empty_registry: Registry, published: str, made: Path
) -> None:
    folder = empty_registry.pull(published, Path("pulled"))
    before = contents(made)
    for number in range(25):
        after, concerned = tamper(before, KINDS[number % 5], random.Random(number))
        for name in before.keys() | after.keys():
            path = folder / name
            path.unlink(missing_ok=True)
            if name in after:
                path.write_bytes(after[name])
        with pytest.raises(ReleaseCorrupt) as caught:
            verify_folder(folder, published)
        assert all(name in str(caught.value) for name in concerned), (concerned, str(caught.value))
        for name in after:
            (folder / name).unlink()
        for name, data in before.items():
            (folder / name).write_bytes(data)
    verify_folder(folder, published)


def test_who_can_write_manifests_cannot_sign_them(
    empty_registry: Registry, published: str, made: Path
) -> None:
    """An id is no proof of origin: whoever may write can make a release that fits its own manifest."""
    (made / "README.md").write_text("# Another card\n")
    manifest = json.loads(
        empty_registry.store.get(object_name(empty_registry, published, "manifest.json")) or b""
    )
    files = contents(made)

    for file in manifest["files"]:
        file["sha256"], file["size"] = file_digest(made / file["path"]), len(files[file["path"]])
    forged = listing_digest({file["path"]: file["sha256"] for file in manifest["files"]})[:16]
    for name, data in files.items():
        put(empty_registry, forged, name, data)
    put(empty_registry, forged, "manifest.json", json.dumps(manifest | {"release": forged}).encode())
    uses = (
        lambda: empty_registry.pull(forged),
        lambda: empty_registry.read(forged, "gate.json"),
        lambda: empty_registry.manifest(forged),
        lambda: empty_registry.move("champion", forged, "Eve", "hers", None),
    )
    for use in uses:
        with pytest.raises(ReleaseCorrupt, match="not signed"):
            use()
    put(empty_registry, forged, "manifest.sig", (made / "manifest.sig").read_bytes())
    for use in uses:
        with pytest.raises(ReleaseCorrupt, match=r"made for other files, README\.md among them"):
            use()
    assert "README.md" in problems(empty_registry, forged)[0]
    assert not empty_registry.exists(forged)
    assert empty_registry.read_each([forged, published], "gate.json").keys() == {published}


def test_an_unsigned_folder_is_not_published_once_a_key_is_trusted(
    empty_registry: Registry, made: Path, key: Path
) -> None:
    with pytest.raises(ReleaseUntrusted, match="not signed"):
        empty_registry.publish(made, FACTS_OF_PUBLICATION)
    assert empty_registry.releases() == []


def test_publishing_again_signs_a_release_from_before_the_key(
    empty_registry: Registry, made: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    release = empty_registry.publish(made, FACTS_OF_PUBLICATION).release
    folder = empty_registry.pull(release)
    key = trust("ann", tmp_path_factory.mktemp("secrets"))
    with pytest.raises(ReleaseUntrusted):
        verify_folder(folder, release)
    assert not empty_registry.exists(release)
    signing.sign(made, key)
    receipt = empty_registry.publish(made, FACTS_OF_PUBLICATION)
    assert (receipt.release, receipt.already, receipt.uploaded) == (release, True, 0)
    assert empty_registry.exists(release)
    verify_folder(empty_registry.pull(release), release)


def test_a_good_signature_is_not_replaced(
    empty_registry: Registry, published: str, made: Path, key: Path
) -> None:
    where = object_name(empty_registry, published, "manifest.sig")
    before = empty_registry.store.get(where)
    signing.sign(made, key)
    assert (made / "manifest.sig").read_bytes() != before
    empty_registry.publish(made, FACTS_OF_PUBLICATION)
    assert empty_registry.store.get(where) == before
    put(empty_registry, published, "manifest.sig", b"vandalised")
    empty_registry.publish(made, FACTS_OF_PUBLICATION)
    assert problems(empty_registry, published) == []


def test_a_withdrawn_release_is_refused_everywhere(
    empty_registry: Registry, published: str, made: Path
) -> None:
    folder = empty_registry.pull(published)
    assert empty_registry.erase(published, "Ann", "a request") is True
    assert empty_registry.erase(published, "Ann", "a request") is False
    for use in (
        lambda: empty_registry.pull(published),
        lambda: empty_registry.pull(published, folder),
        lambda: empty_registry.read(published, "gate.json"),
        lambda: empty_registry.exists(published),
        lambda: empty_registry.verify(published),
        lambda: empty_registry.publish(made, FACTS_OF_PUBLICATION),
        lambda: empty_registry.move("champion", published, "Ben", "his", None),
    ):
        with pytest.raises(ReleaseErased, match="had to be erased"):
            use()
    assert empty_registry.channel() is None
    told = [entry for entry in empty_registry.history() if entry["event"] == "erased"]
    assert [(entry["release"], entry["by"]) for entry in told] == [(published, "Ann")]


# Contents


def save(folder: Path, path: str, **changes: np.ndarray | None) -> None:
    values = load_file(folder / path)
    for name, value in changes.items():
        values.pop(name, None)
        if value is not None:
            values[name] = value
    save_file(values, folder / path)


@pytest.mark.parametrize(
    ("path", "name", "value", "said"),
    [
        (ADAPTER, "layers.model.layers.0.q_proj.A", np.zeros((4, 31), "float32"), r"\[4, 31\].*\[4, 32\]"),
        (ADAPTER, "layers.model.layers.0.q_proj.B", None, "is missing"),
        (ADAPTER, "layers.model.layers.9.q_proj.B", np.zeros((32, 4), "float32"), "belongs to no layer"),
        (
            TASK,
            "base_model.model.model.layers.0.q_proj.lora_B.weight",
            np.zeros((4, 32), "float32"),
            "has the shape",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    made: Path, path: str, name: str, value: np.ndarray | None, said: str
) -> None:
    save(made, path, **{name: value})
    (text,) = folder_problems(made)
    assert text.startswith(f"file {path}: tensor {name} ")

    assert re.search(said, text)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x80\x04pickle", "does not begin"),
        (struct.pack("<Q", 2) + b"{}" + b"tail", "speaks of 10"),
        (struct.pack("<Q", 9) + b"not json!", "damaged"),
        (b"", "does not begin"),
        (
            struct.pack("<Q", 60)
            + b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}'.ljust(60)
            + b"1234",
            "place of a does not fit",
        ),
    ],
)
def test_what_is_no_safetensors_file_is_named(made: Path, data: bytes, said: str) -> None:
    (made / TASK).write_bytes(data)
    (text,) = [text for text in folder_problems(made) if TASK in text]
    assert "no safetensors file" in text and said in text


def test_other_kinds_of_files_are_named(made: Path) -> None:
    (made / "tasks/gout/adapter_model.bin").write_bytes(b"\x80\x04")
    assert folder_problems(made) == [
        "file tasks/gout/adapter_model.bin: neither safetensors, JSON nor Markdown: a release holds nothing else"
    ]


def test_layers_that_the_base_has_not_are_named(checkout: Checkout) -> None:
    other = dict(LAYERS) | {"model.layers.0.q_proj": (16, 32)}
    digest = make_base(other)
    (text,) = folder_problems(make_release(Path("made"), base=digest))
    assert text.startswith(f"file {FACTS}: layer model.layers.0.q_proj maps 32 to 32, and is [32, 16]")
    assert folder_problems(make_release(Path("of-another-base"))) == []

    shutil.rmtree(paths.BASE)
    del other["model.layers.0.q_proj"]
    (text,) = folder_problems(make_release(Path("missing"), base=make_base(other)))
    assert "layer model.layers.0.q_proj is none of the base" in text


def test_headers_are_read_as_the_library_writes_them(tmp_path: Path) -> None:
    values = {
        "a": np.zeros((3, 2), "float16"),
        "empty": np.zeros((0, 5), "float32"),
        "scalar": np.ones((), "float64"),
    }
    save_file(values, tmp_path / "x.safetensors")
    assert tensors.read_shapes(tmp_path / "x.safetensors") == {"a": (3, 2), "empty": (0, 5), "scalar": ()}
