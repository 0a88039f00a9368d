"""How far a transfer is, told from many threads."""

import threading
from collections.abc import Callable

Tell = Callable[[int, int], object]
"""Called with the bytes done and the bytes to do, by one thread at a time."""


class Meter:
    """Adds up bytes and tells them; ``total`` in bytes."""

    def __init__(self, total: int, tell: Tell | None) -> None:
        self._done = 0
        self._total = total
        self._tell = tell
        self._lock = threading.Lock()

    def add(self, size: int) -> None:
        """So many bytes more are where they belong."""
        with self._lock:
            self._done += size
            if self._tell is not None:
                self._tell(self._done, self._total)
