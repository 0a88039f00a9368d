"""A second look at the output, by other means than the detectors': what is left outside surrogates.

Three searches: the originals of each group in that group's output, however their digits are set
apart; shapes of contacts, ids and dates, by another regular expression engine and plainer patterns;
and the models once more over a sample, all of it and not only what the screen gives them to read.
And how much of the PHI of generated, labelled documents is found at all. Counts only.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.cache import Cache
from pipeline.deidentify.chinese_surrogates import is_chinese
from pipeline.deidentify.eponyms import EPONYM_NOUN
from pipeline.deidentify.labelled import ALL, Labelled, in_group, recalls
from pipeline.deidentify.naming import name_forms
from pipeline.deidentify.replace import Replaced
from pipeline.deidentify.spans import Span
from pipeline.deidentify.vocabulary import common_words
from pipeline.deidentify.workers import Workers, result
from pipeline.digests import code_digest, value_digest

_MONTHS = r"(?:January|February|March|April|May|June|July|August|September|October|November|December)"
LOOKED_AT = 50_000
"""Characters of a sample of the output that the models read in full: about four seconds' work."""
MANY = 1_000
"""Texts from which on a sample has 256 parts: few new ones among so many would change each of 16."""
SHAPES = {
    "EMAIL": r"[\w.+-]+@[\w-]+\.[A-Za-z]{2,}",
    "PHONE": r"\b\d{3}[-. )]{1,2}\d{3}[-. ]\d{4}\b|(?:^|[^\w.])1[3-9]\d{9}(?:\D|$)",
    "ID": r"(?:^|\D)[1-9]\d{5}(?:19|20)\d{9}[\dXx](?:\D|$)|"
    r"\b\d{3}-\d{2}-\d{4}\b|\b(?i:mrn|ssn|medical record number)\W{0,3}\d{4,}",
    "DATE": rf"\b\d{{1,2}}[/-]\d{{1,2}}[/-](?:19|20)\d{{2}}\b|\b(?:19|20)\d{{2}}-\d{{2}}-\d{{2}}\b"
    r"|(?:19|20)\d{2}年\d{1,2}月\d{1,2}[日号]"
    rf"|\b{_MONTHS}\s+\d{{1,2}}(?:st|nd|rd|th)?,?\s+(?:19|20)\d{{2}}\b|\b\d{{1,2}}\s+{_MONTHS}\s+(?:19|20)\d{{2}}\b",
}
"""What looks like PHI by its shape alone, for Rust's regular expressions."""


def uncovered(replaced: Replaced) -> str:
    """The text with every surrogate blanked out."""
    text = replaced.text
    for start, end, _ in replaced.spans:
        text = text[:start] + "\n" * (end - start) + text[end:]
    return text


def originals(found: Iterable[tuple[str, str]]) -> list[tuple[str, re.Pattern[str]]]:
    """Kind and pattern of what must not be left of a group's findings."""
    patterns = set()
    names = []
    for kind, text in found:
        digits = "".join(re.findall(r"\d", text))
        if kind == "NAME" and is_chinese(kind, text):
            if len(text) > 1:
                patterns.add((kind, re.escape(text)))
        elif kind == "NAME":
            names.append(text)
        elif kind in ("PHONE", "ID") and len(digits) >= 6:
            patterns.add((kind, r"(?<!\d)" + r"[\s().-]{0,2}".join(digits) + r"(?!\d)"))
        elif kind in ("ID", "EMAIL") and len(text) > 3:
            patterns.add((kind, rf"(?i)(?<!\w){re.escape(text)}(?!\w)"))
    patterns |= {
        ("NAME", rf"(?<!\w){form}(?!\w)")
        for word, form in name_forms(names).items()
        if word not in common_words()
    }
    return [(kind, re.compile(pattern)) for kind, pattern in sorted(patterns)]


