"""Finding PHI in English text: a Presidio analyzer over two models and our patterns.

>>> Detector(min_score=0.4).detect(["Seen by Dr. Ada Moss."])
[[Span(start=8, end=20, kind='NAME')]]

Organisations and nationalities are not asked for.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from pipeline.deidentify import patterns
from pipeline.deidentify.casing import recased
from pipeline.deidentify.entities import accepted
from pipeline.deidentify.joining import joined
from pipeline.deidentify.models import ModelsEngine
from pipeline.deidentify.presidio import (
    AnalyzerEngine,
    ContextAwareEnhancer,
    EntityRecognizer,
    NlpArtifacts,
    RecognizerRegistry,
    RecognizerResult,
)
from pipeline.deidentify.spans import CATEGORIES, Span, resolve


class _NoEnhancer(ContextAwareEnhancer):
    """Leaves scores alone: context is part of our patterns."""

    def __init__(self) -> None:
        super().__init__(0.0, 0.0, 0, 0)

    def enhance_using_context(
        self, text: str, raw_results: list[RecognizerResult], *_arguments: Any, **_options: Any
    ) -> list[RecognizerResult]:
        del text
        return raw_results


class PatternFinder(EntityRecognizer):
    """Everything with a shape (see patterns)."""

    def __init__(self) -> None:
        super().__init__(supported_entities=list(CATEGORIES), name="PatternFinder", supported_language="en")

    def load(self) -> None:
        pass

    def analyze(self, text: str, entities: list[str], nlp_artifacts: NlpArtifacts) -> list[RecognizerResult]:
        del entities, nlp_artifacts
        return [RecognizerResult(kind, start, end, 0.85) for start, end, kind in patterns.find(text)]


class EntityFilter(EntityRecognizer):
    """What the models take for people, places and numbers, without what is medicine."""

    def __init__(self) -> None:
        super().__init__(supported_entities=list(CATEGORIES), name="EntityFilter", supported_language="en")

    def load(self) -> None:
        pass

    def analyze(self, text: str, entities: list[str], nlp_artifacts: NlpArtifacts) -> list[RecognizerResult]:
        del entities
        return [
            RecognizerResult(kind, start, end, score)
            for start, end, kind, score in accepted(text, nlp_artifacts)
        ]


class Detector:
    """A loaded analyzer. Findings below ``min_score`` are dropped (patterns 0.85, spaCy 0.6, the
    classifier what it says itself)."""

    def __init__(self, min_score: float) -> None:
        self._min_score = min_score
        self._engine = AnalyzerEngine(
            registry=RecognizerRegistry([PatternFinder(), EntityFilter()], supported_languages=["en"]),
            nlp_engine=ModelsEngine(),
            context_aware_enhancer=_NoEnhancer(),
            supported_languages=["en"],
        )

    def detect(self, texts: Sequence[str]) -> list[list[Span]]:
        """Findings of each text, in order, not overlapping.

        Short texts without capitals, or of nothing else, are read with capitals as well.
        """
        found = list(self._found(texts))
        again = {number: capitals for number, text in enumerate(texts) if (capitals := recased(text))}
        for number, more in zip(again, self._found(list(again.values())), strict=True):
            found[number] = resolve([*found[number], *more], texts[number])
        return found

    def _found(self, texts: Sequence[str]) -> Iterator[list[Span]]:
        for text, artifacts in self._engine.nlp_engine.process_batch(list(texts), "en"):
            results = self._engine.analyze(
                text, language="en", nlp_artifacts=artifacts, score_threshold=self._min_score
            )
            spans = resolve((Span(r.start, r.end, r.entity_type) for r in results), text)
            yield joined(text, spans)

    def unscreened(self, texts: Sequence[str]) -> list[list[Span]]:
        """What the models find in each text where they read all of it, without patterns."""
        read = self._engine.nlp_engine.process_batch(list(texts), "en", whole=True)  # type: ignore[call-arg]
        return [
            resolve(
                (
                    Span(start, end, kind)
                    for start, end, kind, score in accepted(text, artifacts)
                    if score >= self._min_score
                ),
                text,
            )
            for text, artifacts in read
        ]


def detect_shapes(text: str) -> list[Span]:
    """What patterns alone find: for short labels, where an entity recogniser sees people in words."""
    return resolve(patterns.find(text), text)


@lru_cache(maxsize=1)
def detector(min_score: float) -> Detector:
    """The one Detector of this process."""
    return Detector(min_score)
