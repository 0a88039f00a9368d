"""Both models over texts, as one engine of Presidio's: spaCy's small recogniser and the classifier.

Of spaCy's pipeline only the entity recogniser runs: the rest serves Presidio's context words,
which our patterns hold themselves. Both read what screen leaves to them, no more.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from pipeline.deidentify.classifier import KINDS, Classifier
from pipeline.deidentify.presidio import Doc, NlpArtifacts, NlpEngine, spacy_model
from pipeline.deidentify.screen import stretches

UNUSED = ["tok2vec", "tagger", "parser", "attribute_ruler", "lemmatizer"]
"""Components of spaCy's model that its entity recogniser does not build on."""

SPACY_KINDS = {
    "PERSON": "NAME",
    "GPE": "LOCATION",
    "LOC": "LOCATION",
    "FAC": "FACILITY",
    "ORG": "ORGANIZATION",
}
SPACY_SCORE = 0.6
"""What a finding of spaCy's counts for: it gives none itself."""

BATCH = 32
"""Texts that spaCy works on at once."""


class Entity(NamedTuple):
    """What a model takes for one, as Presidio's artifacts hold it; ``by`` names the model."""

    start_char: int
    end_char: int
    label_: str
    by: str


class ModelsEngine(NlpEngine):
    """Both models over the parts of texts that screen leaves to them."""

    def __init__(self) -> None:
        self._classifier = Classifier()
        self._spacy = spacy_model.load(exclude=UNUSED)

    def load(self) -> None:
        pass

    def is_loaded(self) -> bool:
        return True

    def process_text(self, text: str, language: str) -> NlpArtifacts:
        return next(iter(self.process_batch([text], language)))[1]

    def process_batch(  # type: ignore[override]
        self, texts: Iterable[str], language: str, whole: bool = False, **_options: Any
    ) -> Iterator[tuple[str, NlpArtifacts]]:
        """Each text with its entities; ``whole``: all of it is read."""
        texts = list(texts)
        places = [
            (number, start, end)
            for number, text in enumerate(texts)
            for start, end in ([(0, len(text))] if whole else stretches(text))
        ]
        entities = self._read({texts[number][start:end] for number, start, end in places})
        found: list[list[tuple[Entity, float]]] = [[] for _ in texts]
        for number, offset, end in places:
            found[number] += [
                (
                    entity._replace(start_char=offset + entity.start_char, end_char=offset + entity.end_char),
                    score,
                )
                for entity, score in entities[texts[number][offset:end]]
            ]
        for text, of_text in zip(texts, found, strict=True):
            yield text, self._artifacts(of_text, language)

    def is_stopword(self, word: str, language: str) -> bool:
        del word, language
        return False

    def is_punct(self, word: str, language: str) -> bool:
        del word, language
        return False

    def get_supported_entities(self) -> list[str]:
        return sorted({*SPACY_KINDS.values(), *KINDS.values()})

    def get_supported_languages(self) -> list[str]:
        return ["en"]

    def _read(self, parts: Collection[str]) -> dict[str, list[tuple[Entity, float]]]:
        """Entities of each part and their scores, spaCy's first."""
        order = sorted(parts)
        read = zip(
            order, self._spacy.pipe(order, batch_size=BATCH), self._classifier.find(order), strict=True
        )
        return {
            part: [
                (Entity(e.start_char, e.end_char, SPACY_KINDS[e.label_], "spacy"), SPACY_SCORE)
                for e in document.ents
                if e.label_ in SPACY_KINDS
            ]
            + [(Entity(e.start, e.end, e.kind, "classifier"), e.score) for e in entities]
            for part, document, entities in read
        }

    def _artifacts(self, found: Sequence[tuple[Entity, float]], language: str) -> NlpArtifacts:
        """Without tokens and lemmas, which nothing here reads."""
        return NlpArtifacts(
            entities=[entity for entity, _ in found],  # type: ignore[misc]
            tokens=Doc(self._spacy.vocab),
            tokens_indices=[],
            lemmas=[],
            nlp_engine=self,
            language=language,
            scores=[score for _, score in found],
        )
