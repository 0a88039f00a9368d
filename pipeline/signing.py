"""Signatures of releases by OpenSSF model-signing, with elliptic-curve keys and no network.

    infra/trusted-keys/*.pub    committed: whose signatures are accepted (PEM). One key there, and an
                                unsigned or wrongly signed release is refused wherever one is read
    MOELORA_SIGNING_KEY         path of the private key (PEM, unencrypted) that ``publish`` signs with;
                                in no parameter, no report and no commit

``manifest.sig`` beside a release's files is a Sigstore bundle: an in-toto statement of every file's
SHA-256 in a DSSE envelope (https://model-signing.org/signature/v1.0). The stock tool reads it too::

    model_signing verify key FOLDER --signature FOLDER/manifest.sig --public_key infra/trusted-keys/a.pub

manifest.json is left out of the statement: it says the same, and the two are compared here.
"""

import io
import os
import tempfile
import threading
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from pipeline import paths
from pipeline.errors import InputError, ParamsError, ReleaseUntrusted
from pipeline.files import write_atomically

_printing = threading.Lock()

VARIABLE = "MOELORA_SIGNING_KEY"
SIGNATURE = "manifest.sig"
UNSIGNED = ("manifest.json", SIGNATURE)
"""Files of a release's folder that no signature covers."""

_PEM = b"-----BEGIN PUBLIC KEY-----"
_CURVES = ("secp256r1", "secp384r1", "secp521r1")


def trusted_keys() -> list[Path]:
    """The public keys that this repository trusts, by name; none where no folder holds any.

    Raises ParamsError for any other file there: a key that is not read must not look like trust.
    """
    folder = paths.TRUSTED_KEYS
    found = sorted(path for path in folder.glob("*") if path.name not in ("README.md", ".gitkeep"))
    for path in found:
        if path.suffix != ".pub" or not path.read_bytes().lstrip().startswith(_PEM):
            raise ParamsError(
                f"{path} is no public key in PEM named *.pub: remove it, or make a pair by "
                "`moelora signing-key NAME --to FILE`. A private key that was committed is to be replaced"
            )
    return found


def private_key() -> Path | None:
    """The file named by MOELORA_SIGNING_KEY, or None where nothing is to be signed.

    Raises InputError where the file is missing, or where keys are trusted here and none is set:
    what would be published would be refused.
    """
    named = os.environ.get(VARIABLE)
    if named:
        if not Path(named).is_file():
            raise InputError(f"{VARIABLE} names no file: set it to the path of the private key")
        return Path(named)
    if trusted_keys():
        raise InputError(
            f"{paths.TRUSTED_KEYS} names whom to trust and {VARIABLE} is not set, so the release would be "
            f"refused: export {VARIABLE}=FILE, the private key of one of them"
        )
    return None


def sign(folder: Path, key: Path) -> None:
    """Sign all files below ``folder``, as they are now, into ``folder/manifest.sig``.

    Raises InputError where ``key`` is no usable private key, or no trusted one's.
    """
    from model_signing import hashing
    from model_signing import signing as openssf

    covered: Any = hashing.Config()  # type: ignore[no-untyped-call]
    covered.set_ignored_paths(paths=UNSIGNED, ignore_git_paths=False)
    covered.use_file_serialization(ignore_paths=[folder / name for name in UNSIGNED])
    try:
        config: Any = openssf.Config()  # type: ignore[no-untyped-call]
        config.use_elliptic_key_signer(private_key=key)
    except Exception as error:  # what the library says of a file may hold parts of it
        raise InputError(
            f"{VARIABLE} names no unencrypted PEM file of a private key on P-256, P-384 or P-521 "
            f"({type(error).__name__}): `moelora signing-key NAME --to FILE` makes one"
        ) from None
    signature = folder / SIGNATURE
    signature.unlink(missing_ok=True)
    config.set_hashing_config(covered).sign(folder, signature)
    if trusted_keys() and _signed_by_trusted(signature.read_bytes()) is None:
        signature.unlink()
        raise InputError(
            f"the key of {VARIABLE} is none of those in {paths.TRUSTED_KEYS}: commit its public key there, "
            "or use the private key of one of them"
        )


def check(release: str, files: Mapping[str, str], signature: bytes | None) -> None:
    """Raise ReleaseUntrusted unless a trusted key signed exactly ``files`` (path to hex SHA-256).

    Accepts everything where no key is trusted. Raises ParamsError for an unusable trusted key.
    """
    if not trusted_keys():
        return
    if signature is None:
        raise ReleaseUntrusted(
            f"release {release} is not signed, and {paths.TRUSTED_KEYS} names whom to trust: sign it by "
            f"publishing it again with {VARIABLE} set"
        )
    signed = _signed_by_trusted(signature)
    if signed is None:
        raise ReleaseUntrusted(
            f"release {release}: {SIGNATURE} is of none of the keys in {paths.TRUSTED_KEYS}, or damaged: do "
            "not use it; ask who published it, and publish it again with a trusted key"
        )
    if signed != files:
        wrong = sorted(path for path in {*signed, *files} if signed.get(path) != files.get(path))
        raise ReleaseUntrusted(
            f"release {release}: {SIGNATURE} was made for other files, {', '.join(wrong[:5])} among them: do "
            "not use it; publish it again with a trusted key"
        )


def accepts(release: str, files: Mapping[str, str], signature: bytes | None) -> bool:
    """Whether ``check`` has nothing to say."""
    try:
        check(release, files, signature)
    except ReleaseUntrusted:
        return False
    return True


def make_pair(private: Path, public: Path) -> None:
    """A new pair on P-256: ``private`` for its owner alone, ``public`` for the repository.

    Raises InputError where either is there already, or ``private`` would lie in this checkout.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    for path in (private, public):
        if path.exists():
            raise InputError(f"{path} is there already: name another file, keys are never overwritten")
    if private.resolve().is_relative_to(Path.cwd()):
        raise InputError(f"{private} lies in this checkout, where it could be committed: name a file outside")
    key = ec.generate_private_key(ec.SECP256R1())
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    known = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    private.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secret)
    write_atomically(public, known)


def _signed_by_trusted(signature: bytes) -> dict[str, str] | None:
    """The files that a trusted key signed, path to hex SHA-256; None where none of them did."""
    for key in trusted_keys():
        verifier = _verifier(key)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, SIGNATURE)
            path.write_bytes(signature)
            try:
                return _verified(verifier, path)
            except Exception:  # noqa: S112  # whatever is wrong with foreign bytes, they prove nothing
                continue
    return None


def _verifier(key: Path) -> Any:
    # Of the library's inner part, since its front door wants the files on this disk: here the
    # statement is compared with the manifest, whose digests every byte is compared with.
    from model_signing._signing.sign_ec_key import Verifier

    try:
        return Verifier(key)
    except Exception as error:
        raise ParamsError(
            f"{key} is no public key on {', '.join(_CURVES)} ({type(error).__name__}): replace or remove it"
        ) from None


def _verified(verifier: Any, path: Path) -> dict[str, str]:
    from model_signing._signing.sign_sigstore_pb import Signature

    # It prints notes, and standard output may be a machine's; one thread at a time, since each would
    # otherwise put back what another had put there.
    with _printing, redirect_stdout(io.StringIO()):
        manifest = verifier.verify(Signature.read(path))
    resources = list(manifest.resource_descriptors())
    if any(resource.digest.algorithm != "sha256" for resource in resources):
        raise ValueError("digests of another algorithm")
    return {resource.identifier: resource.digest.digest_hex for resource in resources}
