"""Objects below one S3 prefix."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.errors import RegistryError
from pipeline.registry.client import ATTEMPTS, CONNECTIONS, is_absent, status

LARGEST = 16 << 20  # bytes of an object that is read into memory as it is

S = TypeVar("S")
T = TypeVar("T")


class Store:
    """``client``'s view of ``s3://bucket/prefix``; its methods raise botocore's errors."""

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self.client = client
        self.bucket = bucket
        self.prefix = prefix
        self.address = f"{client.meta.endpoint_url}/{bucket}/{prefix}"

    def key(self, *parts: str) -> str:
        """The key of an object below the prefix."""
        return "/".join((self.prefix, *parts))

    def list(self, start: str, after: str = "") -> Iterator[dict[str, Any]]:
        """``Key``, ``Size``, ``LastModified`` … of each object whose key starts with ``start`` and
        comes after ``after``, in order of keys."""
        request = {"StartAfter": after} if after else {}
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=start, **request
        )
        for page in pages:
            yield from page.get("Contents", [])

    def get(self, key: str) -> bytes | None:
        """An object's bytes, or None where there is none."""
        found = self.get_version(key)
        return None if found is None else found[0]

    def get_version(self, key: str) -> tuple[bytes, str] | None:
        """An object's bytes and their ETag, or None where there is none."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                answer = self.client.get_object(Bucket=self.bucket, Key=key)
                if answer["ContentLength"] > LARGEST:
                    raise RegistryError(f"{key} has more than {LARGEST} bytes: an administrator looks")
                return answer["Body"].read(), answer["ETag"]
            except ClientError as error:
                if self.lacks(key, error):
                    return None
                raise
            except BotoCoreError:
                # The client repeats requests, and not answers that break off.
                if attempt == ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def lacks(self, key: str, error: ClientError) -> bool:
        """Whether ``error`` says that there is no such object. AWS answers 403 for a missing one to whom
        it does not grant listing without a prefix: a list tells. Raises ClientError where that is
        refused too."""
        if status(error) == 403:
            return all(item["Key"] != key for item in self.list(key))
        return is_absent(error)

    def put(self, key: str, data: bytes, **condition: str) -> str | None:
        """Write an object on a condition; its ETag, or None where the condition does not hold.

        None does not prove that somebody else wrote: where the answer to a first try was lost,
        the repeat finds its own object in the way. Callers look at what stands there.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                answer = self.client.put_object(Bucket=self.bucket, Key=key, Body=data, **condition)
                return str(answer["ETag"])
            except ClientError as error:
                # AWS answers 409 while another write is under way, and 404 to If-Match where the
                # object is gone.
                if status(error) == 409 and attempt < ATTEMPTS:
                    continue
                if status(error) in (409, 412) or is_absent(error):
                    return None
                raise
        raise AssertionError("unreachable")


def in_parallel(work: Callable[[S], T], items: list[S]) -> list[tuple[S, T]]:
    """Each item with what ``work`` made of it, several at once, in the order of ``items``."""
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return list(zip(items, pool.map(work, items), strict=True))