def left_over(patterns: Sequence[tuple[str, re.Pattern[str]]], texts: Iterable[str]) -> Counter[str]:
    """How often a group's originals stand in texts whose surrogates are blanked out, by kind."""
    counts: Counter[str] = Counter()
    for text in texts:
        for kind, pattern in patterns:
            counts[kind] += sum(
                kind != "NAME" or not EPONYM_NOUN.match(text, match.end()) for match in pattern.finditer(text)
            )
    return +counts


def shapes(texts: pl.Series) -> pl.DataFrame:
    """For each text whose surrogates are blanked out, the number of SHAPES in it: a column a kind."""
    return pl.DataFrame({kind: texts.str.count_matches(pattern) for kind, pattern in SHAPES.items()})


class SecondLook:
    """What the models still find in texts whose surrogates are blanked out, up to LOOKED_AT characters.

    Names of authors, towns and the like that the detectors leave are counted too: this is an upper
    bound to read, and no residual to gate on. ``workers`` look while others go on; parts of the
    sample that were looked at before are not read again. ``depends_on``: what decides what is
    found, as for findings.
    """

    def __init__(
        self, texts: Iterable[str], min_score: float, depends_on: Mapping[str, object], workers: Workers
    ) -> None:
        self._chosen = list(_first(texts))
        parts: dict[str, list[str]] = {}
        digits = 1 if len(self._chosen) < MANY else 2
        for text in self._chosen:
            # By content, so that a new text changes one part and moves none to another.
            parts.setdefault(value_digest(text)[:digits], []).append(text)
        self._cache = Cache("deidentify")
        audit = code_digest([Path(__file__)])
        keyed = {
            Cache.key(looked_at=value_digest(part), audit=audit, **dict(depends_on)): part
            for part in parts.values()
        }
        self._known: Counter[str] = Counter()
        self._running: dict[str, Future[dict[str, int]]] = {}
        for key, part in keyed.items():
            entry = self._cache.get(key)
            if entry:
                self._known.update(json.loads((entry / "found.json").read_text()))
            else:
                self._running[key] = workers.submit(look, part, min_score)

    def result(self) -> dict[str, Any]:
        """``records`` and ``characters`` looked at, and what was ``found``, by kind."""
        found = self._known.copy()
        for key, looking in self._running.items():
            seen = result(looking)
            with self._cache.put(key) as folder:
                (folder / "found.json").write_text(json.dumps(seen))
            found.update(seen)
        return {
            "records": len(self._chosen),
            "characters": sum(map(len, self._chosen)),
            "found": dict(sorted(found.items())),
        }


def look(texts: Sequence[str], min_score: float) -> dict[str, int]:
    """By kind, how much the models find in ``texts`` where they read all of them."""
    from pipeline.deidentify.detect import detector

    return Counter(span.kind for spans in detector(min_score).unscreened(texts) for span in spans)


def _first(texts: Iterable[str]) -> Iterator[str]:
    characters = 0
    for text in texts:
        if characters >= LOOKED_AT:
            return
        yield text
        characters += len(text)


def recall(
    documents: Sequence[dict[str, Any]], findings: Sequence[Sequence[Span]]
) -> dict[str, dict[str, float]]:
    """By labelled kind: spans whose every letter and digit is found, labelled spans, and their ratio.

    ``low`` and ``high``: its 95 % interval of Wilson.

    Each document counts as a group of its own: a name found once is found everywhere in it.
    """
    labelled = [
        Labelled("generated", each["text"], [(s["start"], s["end"], s["kind"]) for s in each["spans"]])
        for each in documents
    ]
    found = [
        in_group(each["text"], spans, each["doc_id"]) for each, spans in zip(documents, findings, strict=True)
    ]
    return {
        row.category: {
            "found": row.found,
            "labelled": row.labelled,
            "recall": round(row.recall, 4),
            "low": round(row.low, 4),
            "high": round(row.high, 4),
        }
        for row in recalls(labelled, found)
        if row.category != ALL
    }
