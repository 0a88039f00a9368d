"""Lists of words: in the code, and in files beside it."""

import gzip
from pathlib import Path


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def lines_of(name: str) -> frozenset[str]:
    """The lines of a list beside this file."""
    with gzip.open(Path(__file__).with_name(f"{name}.txt.gz"), "rt", encoding="utf-8") as file:
        return frozenset(file.read().splitlines())
