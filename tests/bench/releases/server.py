"""A SeaweedFS of the benchmark's own, and AWS config files that lead to it straight or by a proxy."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from flows import local_s3
from pipeline.registry import Registry, connect
from pipeline.registry.store import Store

BUCKET = "moelora"


class Server:
    """A running server; ``config`` is its AWS config file."""

    def __init__(self, config: Path) -> None:
        self.config = config
        self.port = urlsplit(connect(config).meta.endpoint_url).port or 0

    def registry(self, prefix: str) -> Registry:
        """The registry below ``prefix``, straight."""
        return Registry(Store(connect(self.config), BUCKET, prefix))

    def config_by(self, port: int) -> Path:
        """A config file that leads to ``port``, where a proxy stands."""
        path = self.config.with_name(f"by-{port}")
        path.write_text(self.config.read_text().replace(f":{self.port}", f":{port}"))
        return path


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Server]:
    """A server with its data in ``folder``."""
    data = folder / "services" / "s3"
    local_s3.start(data, BUCKET)
    try:
        yield Server(local_s3.config_file(data))
    finally:
        local_s3.stop(data)
