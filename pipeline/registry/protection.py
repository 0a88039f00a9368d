"""What a bucket does for the objects in it: nothing here is set, its owner decides.

Default encryption and default retention hold for every object we write, without a header of ours;
what we send carries the checksums that a bucket with object lock asks for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.registry.store import Store


@dataclass(frozen=True)
class Protection:
    """None where a bucket has it not, or does not let us ask."""

    encryption: str | None  # of objects at rest, e.g. AES256 or aws:kms
    versioning: str | None  # Enabled or Suspended
    lock: str | None  # default retention of objects, e.g. GOVERNANCE 30 days


def read_protection(store: Store) -> Protection:
    """See Registry.protection."""
    return Protection(
        _ask(lambda: _encryption(store.client.get_bucket_encryption(Bucket=store.bucket))),
        _ask(lambda: store.client.get_bucket_versioning(Bucket=store.bucket)["Status"]),
        _ask(lambda: _lock(store.client.get_object_lock_configuration(Bucket=store.bucket))),
    )


def _encryption(answer: dict[str, Any]) -> str:
    rule = answer["ServerSideEncryptionConfiguration"]["Rules"][0]
    return str(rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"])


def _lock(answer: dict[str, Any]) -> str:
    retention = answer["ObjectLockConfiguration"]["Rule"]["DefaultRetention"]
    period = f"{retention['Days']} days" if "Days" in retention else f"{retention['Years']} years"
    return f"{retention['Mode']} {period}"


def _ask(question: Callable[[], str]) -> str | None:
    try:
        return question()
    except (BotoCoreError, ClientError, LookupError):
        return None
