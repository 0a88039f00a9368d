import polars as pl

from pipeline.records import RECORD_SCHEMA
from pipeline.split.parts import INDEX_SCHEMA, describe, of_texts
from tests.pipeline.split.made import frame


def words_of(*texts: str) -> list[int]:
    return [len(of_texts(pl.Series([each])).hashes) for each in texts]


def test_a_word_is_a_run_of_letters_and_digits_or_one_chinese_or_japanese_character() -> None:
    assert words_of("Chest pain, at REST!", "2.5 mg/d", "胸痛3天", "カメラ", "naïve", "", "?!") == [
        4,
        4,
        4,
        3,
        1,
        0,
        0,
    ]


def test_case_and_punctuation_are_no_part_of_a_text() -> None:
    rows = [
        {"input": each} for each in ("Chest pain, at REST!", "chest pain at rest", "chest pain at rest now")
    ]
    index, words = describe(frame(rows))
    assert index["text"][0] == index["text"][1] != index["text"][2]
    assert words.ends.tolist() == [4, 8, 13]
    assert words.hashes[words.span(0)].tolist() == words.hashes[words.span(1)].tolist()


def test_texts_without_a_word_are_told_apart() -> None:
    index, words = describe(frame([{"input": each} for each in ("?", "!", " ? ", "")]))
    assert index["text"].n_unique() == 3
    assert words.ends.tolist() == [0, 0, 0, 0]


def test_answers_are_alike_but_for_case_and_spaces() -> None:
    rows = [{"input": "x", "target": target} for target in ("No pain", " no  PAIN\n", "no, pain")]
    answers = describe(frame(rows))[0]["answer"]
    assert answers[0] == answers[1] != answers[2]


def test_choices_are_alike_in_any_order_and_labels_are_those_of_choice_tasks() -> None:
    rows = [
        {"input": "x", "task_type": "classification", "target": "a", "answer_choices": ["a", "b"]},
        {"input": "y", "task_type": "classification", "target": "b", "answer_choices": ["b", "a"]},
        {"input": "z", "task_type": "ner", "answer_choices": ["a", "b", "c"]},
        {"input": "w"},
    ]
    index, _ = describe(frame(rows))
    assert index["choices"][0] == index["choices"][1] != index["choices"][2]
    assert index["choices"][3] is None
    assert index["label"].to_list() == ["a", "b", None, None]


def test_no_record_has_the_same_columns() -> None:
    index, words = describe(pl.DataFrame(schema=RECORD_SCHEMA))
    assert index.schema == INDEX_SCHEMA
    assert (index.height, len(words.ends), len(words.hashes)) == (0, 0, 0)
