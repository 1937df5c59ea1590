"""The reviews that recipes make for themselves: repeatable, balanced, in no two splits, labelled by their rules."""

from __future__ import annotations

import re
import statistics
import sys
from pathlib import Path

import pytest
from datasets import ClassLabel

from hf_distill.recipe import as_classification, load_splits
from hf_distill.recipe.models import load_tokenizer, new_classifier

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))
import sentiment_grammar as grammar

SENTENCES = grammar.Grammar(seed=3).sentences(3000)
POLARITY = {word: value for words in (grammar.ADJECTIVES, grammar.VERBS) for value in words for word in words[value]}


def test_the_same_seed_makes_the_same_reviews() -> None:
    assert grammar.Grammar(seed=3).sentences(3000) == SENTENCES
    assert grammar.Grammar(seed=4).sentences(3000) != SENTENCES


def test_reviews_differ_and_the_classes_are_balanced() -> None:
    assert len({sentence.text for sentence in SENTENCES}) == 3000
    assert sum(sentence.label for sentence in SENTENCES) == 1500


def test_there_are_hundreds_of_content_words_each_with_one_polarity() -> None:
    lists = [*grammar.ADJECTIVES.values(), *grammar.VERBS.values()]
    assert len(POLARITY) == sum(map(len, lists)) > 200
    assert len(POLARITY) + len(grammar.ASPECTS) + len(grammar.OTHERS) + len(grammar.ASIDES) > 270


def test_no_review_is_in_two_splits() -> None:
    splits = grammar.make_splits(train=600, validation=200, test=300, seed=1)
    texts = [text for rows in splits.values() for text in rows["text"]]
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 600, "validation": 200, "test": 300}
    assert len(set(texts)) == len(texts)


def test_annotators_misread_the_weaker_reviews_more_often() -> None:
    drawn = grammar.Grammar(seed=0)
    sentences = drawn.sentences(8000)
    wrong = {True: [], False: []}  # type: dict[bool, list[bool]]
    for sentence in sentences:
        wrong[abs(sentence.score) < 0.5].append(drawn.annotate(sentence) != sentence.label)
    assert 0.07 < statistics.mean(wrong[True] + wrong[False]) < 0.11
    assert statistics.mean(wrong[True]) > 4 * statistics.mean(wrong[False])


def test_validation_and_test_labels_are_right() -> None:
    """The reviews of one seed are drawn in one order, so their labels can be looked up in a second drawing."""
    right = {sentence.text: sentence.label for sentence in grammar.Grammar(seed=1).sentences(1100)}
    splits = grammar.make_splits(train=600, validation=200, test=300, seed=1)
    for name, rows in splits.items():
        errors = sum(right[row["text"]] != row["label"] for row in rows)
        assert errors == 0 if name != "train" else 20 < errors < 90


def test_strengths_are_a_second_task_with_right_labels_but_for_training(tmp_path: Path) -> None:
    splits = load_splits(grammar.make_strengths(tmp_path, train=600, validation=200, test=300, seed=3))
    right = {sentence.text: int(abs(sentence.score) >= 0.66) for sentence in SENTENCES}
    for name, rows in splits.items():
        errors = sum(right[row["text"]] != row["label"] for row in rows)
        assert errors == 0 if name != "train" else 100 < errors < 220
    data = as_classification(splits)
    assert (data.text_columns, data.classes) == (("text",), ("mild", "strong"))
    assert 0.4 < statistics.mean(splits["test"]["label"]) < 0.6


# ---- The rules, each checked on reviews that show nothing else ----


def clause_score(text: str) -> float:
    """Read the score of a simple clause out of its words: an implementation of the rules by other means."""
    negation = next((word for word in sorted(grammar.NEGATIONS, key=len, reverse=True) if f" {word} " in text), "")
    rest = text.replace(f" {negation} ", " ") if negation else text
    degree = next((word for word in grammar.DEGREES if re.search(rf"\b{word}\b", rest)), "")
    [word] = [word for word in POLARITY if re.search(rf"(?<![\w-]){word}(?![\w-])", rest)]
    factor = grammar.ADVERBS["never"] if text.startswith("i never") else grammar.NEGATIONS.get(negation, 1.0)
    return POLARITY[word] * factor * grammar.DEGREES.get(degree, 1.0)


SIMPLE = [
    sentence
    for sentence in SENTENCES
    if not re.search(r" and | that |,| \. ", sentence.text.removesuffix(" ."))
    and not any(aside in sentence.text for aside in grammar.ASIDES)
]


def test_enough_reviews_are_simple_and_some_of_them_negated() -> None:
    assert len(SIMPLE) > 800
    assert sum(any(f" {word} " in sentence.text for word in grammar.NEGATIONS) for sentence in SIMPLE) > 80


