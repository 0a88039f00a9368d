"""The de-identification key: 32 random bytes in ``MOELORA_DEID_KEY``, and the id it is known by.

Whoever has the key can tell whose surrogate is whose; the key itself is written nowhere. Its id
is public: it stands in a git-ignored file that stages depend on, in cache keys and in lineage.
"""

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Iterable

from pipeline import paths
from pipeline.errors import DeidKeyError
from pipeline.files import write_atomically

VARIABLE = "MOELORA_DEID_KEY"
LENGTH = 32
"""Bytes of a key."""

DEMO_KEY = hashlib.sha256(b"moelora demo key: sample data only").digest()
"""Published, so it protects nobody: accepted for the built-in sample data alone."""

_HOW = (
    f"export {VARIABLE}=$(openssl rand -base64 {LENGTH}) makes a new one; keep it: without it the same "
    "people get other surrogates in the next run"
)


def load(shards: Iterable[str]) -> bytes:
    """The key to de-identify ``shards`` with (16-hex digests of raw files): 32 bytes.

    Taken from the environment; where that is unset and all data is the built-in sample data, the
    demo key, with a printed note. Raises DeidKeyError for a missing or malformed key, and for
    the demo key with other data.
    """
    encoded = os.environ.get(VARIABLE)
    if encoded is None:
        if not _is_sample(shards):
            raise DeidKeyError(f"{VARIABLE} is not set and the data is not the sample data: {_HOW}")
        print("note: the published demo key is used, which is fit for the built-in sample data only")
        return DEMO_KEY
    try:
        key = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise DeidKeyError(f"{VARIABLE} is not base64: {_HOW}") from None
    if len(key) != LENGTH:
        raise DeidKeyError(f"{VARIABLE} holds {len(key)} bytes instead of {LENGTH}: {_HOW}")
    if hmac.compare_digest(key, DEMO_KEY) and not _is_sample(shards):
        raise DeidKeyError(
            f"{VARIABLE} holds the published demo key, which is for the sample data only: {_HOW}"
        )
    return key


def key_id(key: bytes) -> str:
    """The public name of a key: 16 hex digits that tell nothing about it."""
    return hmac.new(key, b"moelora-key-id", hashlib.sha256).hexdigest()[:16]


def write_key_id(shards: Iterable[str]) -> str:
    """Load the key for ``shards`` and leave its id where stages depend on it; returns the id."""
    identity = key_id(load(shards))
    write_atomically(paths.KEY_ID, identity + "\n")
    return identity


def check_key_id(key: bytes) -> None:
    """Raise DeidKeyError unless ``key`` is the one whose id stands in ``paths.KEY_ID``."""
    try:
        expected = paths.KEY_ID.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise DeidKeyError(
            f"{paths.KEY_ID} is missing: `moelora retrain` and `moelora stage deidentify` write it"
        ) from None
    except UnicodeDecodeError:
        expected = ""
    if not hmac.compare_digest(key_id(key), expected):
        raise DeidKeyError(
            f"the key in use has the id {key_id(key)} and {paths.KEY_ID} names another one: set {VARIABLE} "
            f"to the key the data was made with, or delete {paths.KEY_ID} to de-identify everything anew"
        )


def _is_sample(shards: Iterable[str]) -> bool:
    from pipeline import sample_data

    return set(shards) <= sample_data.shards()
