"""The S3 client: how it is configured, and its errors as errors of the pipeline."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import botocore.session
from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from pipeline.errors import RegistryError, RegistryUnavailable

CONNECTIONS = 8
ATTEMPTS = 3  # of a request, and of a download that breaks off
CONNECT_TIMEOUT = 3  # s
READ_TIMEOUT = 30  # s without a byte of an answer

_REMEDY = (
    "publish.registry in params.yaml decides: `local` is this checkout's server (`moelora services start`), "
    "s3://BUCKET/PREFIX is found by AWS_PROFILE or keys and AWS_ENDPOINT_URL; `moelora doctor` looks at it"
)


def connect(config: Path | None = None, attempts: int = ATTEMPTS) -> Any:
    """An S3 client by boto3's standard chain, or by the [default] profile of ``config`` alone.

    Raises RegistryUnavailable where the configuration itself is broken.
    """
    try:
        session = botocore.session.Session()
        endpoint = None
        if config is not None:
            # An explicit profile keeps credentials of the environment out.
            session.set_config_variable("profile", "default")
            session.set_config_variable("config_file", str(config))
            session.set_config_variable("credentials_file", os.devnull)
            endpoint = session.get_scoped_config().get("endpoint_url")
        client = Session(botocore_session=session).client(
            "s3", endpoint_url=endpoint, config=client_config(attempts, endpoint)
        )
    except (BotoCoreError, ValueError) as error:
        raise RegistryUnavailable(f"The S3 configuration cannot be used: {error}. {_REMEDY}") from error
    return client


def client_config(attempts: int, endpoint: str | None) -> Config:
    """Time limits and retries of a client, for the server at ``endpoint`` (None: AWS)."""
    loopback = urlsplit(endpoint or "").hostname == "127.0.0.1"
    return Config(
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=2 * CONNECTIONS,
        # Downloads are compared with the manifest's SHA-256, which makes S3's own sums superfluous.
        response_checksum_validation="when_required",
        # The headers, which are signed, hold a sum of what is sent; one more pass over it adds nothing.
        s3={"payload_signing_enabled": False},
        # A proxy set for the internet must not be asked for this machine's own server.
        proxies={} if loopback else None,
    )


def answers(config: Path) -> bool:
    """Whether the S3 server named by an AWS config file answers its keys."""
    try:
        connect(config, attempts=1).list_buckets()
    except (BotoCoreError, ClientError, RegistryUnavailable):
        return False
    return True


def prepare_bucket(config: Path, bucket: str) -> None:
    """Make a bucket where it is absent, and prove that objects can be stored in it: for the local
    server, which answers before its disks do; all other buckets are their owner's.

    Raises RegistryUnavailable.
    """
    client = connect(config, attempts=1)
    with as_registry_errors(f"{client.meta.endpoint_url}/{bucket}"):
        if bucket not in {each["Name"] for each in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=bucket)
        client.put_object(Bucket=bucket, Key="probe", Body=b"probe")
        client.delete_object(Bucket=bucket, Key="probe")


@contextmanager
def as_registry_errors(address: str) -> Iterator[None]:
    """Let nothing of botocore out: RegistryUnavailable or RegistryError instead."""
    try:
        yield
    except ClientError as error:
        code = error.response["Error"].get("Code", "")
        answered = status(error)
        if answered in (401, 403) or code in ("InvalidAccessKeyId", "SignatureDoesNotMatch"):
            what = f"refuses {error.operation_name} ({code})"
        elif code == "NoSuchBucket":
            what = "has no such bucket; buckets are made by you, never by a run"
        elif answered >= 500 or answered == 429:
            what = f"cannot answer {error.operation_name} now ({code})"
        else:
            raise RegistryError(f"{address}: {error.operation_name} failed with {code}") from error
        raise RegistryUnavailable(f"S3 at {address} {what}. {_REMEDY}") from error
    except BotoCoreError as error:
        raise RegistryUnavailable(f"S3 at {address} cannot be reached: {error}. {_REMEDY}") from error


def status(error: ClientError) -> int:
    """The HTTP status of S3's answer."""
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


def is_absent(error: ClientError) -> bool:
    """Whether S3 says that there is no such object."""
    return error.response["Error"].get("Code") in ("NoSuchKey", "404")
