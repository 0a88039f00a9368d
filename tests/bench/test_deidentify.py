"""The pieces of bench-deidentify: halves, made-up values, what counts as changed or missed."""

import random
import re

import polars as pl
import pytest

from pipeline.deidentify.vocabulary import names
from tests.bench.deidentify import ages, canaries, english
from tests.bench.deidentify.__main__ import table
from tests.bench.deidentify.accuracy import is_held_out


def test_documents_are_halved_by_their_ids() -> None:
    halves = [is_held_out(f"asq#{number}") for number in range(2000)]
    assert 900 < sum(halves) < 1100
    assert halves == [is_held_out(f"asq#{number}") for number in range(2000)]


def test_ages_are_labelled_where_they_stand() -> None:
    documents = ages.documents()
    assert len(documents) == len({document.text for document in documents}) > 300
    for document in documents:
        ((start, end, _),) = document.spans
        assert document.text[start:end] in {*ages.AGES, *ages.WORDS}


def test_names_of_canaries_are_in_no_list() -> None:
    draw = random.Random(1)
    made = [canaries._surname(draw).lower() for _ in range(500)]
    known = names().first | names().last
    assert sum(name in known for name in made) / len(made) < 0.01


def test_a_canary_is_planted_between_sentences_and_all_kinds_occur() -> None:
    draw = random.Random(2)
    planted = [canaries.Canary(draw) for _ in range(400)]
    assert {each.kind for each in planted} == set(canaries._SENTENCES)
    for each in planted:
        assert each.value in each.sentence
        text = canaries._planted("One sentence. Another one.\nA line", each.sentence, draw)
        assert each.sentence in text
        assert text.replace(each.sentence, "").split() == ["One", "sentence.", "Another", "one.", "A", "line"]


def test_changed_characters_are_those_of_the_originals() -> None:
    rows = pl.DataFrame(
        {
            "task": ["medquad-qa", "aci-plan"],
            "input": ["Ann saw Bo on 3/9/2024.", "hi , ann"],
            "target": ["yes", "Ann"],
            "new_input": ["Eva saw Jo on 3/16/2024.", "hi , eva"],
            "new_target": ["yes", "Eva"],
            "input_spans": [
                [{"start": 0, "end": 3, "kind": "NAME"}, {"start": 14, "end": 23, "kind": "DATE"}],
                [{"start": 5, "end": 8, "kind": "NAME"}],
            ],
            "target_spans": [[], [{"start": 0, "end": 3, "kind": "NAME"}]],
        }
    )
    with pytest.raises(SystemExit, match="differs"):
        english._changed(rows, english.PUBLIC)  # Bo became Jo, and no span says so
    rows = rows.with_columns(new_input=pl.Series(["Eva saw Bo on 3/16/2024.", "hi , eva"]))
    assert english._changed(rows, english.PUBLIC) == {"characters": 26, "changed": {"DATE": 8, "NAME": 3}}
    assert english._changed(rows, english.NOTES, frozenset({"ann"})) == {"characters": 11, "changed": {}}


def test_a_gold_mention_counts_where_it_stands_as_often_as_before() -> None:
    rows = pl.DataFrame(
        {
            "task": ["bc5cdr-ner", "medquad-qa"],
            "input": ["Parkinson and aspirin, aspirin", "x"],
            "target": ["Disease: Parkinson\nChemical: aspirin", "y"],
            "new_input": ["Miller and aspirin, aspirin", "x"],
        }
    )
    assert english._mentions(rows) == {"all": 2, "kept": 1}


def test_the_table_has_the_rows_of_the_issue_and_no_value_where_nothing_was_measured() -> None:
    row = {"found": 98, "labelled": 100, "recall": 0.98, "low": 0.93, "high": 0.99, "precision": 0.9}
    held_out = [
        row | {"source": source, "category": category}
        for source, category in (
            ("asq", "PHI"),
            ("presidio", "PHI"),
            ("presidio", "NAME"),
            ("weak", "NAME"),
        )
    ]
    results = {
        "accuracy": {"held_out": held_out, "ages": [row | {"source": "ages", "category": "PHI"}]},
        "speed": {"ours": [1.0, 2.0, 3.0], "presidio": [5.0, 4.0, 6.0], "characters": 100, "texts": 3},
        "canaries": {"planted": {"date": 90, "age": 10}, "missed": {"date": 0, "age": 1}},
    }
    rows = {each.figure: each for each in table(results)}
    assert len(rows) == 16
    assert rows["characters/s, one thread, ours / Presidio"].value == pytest.approx(2.5)
    assert rows["planted canaries missed"].value == pytest.approx(0.01)
    assert rows["asq: PHI recall"].holds
    empty = {figure for figure, each in rows.items() if each.holds is None}
    assert len(empty) == 7
    assert all(re.search(r"changed|unchanged|English|new records", figure) for figure in empty)