def test_a_clause_has_the_polarity_of_its_word_scaled_and_turned() -> None:
    for sentence in SIMPLE:
        assert clause_score(f" {sentence.text}".strip()) == pytest.approx(sentence.score), sentence


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("the plot was superb .", 1.0),
        ("the plot was slightly superb .", 0.6),
        ("the plot was not superb .", -0.7),
        ("the plot was not at all superb .", -1.0),
        ("the plot was anything but dull .", 0.77),
        ("i never hated the plot .", 0.9),
    ],
)
def test_the_other_means_are_right_about_reviews_worked_out_by_hand(text: str, score: float) -> None:
    assert clause_score(text) == pytest.approx(score)


def test_in_a_contrast_the_later_clause_wins() -> None:
    pattern = re.compile(r"(?:although .* ,|.* , but|.* , yet|.* \. still ,) (?P<main>.*) \.")
    checked = 0
    for sentence in SENTENCES:
        match = pattern.fullmatch(sentence.text)
        if match and not re.search(r" that |,| with | on | in | at | after | for | during | before ", match["main"]):
            assert clause_score(match["main"]) == pytest.approx(sentence.score), sentence
            checked += 1
    assert checked > 100


def test_two_clauses_joined_by_and_count_equally() -> None:
    checked = 0
    for sentence in SENTENCES:
        parts = sentence.text.removesuffix(" .").split(" and ")
        if len(parts) == 2 and not re.search(
            r" that |,| with | on | in | at | after | for | during | before ", parts[0] + parts[1]
        ):
            expected = (clause_score(parts[0]) + clause_score(parts[1])) / 2
            assert expected == pytest.approx(sentence.score), sentence
            checked += 1
    assert checked > 100


def test_a_frame_turns_what_follows_or_only_seems_to() -> None:
    checked = set()
    for sentence in SENTENCES:
        frame = next((frame for frame in grammar.FRAMES if sentence.text.startswith(frame)), None)
        rest = sentence.text.removesuffix(" .")
        if frame and not re.search(
            r",| and | with | on | in | at | after | for | during | before ", rest[len(frame) :]
        ):
            expected = grammar.FRAMES[frame] * clause_score(rest[len(frame) + 1 :])
            assert expected == pytest.approx(sentence.score), sentence
            checked.add(frame)
    assert len(checked) > 10


@pytest.mark.parametrize("noun", ["utterly dull plot", "awful plot"])
def test_articles(noun: str) -> None:
    assert grammar._with_article(noun) == f"an {noun}"
    assert not [
        sentence.text for sentence in SENTENCES if re.search(r"\ba [aeiou]|\ban [^aeiou]|\ba a\b", sentence.text)
    ]


# ---- Files and models ----


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> grammar.Made:
    made: grammar.Made = grammar.make(tmp_path_factory.mktemp("made"), train=400, validation=100, test=100)
    return made


def test_the_files_are_a_data_set_like_any_other(made: grammar.Made) -> None:
    splits = load_splits(made.dataset)
    data = as_classification(splits)
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 400, "validation": 100, "test": 100}
    assert isinstance(splits["train"].features["label"], ClassLabel)
    assert (data.text_columns, data.classes) == (("text",), ("negative", "positive"))


def test_the_models_read_what_the_tokenizer_writes(made: grammar.Made) -> None:
    tokenizer = load_tokenizer(made.student)
    batch = tokenizer(["The plot was superb .", "the plot"], padding=True, return_tensors="pt")
    assert tokenizer.convert_ids_to_tokens(batch["input_ids"][1])[:4] == ["[CLS]", "the", "plot", "[SEP]"]
    assert tokenizer.decode(batch["input_ids"][0]) == "[CLS] the plot was superb . [SEP]"
    sizes = []
    for name in (made.teacher, made.student):
        model = new_classifier(name, grammar.CLASSES, seed=0)
        assert model(**batch).logits.shape == (2, 2)
        sizes.append(model.num_parameters())
    assert sizes[0] > 3 * sizes[1]


def test_the_same_is_made_every_time(made: grammar.Made, tmp_path: Path) -> None:
    again = grammar.make(tmp_path, train=400, validation=100, test=100)
    files = [Path("teacher/tokenizer.json"), Path("student/config.json"), Path("reviews/train.parquet")]
    for file in files:
        assert (tmp_path / file).read_bytes() == (Path(made.dataset).parent / file).read_bytes()
    assert again.teacher == f"config:{tmp_path / 'teacher'}"


def test_what_is_made_already_stays(made: grammar.Made) -> None:
    train = Path(made.dataset) / "train.parquet"
    before = train.stat().st_mtime_ns
    folder = Path(made.dataset).parent
    assert grammar.make(folder, train=400, validation=100, test=100) == made
    assert train.stat().st_mtime_ns == before
    (folder / "made.json").unlink()  # as if the first call had been killed
    grammar.make(folder, train=400, validation=100, test=100)
    assert train.stat().st_mtime_ns > before
