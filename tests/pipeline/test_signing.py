"""Signatures of releases, with real keys and the real library."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import paths, signing
from pipeline.digests import listing
from pipeline.errors import InputError, ParamsError, ReleaseUntrusted
from tests.conftest import Checkout
from tests.signed import make_release, trust


@pytest.fixture
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside of the checkout."""
    return tmp_path_factory.mktemp("secrets")


@pytest.fixture
def signed(checkout: Checkout, secrets: Path) -> Path:
    folder = make_release(Path("made"))
    signing.sign(folder, trust("ann", secrets))
    return folder


def files(folder: Path) -> dict[str, str]:
    return {path: digest for path, digest in listing(folder).items() if path not in signing.UNSIGNED}


def test_what_was_signed_is_accepted(signed: Path) -> None:
    signing.check("0" * 16, files(signed), (signed / signing.SIGNATURE).read_bytes())


def test_the_stock_tool_accepts_it_too_and_names_what_was_changed(signed: Path) -> None:
    (signed / "manifest.json").write_text("{}")
    public = paths.TRUSTED_KEYS / "ann.pub"
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(signed)]
    command += ["--signature", str(signed / signing.SIGNATURE), "--public_key", str(public)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (signed / "README.md").write_text("other")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "README.md" in done.stdout + done.stderr


@pytest.mark.parametrize("change", ["changed", "removed", "added", "renamed"])
def test_other_files_than_the_signed_are_named(signed: Path, change: str) -> None:
    found = files(signed)
    match change:
        case "changed":
            found["README.md"] = "0" * 64
        case "removed":
            del found["README.md"]
        case "added":
            found["README.md.bak"] = "0" * 64
        case "renamed":
            found["READ.md"] = found.pop("README.md")
    with pytest.raises(ReleaseUntrusted, match=r"made for other files, READ(ME)?\.md"):
        signing.check("0" * 16, found, (signed / signing.SIGNATURE).read_bytes())


def test_no_signature_is_refused_once_a_key_is_trusted(checkout: Checkout, secrets: Path) -> None:
    found = files(make_release(Path("made")))
    signing.check("0" * 16, found, None)
    trust("ann", secrets)
    with pytest.raises(ReleaseUntrusted, match=r"not signed.*infra/trusted-keys.*MOELORA_SIGNING_KEY"):
        signing.check("0" * 16, found, None)
    assert not signing.accepts("0" * 16, found, b"not json")


def test_of_two_trusted_keys_either_will_do_and_a_third_does_not(
    signed: Path, secrets: Path, tmp_path: Path
) -> None:
    signature = (signed / signing.SIGNATURE).read_bytes()
    trust("aaron", secrets)
    assert signing.accepts("0" * 16, files(signed), signature)
    (paths.TRUSTED_KEYS / "ann.pub").unlink()
    with pytest.raises(ReleaseUntrusted, match="none of the keys"):
        signing.check("0" * 16, files(signed), signature)


def test_every_byte_of_the_signature_counts(signed: Path) -> None:
    """Or changes nothing that is signed: layout, and what names the key."""
    signature = (signed / signing.SIGNATURE).read_bytes()
    start = signature.index(b'"payload"') + 20
    for at in range(start, start + 2000, 97):
        changed = bytes([signature[at] ^ 1])
        assert not signing.accepts("0" * 16, files(signed), signature[:at] + changed + signature[at + 1 :]), (
            at
        )


def test_the_key_to_sign_with_comes_from_the_environment_alone(
    checkout: Checkout, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(signing.VARIABLE, raising=False)
    assert signing.private_key() is None
    private = trust("ann", secrets)
    with pytest.raises(InputError, match="MOELORA_SIGNING_KEY is not set"):
        signing.private_key()
    monkeypatch.setenv(signing.VARIABLE, str(private))
    assert signing.private_key() == private
    assert private.stat().st_mode & 0o077 == 0
    monkeypatch.setenv(signing.VARIABLE, "nowhere.pem")
    with pytest.raises(InputError, match="names no file"):
        signing.private_key()


def test_a_key_that_nobody_trusts_signs_nothing(signed: Path, secrets: Path) -> None:
    other = secrets / "other.pem"
    signing.make_pair(other, secrets / "other.pub")
    with pytest.raises(InputError, match="none of those in infra/trusted-keys"):
        signing.sign(signed, other)
    assert not (signed / signing.SIGNATURE).exists()


def test_a_file_that_is_no_key_is_said_without_its_content(signed: Path, secrets: Path) -> None:
    (secrets / "bad.pem").write_text("hunter2")
    with pytest.raises(InputError, match="P-256") as caught:
        signing.sign(signed, secrets / "bad.pem")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [("ann.pem", None), ("notes.txt", b"x"), ("bad.pub", b"x"), ("secret.pub", "private")],
)
def test_a_file_among_the_keys_that_is_none_stops_everything(
    checkout: Checkout, secrets: Path, name: str, content: bytes | str | None
) -> None:
    private = trust("ann", secrets)
    public = (paths.TRUSTED_KEYS / "ann.pub").read_bytes()
    data = private.read_bytes() if content == "private" else content or public
    (paths.TRUSTED_KEYS / name).write_bytes(data)
    with pytest.raises(ParamsError, match=f"{name} is no public key"):
        signing.trusted_keys()


def test_a_public_key_of_another_kind_is_named(signed: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    key = ed25519.Ed25519PrivateKey.generate().public_key()
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (paths.TRUSTED_KEYS / "aaa.pub").write_bytes(pem)
    with pytest.raises(ParamsError, match=r"aaa\.pub is no public key on secp256r1"):
        signing.check("0" * 16, files(signed), (signed / signing.SIGNATURE).read_bytes())


def test_keys_are_never_overwritten_nor_put_into_the_checkout(checkout: Checkout, secrets: Path) -> None:
    private = trust("ann", secrets)
    with pytest.raises(InputError, match="never overwritten"):
        signing.make_pair(private, paths.TRUSTED_KEYS / "ben.pub")
    with pytest.raises(InputError, match="in this checkout"):
        signing.make_pair(Path("infra/ben.pem"), paths.TRUSTED_KEYS / "ben.pub")
    assert not (paths.TRUSTED_KEYS / "ben.pub").exists()
