"""Film reviews from a grammar, and models to read them: what ``--preset quick`` works on, without any network.

    python recipes/sentiment_grammar.py        # shows a few reviews, each with its score

A review is a sentence such as ``although the trailer promised a very dull plot , i never disliked the cast .`` Its
score follows from rules, and its label is the sign of the score:

- A word has a polarity between -1 and 1, such as ``decent`` 0.4 and ``superb`` 1.0; a degree scales it: ``slightly``.
- A negation turns it around, near by (``not funny``) or from afar (``nobody could claim that ...``).
- In a contrast the later clause wins: ``X , but Y``, ``although X , Y``. Two clauses joined by ``and`` count equally.
- What others say, and where, when and with whom one saw the film, does not count.

The training labels are those of annotators who now and then misread a sentence, more often the closer it is to
neutral: about one label in eleven is wrong. Validation and test labels are right. Words are as unequally frequent as
words are (Zipf's law), so that a few thousand sentences show most of them only a few times. Reviews that nobody has
labelled are plentiful, as they are in life: the teacher can read them, and a student without a teacher cannot.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets import ClassLabel, Dataset, Features, Value
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, PreTrainedTokenizerFast

CLASSES = ["negative", "positive"]
STRENGTHS = ["mild", "strong"]
STRONG = 0.66
"""A review with a score as far from 0 is strong, as every other one is."""
NEUTRAL = 0.1
"""A sentence whose score is closer to 0 is not used."""
ANNOTATOR_SHARPNESS = 4.0
"""An annotator misreads a sentence with probability 1 / (1 + exp(sharpness * |score|)): 0.40 at 0.1, 0.02 at 1."""


def words(text: str) -> list[str]:
    """The words of a list, most frequent first; an underscore stands for a space within."""
    return [word.replace("_", " ") for word in text.split()]


ADJECTIVES = {
    1.0: words("""great brilliant wonderful superb magnificent stunning masterful outstanding dazzling exquisite sublime
        terrific phenomenal spectacular glorious breathtaking flawless marvelous magical triumphant exhilarating
        mesmerizing unforgettable virtuosic transcendent"""),
    0.7: words("""funny charming clever lovely moving gripping witty fresh elegant touching smart delightful inventive
        warm heartfelt rich vivid absorbing hilarious compelling stylish tender endearing radiant graceful luminous
        engrossing poignant thrilling perceptive nimble spirited soulful sparkling enchanting exuberant incisive
        lyrical"""),
    0.4: words("""good nice fine decent solid pleasant likable amusing agreeable watchable neat tidy competent sensible
        respectable serviceable harmless passable cheerful breezy cozy genial mild-mannered affable well-meant"""),
    -0.4: words("""slow odd thin uneven plain bland long-winded forgettable dated mild flat tame routine so-so fussy
        ordinary predictable patchy slight sketchy lukewarm stiff derivative formulaic undercooked"""),
    -0.7: words("""boring weak silly clumsy lazy dull messy tedious shallow lame stale annoying irritating lifeless
        muddled contrived pointless tiresome hollow sluggish corny joyless cheap grating bloated murky witless soggy
        smug plodding ham-fisted inert strained leaden cloying dreary graceless toothless"""),
    -1.0: words("""bad terrible awful horrible dreadful atrocious abysmal disastrous appalling unbearable insufferable
        wretched abominable excruciating unwatchable dismal disgraceful repulsive ghastly catastrophic laughable
        idiotic loathsome putrid execrable"""),
}  # fmt: skip
VERBS = {
    1.0: words("loved adored treasured cherished worshipped"),
    0.7: words("enjoyed admired relished savored applauded"),
    0.4: words("liked appreciated respected welcomed"),
    -0.4: words("endured questioned tolerated doubted"),
    -0.7: words("disliked regretted resented mocked"),
    -1.0: words("hated despised loathed detested abhorred"),
}
DEGREES = {
    "very": 1.3, "really": 1.3, "quite": 0.9, "slightly": 0.6, "somewhat": 0.6, "utterly": 1.6, "truly": 1.4,
    "rather": 0.8, "thoroughly": 1.5, "a bit": 0.6, "downright": 1.5,
}  # fmt: skip
NEGATIONS = {"not": -0.7, "hardly": -0.7, "not at all": -1.0, "far from": -0.9, "anything but": -1.1}
FRAMES = {
    "it is not true that": -0.9, "nobody could claim that": -1.0, "i doubt that": -0.8, "do not believe that": -0.9,
    "it is a myth that": -1.0, "i cannot say that": -0.7, "do not tell me that": -0.8,
    "it is true that": 1.0, "nobody could deny that": 1.1, "i do not doubt that": 1.0, "believe me that": 1.1,
    "it is no myth that": 1.0, "i can say that": 1.0, "do not forget that": 1.0,
}  # fmt: skip
ADVERBS = {"": 1.0, "really": 1.3, "truly": 1.4, "never": -0.9}
CONTRASTS = ["{other} , but {main}", "{other} . still , {main}", "although {other} , {main}", "{other} , yet {main}"]
ASPECTS = words("""film plot acting script story cast ending dialogue music pacing direction camera humor first_half
    second_half lead premise soundtrack editing villain finale twist romance opening_scene narration costume_design
    hero supporting_cast score sequel choreography final_act subplot animation atmosphere set_design heroine satire
    mystery cinematography chemistry visual_style monologue voice_work adaptation flashback climax""")  # fmt: skip
OTHERS = words("""critics my_brother the_trailer the_poster my_neighbor everyone_at_work the_studio her_sister
    the_reviews his_old_teacher a_friend_of_mine half_of_the_internet""")  # fmt: skip
ASIDES = words("""on_a_rainy_tuesday with_my_uncle in_a_half_empty_theater after_a_long_day at_a_small_festival
    with_two_of_my_cousins on_a_borrowed_laptop during_the_holidays on_the_last_train_home in_the_front_row
    for_the_second_time with_subtitles on_an_old_television before_dinner in_three_parts""")  # fmt: skip
FACTS = words("""which_runs_for_two_hours which_was_shot_in_norway which_is_set_in_1950 like_most_of_his_work
    unlike_the_book as_in_the_first_part which_opens_on_friday which_cost_a_fortune""")  # fmt: skip


@dataclass(frozen=True)
class Sentence:
    """A review and what its author feels: a score below 0 is negative, and the farther from 0 the stronger."""

    text: str
    score: float

    @property
    def label(self) -> int:
        return int(self.score > 0)

    @property
    def strength(self) -> int:
        return int(abs(self.score) >= STRONG)


class Grammar:
    """Draws reviews; the same seed draws the same ones."""

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)

    def sentences(self, count: int) -> list[Sentence]:
        """So many different reviews, half of them positive, in random order."""
        found: dict[str, Sentence] = {}
        per_class = {0: count // 2, 1: count - count // 2}
        for sentence in self._endless():
            if per_class[sentence.label] and sentence.text not in found:
                found[sentence.text] = sentence
                per_class[sentence.label] -= 1
            if len(found) == count:
                break
        return list(found.values())

    def annotate(self, sentence: Sentence) -> int:
        """The label that an annotator gives it: mostly the right one."""
        return sentence.label ^ self._misread(sentence.score)

    def annotate_strength(self, sentence: Sentence) -> int:
        """The strength that an annotator finds in it, mostly the right one, by the same rule."""
        return sentence.strength ^ self._misread(abs(sentence.score) - STRONG)

    def _misread(self, distance: float) -> bool:
        return self.random.random() < 1 / (1 + math.exp(ANNOTATOR_SHARPNESS * abs(distance)))

    def _endless(self) -> Iterator[Sentence]:
        while True:
            text, score = self.random.choices([self._plain, self._contrast, self._both], [14, 3, 3])[0]()
            if abs(score) >= NEUTRAL:
                yield Sentence(f"{text} .", score)

    def _plain(self) -> tuple[str, float]:
        text, score = self._framed()
        return self._aside(text), score

    def _contrast(self) -> tuple[str, float]:
        """The later clause wins; the earlier one is an opinion too, or what somebody else thinks."""
        main, score = self._framed()
        other = self._hearsay() if self._chance(0.4) else self._clause()[0]
        return self.random.choice(CONTRASTS).format(other=other, main=self._aside(main)), score

    def _both(self) -> tuple[str, float]:
        (first, first_score), (second, second_score) = self._clause(), self._clause()
        return f"{self._aside(first)} and {second}", (first_score + second_score) / 2

    def _framed(self) -> tuple[str, float]:
        """A clause, now and then inside another that turns it around, or only seems to."""
        text, score = self._clause()
        if not self._chance(0.1):
            return text, score
        frame, factor = self.random.choice(list(FRAMES.items()))
        return f"{frame} {text}", factor * score

    def _clause(self) -> tuple[str, float]:
        aspect = self._frequent(ASPECTS)
        if self._chance(0.3):
            verb, score = self._word(VERBS)
            adverb, factor = self.random.choices(list(ADVERBS.items()), [3, 1, 1, 1])[0]
            return _joined("i", adverb, verb, "the", aspect), factor * score
        adjective, score = self._word(ADJECTIVES)
        negation, turned = self.random.choice(list(NEGATIONS.items())) if self._chance(0.2) else ("", 1.0)
        degree, scaled = "", 1.0
        if negation in ("", "not") and self._chance(0.75):
            degree, scaled = self.random.choice(list(DEGREES.items()))
        score *= turned * scaled
        if self._chance(0.25):
            return _joined("this is", negation, _with_article(_joined(degree, adjective, aspect))), score
        fact = f", {self.random.choice(FACTS)} ," if self._chance(0.15) else ""
        verb = self.random.choice(["is", "was", "felt", "seemed"])
        return _joined("the", aspect, fact, verb, negation, degree, adjective), score

    def _hearsay(self) -> str:
        """What somebody else says or promises, which is no opinion of the author."""
        verb = self.random.choice(["promised", "talked of", "dreamed of", "described"])
        thing = _joined(self.random.choice(list(DEGREES)), self._word(ADJECTIVES)[0], self._frequent(ASPECTS))
        return _joined(self.random.choice(OTHERS), verb, _with_article(thing))

    def _aside(self, text: str) -> str:
        if not self._chance(0.25):
            return text
        aside = self.random.choice(ASIDES)
        return f"{aside} , {text}" if self._chance(0.3) else f"{text} {aside}"

    def _word(self, lexicon: dict[float, list[str]]) -> tuple[str, float]:
        polarity = self.random.choice(list(lexicon))
        return self._frequent(lexicon[polarity]), polarity

    def _frequent(self, choices: Sequence[str]) -> str:
        return self.random.choices(choices, [1 / (rank + 2) for rank in range(len(choices))])[0]

    def _chance(self, probability: float) -> bool:
        return self.random.random() < probability


def _joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _with_article(noun: str) -> str:
    return noun if noun.startswith("a bit") else f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


# ---- Files ----


@dataclass(frozen=True)
class Made:
    """What :func:`make` made: a folder of Parquet files, one more file, and two models that have no weights yet."""

    dataset: str
    unlabelled: str
    teacher: str
    student: str


def make(
    folder: Path, train: int = 8000, validation: int = 1000, test: int = 2000, unlabelled: int = 12000, seed: int = 0
) -> Made:
    """Write reviews, a tokenizer trained on them, and the configurations of a teacher and a student.

    What is there already from an earlier call with the same arguments stays as it is.

    Args:
        folder: Where to.
        train: Number of training reviews, with the labels of annotators.
        validation: Number of validation reviews, with the right labels.
        test: Number of test reviews, with the right labels.
        unlabelled: Number of reviews that nobody has labelled.
        seed: Of the grammar.
    """
    made = Made(
        str(folder / "reviews"),
        str(folder / "unlabelled.parquet"),
        f"config:{folder / 'teacher'}",
        f"config:{folder / 'student'}",
    )
    settings = {"train": train, "validation": validation, "test": test, "unlabelled": unlabelled, "seed": seed}
    marker = folder / "made.json"
    if marker.is_file() and json.loads(marker.read_text(encoding="utf-8")) == settings:
        return made
    marker.unlink(missing_ok=True)
    splits = make_splits(**settings)
    Path(made.dataset).mkdir(parents=True, exist_ok=True)
    splits.pop("unlabelled").select_columns(["text"]).to_parquet(made.unlabelled)
    for name, rows in splits.items():
        rows.to_parquet(Path(made.dataset) / f"{name}.parquet")
    tokenizer = make_tokenizer(splits["train"]["text"])
    for name, layers, width in (("teacher", 2, 128), ("student", 2, 64)):
        bert_config(layers, width, len(tokenizer)).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    marker.write_text(json.dumps(settings), encoding="utf-8")
    return made


def make_splits(train: int, validation: int, test: int, unlabelled: int = 0, seed: int = 0) -> dict[str, Dataset]:
    """Reviews with columns ``text`` and ``label``, by split. No review is in two of them."""
    grammar = Grammar(seed)
    counts = {"train": train, "validation": validation, "test": test, "unlabelled": unlabelled}
    sentences = grammar.sentences(sum(counts.values()))
    grammar.random.shuffle(sentences)
    features = Features({"text": Value("string"), "label": ClassLabel(names=CLASSES)})
    splits, start = {}, 0
    for name, count in counts.items():
        if not count:
            continue
        part = sentences[start : start + count]
        labels = [grammar.annotate(one) if name == "train" else one.label for one in part]
        splits[name] = Dataset.from_dict({"text": [one.text for one in part], "label": labels}, features)
        start += count
    return splits


def make_strengths(folder: Path, train: int = 4000, validation: int = 1000, test: int = 2000, seed: int = 1) -> str:
    """Write other reviews with columns ``text`` and ``strength``: a second task, which asks how strong an opinion is.

    Args:
        folder: Where to.
        train: Number of training reviews, with the labels of annotators, of which one in four is wrong.
        validation: Number of validation reviews, with the right labels.
        test: Number of test reviews, with the right labels.
        seed: Of the grammar.

    Returns:
        The folder of the Parquet files.
    """
    where, grammar = folder / "strengths", Grammar(seed)
    where.mkdir(parents=True, exist_ok=True)
    sentences = iter(grammar.sentences(train + validation + test))
    features = Features({"text": Value("string"), "label": ClassLabel(names=STRENGTHS)})
    for name, count in (("train", train), ("validation", validation), ("test", test)):
        part = [next(sentences) for _ in range(count)]
        labels = [grammar.annotate_strength(one) if name == "train" else one.strength for one in part]
        rows = Dataset.from_dict({"text": [one.text for one in part], "label": labels}, features)
        rows.to_parquet(where / f"{name}.parquet")
    return str(where)


def make_tokenizer(texts: Sequence[str], longest: int = 64) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer in the manner of BERT: the words of the texts by frequency, and letters for all others.

    Counted here, because the trainer of ``tokenizers`` breaks ties at random, and other token ids make other models.
    """
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    splitter = pre_tokenizers.BertPreTokenizer()
    counts = Counter(word for text in texts for word, _ in splitter.pre_tokenize_str(text.lower()))
    frequent = sorted(counts, key=lambda word: (-counts[word], word))
    letters = sorted({letter for word in counts for letter in word})
    pieces = [*special.values(), *frequent, *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = splitter
    ends = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=longest, **special)


def bert_config(layers: int, width: int, vocabulary: int, longest: int = 64) -> BertConfig:
    """A small BERT without dropout, which models of this size do not need."""
    return BertConfig(
        vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers, num_attention_heads=max(width // 32, 2),
        intermediate_size=4 * width, max_position_embeddings=longest, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip


if __name__ == "__main__":
    for review in Grammar().sentences(20):
        print(f"{review.score:+.2f}  {review.text}")
