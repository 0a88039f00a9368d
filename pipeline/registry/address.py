"""Which S3 a value of ``publish.registry`` names."""

import re

from pipeline import paths
from pipeline.errors import ParamsError

LOCAL = "local"
"""Value of ``publish.registry`` that names the local S3 server."""

LOCAL_CONFIG = paths.SERVICES / "aws_config"
"""AWS config file of the local S3 server: endpoint and keys."""

LOCAL_BUCKET = "moelora"
LOCAL_URL = f"s3://{LOCAL_BUCKET}/registry"

_URL = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/([\w.-]+(?:/[\w.-]+)*)", re.ASCII)


def location(url: str) -> str:
    """``s3://BUCKET/PREFIX`` of a value of ``publish.registry``."""
    return LOCAL_URL if url == LOCAL else url


def parse(url: str) -> tuple[str, str]:
    """Bucket and prefix of ``s3://BUCKET/PREFIX``. Raises ParamsError."""
    match = _URL.fullmatch(url)
    if match is None or not {".", ".."}.isdisjoint(match[2].split("/")):
        raise ParamsError("publish.registry must be local or look like s3://BUCKET/PREFIX")
    return match[1], match[2]
