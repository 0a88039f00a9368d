import random

import numpy as np
import polars as pl
import pytest

from pipeline.split import signatures
from pipeline.split.parts import Words, of_texts
from pipeline.split.signatures import BANDS, band_rows, sign
from pipeline.split.wording import windows
from tests.pipeline.split.made import text


def words_of(*texts: str) -> Words:
    return of_texts(pl.Series(texts))


def bands_of(*texts: str, threshold: float = 0.8) -> np.ndarray:
    tasks = pl.Series(["notes"] * len(texts))
    return np.array(sign(tasks, words_of(*texts), {"notes": np.zeros(0, np.uint64)}, threshold).bands)


def test_equal_texts_have_equal_bands_and_others_none() -> None:
    bands = bands_of(text(*range(50)), text(*range(50)), text(*range(50, 100)))
    assert bands.shape == (BANDS, 3)
    assert (bands[:, 0] == bands[:, 1]).all()
    assert not (bands[:, 0] == bands[:, 2]).any()


def test_bands_are_the_same_in_every_run() -> None:
    # A change here is a change of the library's signatures: all shards are signed again.
    assert bands_of(text(*range(20)))[:3, 0].tolist() == [
        3283961210,
        344323495,
        2802197300,
    ]


def test_a_text_with_few_words_of_its_own_has_no_bands() -> None:
    bands = bands_of(text(*range(4)), text(*range(5)), "", text(*range(2)))
    assert bands.any(axis=0).tolist() == [False, True, False, False]


def test_wording_of_the_task_is_not_signed() -> None:
    template, said = text(*range(100, 120)), text(*range(20))
    words = words_of(f"{template} {said}", said)
    _, shared = windows(words_of(template))
    signed = sign(
        pl.Series(["notes", "letters"]), words, {"notes": np.sort(shared), "letters": shared[:0]}, 0.8
    )
    assert [signed.own.hashes[signed.own.span(row)].tolist() for row in range(2)] == [
        words_of(said).hashes.tolist()
    ] * 2
    assert all(band[0] == band[1] != 0 for band in signed.bands)
    assert sum(each[0] for each in signed.counts) == 20


def test_a_word_counts_as_often_as_it_is_said() -> None:
    once, often = text(*range(10)), text(*range(10), *range(10), *range(10))
    bands = bands_of(once, often, once)
    assert (bands[:, 0] == bands[:, 2]).all()
    assert (bands[:, 0] == bands[:, 1]).mean() < 0.1


def test_bands_have_as_many_hashes_as_the_threshold_allows() -> None:
    assert [band_rows(each) for each in (0.1, 0.5, 0.7, 0.8, 0.9, 1.0)] == [1, 2, 4, 6, 8, 8]


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [text(*range(number, number + number % 13)) for number in range(40)]
    whole = bands_of(*texts)
    monkeypatch.setattr(signatures, "CHUNK_ROWS", 3)
    assert (bands_of(*texts) == whole).all()


@pytest.mark.parametrize(
    ("length", "edits", "threshold"), [(5, 1, 0.8), (20, 1, 0.8), (40, 8, 0.8), (200, 40, 0.8), (40, 12, 0.7)]
)
def test_texts_that_are_only_just_near_duplicates_meet(length: int, edits: int, threshold: float) -> None:
    draw = random.Random(length)
    pairs = []
    for _ in range(1_000):
        words = [draw.randrange(1_000_000) for _ in range(length)]
        changed = set(draw.sample(range(length), edits))
        other = [1_000_000 + at if at in changed else word for at, word in enumerate(words)]
        pairs += [text(*words), text(*other)]
    bands = bands_of(*pairs, threshold=threshold)
    assert (bands[:, ::2] == bands[:, 1::2]).any(axis=0).mean() >= 0.998
