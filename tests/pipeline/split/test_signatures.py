import random

import numpy as np
import polars as pl
import pytest

from pipeline.split import signatures
from pipeline.split.parts import Words, of_texts
from pipeline.split.signatures import BANDS, sign
from pipeline.split.wording import windows
from tests.pipeline.split.made import text


def words_of(*texts: str) -> Words:
    return of_texts(pl.Series(texts))


def bands_of(*texts: str) -> np.ndarray:
    return sign(pl.Series(["notes"] * len(texts)), words_of(*texts), {"notes": np.zeros(0, np.uint64)})[0]


def test_equal_texts_have_equal_bands_and_others_none() -> None:
    bands = bands_of(text(*range(50)), text(*range(50)), text(*range(50, 100)))
    assert bands.shape == (BANDS, 3)
    assert (bands[:, 0] == bands[:, 1]).all()
    assert not (bands[:, 0] == bands[:, 2]).any()


def test_bands_are_the_same_in_every_run() -> None:
    # A change here is a change of the library's signatures: all shards are signed again.
    assert bands_of(text(*range(20)))[:3, 0].tolist() == [
        5777978588379561288,
        14053484362757741017,
        13986071422303501989,
    ]


def test_a_text_with_few_words_of_its_own_has_no_bands() -> None:
    bands = bands_of(text(*range(7)), text(*range(8)), "", text(*range(2)))
    assert bands.any(axis=0).tolist() == [False, True, False, False]


def test_wording_of_the_task_is_not_signed() -> None:
    template, said = text(*range(100, 120)), text(*range(20))
    words = words_of(f"{template} {said}", said)
    _, shared = windows(words_of(template))
    bands, own = sign(
        pl.Series(["notes", "letters"]), words, {"notes": np.sort(shared), "letters": shared[:0]}
    )
    assert own.tolist() == [False] * 20 + [True] * 40
    # What joins both is the first text's own.
    assert (bands[:, 0] == bands[:, 1]).mean() > 0.5


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [text(*range(number, number + number % 13)) for number in range(40)]
    whole = bands_of(*texts)
    monkeypatch.setattr(signatures, "CHUNK_ROWS", 3)
    assert (bands_of(*texts) == whole).all()


@pytest.mark.parametrize(("length", "edits", "least"), [(20, 1, 0.999), (40, 2, 0.999), (40, 8, 0.95)])
def test_texts_with_some_words_substituted_meet(length: int, edits: int, least: float) -> None:
    draw = random.Random(length)
    pairs = []
    for number in range(1_000):
        words = [draw.randrange(1_000_000) for _ in range(length)]
        changed = set(draw.sample(range(length), edits))
        pairs += [text(*words), text(*(-number if at in changed else word for at, word in enumerate(words)))]
    bands = bands_of(*pairs)
    assert (bands[:, ::2] == bands[:, 1::2]).any(axis=0).mean() >= least
