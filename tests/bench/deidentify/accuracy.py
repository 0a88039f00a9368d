"""Recall and precision on labelled text of others: half of the documents, by a hash of their ids.

The other half is what detectors are tuned on, and is reported beside it.
"""

import hashlib
from collections.abc import Sequence

from pipeline.deidentify import labelled
from pipeline.params import Params
from tests.bench import records
from tests.bench.children import Result
from tests.bench.deidentify import ages

FILES = ("phi.jsonl.gz", "phi_names_weak.jsonl.gz")


def is_held_out(doc_id: str) -> bool:
    """Half of all documents, by the last bit of their id's SHA-256."""
    return hashlib.sha256(doc_id.encode()).digest()[-1] % 2 == 1


def on_labelled_text() -> Result:
    """``held_out``, ``tuned_on``: rows of labelled.Recall; ``ages``: ages of 90 and more."""
    result: Result = {"held_out": [], "tuned_on": []}
    for name in FILES:
        documents = [each for each in labelled.read(records.folder() / name) if each.language == "en"]
        for half in result:
            part = [each for each in documents if is_held_out(each.doc_id) == (half == "held_out")]
            if name == FILES[1]:
                # Dialogues and notes of one weak set: one figure.
                part = [each._replace(doc_id=f"weak/{each.doc_id}") for each in part]
            result[half] += [row._asdict() for row in recalls(part)]
    result["ages"] = [row._asdict() for row in recalls(ages.documents())]
    return result


def recalls(documents: Sequence[labelled.Labelled]) -> list[labelled.Recall]:
    """As `moelora audit-phi` tells them."""
    min_score = Params.load().deidentify.min_score
    return labelled.recalls(documents, list(labelled.search(documents, min_score)))
