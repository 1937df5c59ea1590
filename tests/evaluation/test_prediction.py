import numpy as np
import pytest
import tiny
import torch
from datasets import Dataset
from torch import nn
from transformers import default_data_collator
from transformers.modeling_outputs import SequenceClassifierOutput

from hf_distill.evaluation.prediction import Predictions, label_of, predict


def padded(rows):
    """A collator that pads by hand, so that rows of several lengths can meet in a batch."""
    longest = max(len(row["input_ids"]) for row in rows)
    return {
        "input_ids": torch.tensor([row["input_ids"] + [0] * (longest - len(row["input_ids"])) for row in rows]),
        "attention_mask": torch.tensor(
            [[1] * len(r["input_ids"]) + [0] * (longest - len(r["input_ids"])) for r in rows]
        ),
        "labels": torch.tensor([row["label"] for row in rows]),
    }


class Recorder(nn.Module):
    """A classifier that keeps what it is called with; its logits are the first token of each row."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.dropout = nn.Dropout()
        self.calls = []

    def forward(self, input_ids, attention_mask=None, labels=None):
        self.calls.append(
            {"ids": input_ids, "labels": labels, "training": self.training, "grad": torch.is_grad_enabled()}
        )
        return SequenceClassifierOutput(logits=input_ids[:, :1] * self.weight)


@pytest.fixture
def lengths():
    ids = [[number] * length for number, length in enumerate([3, 9, 1, 7, 5, 2, 8, 4, 6, 10], start=1)]
    return Dataset.from_dict({"input_ids": ids, "label": [0, 1] * 5, "text": ["a"] * 10})


@pytest.mark.parametrize("form", ["dataset", "torch", "list"])
def test_rows_keep_their_order_though_batches_are_sorted_by_length(lengths, form):
    rows = {"dataset": lengths, "torch": lengths.with_format("torch"), "list": list(lengths)}[form]
    collator = (
        padded if form != "torch" else lambda rows: padded([{**r, "input_ids": r["input_ids"].tolist()} for r in rows])
    )
    model = Recorder()
    found = predict(model, rows, collator, batch_size=3)
    assert found.logits[:, 0].tolist() == list(range(1, 11))
    assert found.labels.tolist() == [0, 1] * 5
    assert [call["ids"].shape[1] for call in model.calls] == [10, 7, 4, 1]


def test_equals_the_model_called_row_by_row():
    model, rows = tiny.bert(), tiny.dataset("bert")
    found = predict(model, rows, batch_size=5)
    with torch.no_grad():
        alone = [model(**default_data_collator([row])).logits[0] for row in rows]
    torch.testing.assert_close(torch.from_numpy(found.logits), torch.stack(alone), atol=1e-6, rtol=1e-5)
    assert found.labels.tolist() == rows["labels"]
    assert found.logits.dtype == np.float32


def test_the_model_is_afterwards_as_it_was(lengths):
    model = Recorder().train()
    model.dropout.eval()
    predict(model, lengths, padded)
    assert not model.calls[0]["training"]
    assert not model.calls[0]["grad"]
    assert model.calls[0]["labels"] is None
    assert model.training
    assert not model.dropout.training


def test_each_model_gets_the_columns_it_names():
    """The rows have token_type_ids, which matter to BERT and which DistilBERT does not take."""
    rows = tiny.dataset("bert", rows=6)
    with_types = predict(tiny.bert(), rows).logits
    assert not np.allclose(with_types, predict(tiny.bert(), rows.remove_columns("token_type_ids")).logits)
    assert predict(tiny.distilbert(), rows).logits.shape == (6, 3)


def test_strings_and_foreign_columns_never_reach_the_collator(lengths):
    seen = []

    def collator(rows):
        seen.append(set(rows[0]))
        return padded(rows)

    predict(Recorder(), lengths.add_column("teacher_logits", [[0.0]] * 10), collator)
    assert seen == [{"input_ids", "label"}]


def test_rows_without_any_input_of_the_model_go_whole_to_the_collator():
    rows = [{"image": [float(number)] * 192, "label": number % 3} for number in range(4)]

    def to_pixels(rows):
        return {"pixel_values": torch.tensor([row["image"] for row in rows]).view(-1, 3, 8, 8)}

    assert predict(tiny.vit(), rows, to_pixels).labels.tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize("labels", [None, [-1, -1, -1], [-100, -100, -100]])
def test_a_split_without_labels_has_none(labels):
    columns = {"input_ids": [[1], [2], [3]], **({} if labels is None else {"label": labels})}
    assert predict(Recorder(), Dataset.from_dict(columns)).labels is None


def test_rows_partly_labelled_keep_a_place_for_the_missing_label():
    rows = [{"input_ids": [1], "label": 1}, {"input_ids": [2], "label": None}]
    assert predict(Recorder(), rows).labels.tolist() == [1, -100]


def test_bfloat16_runs_and_is_close():
    rows, model = tiny.dataset("bert", rows=6), tiny.bert()
    exact, rough = predict(model, rows).logits, predict(model, rows, bf16=True).logits
    assert not np.array_equal(exact, rough)
    np.testing.assert_allclose(exact, rough, atol=0.05)


def test_nan_names_the_model_and_the_row(lengths):
    class Broken(Recorder):
        def forward(self, input_ids, attention_mask=None):
            logits = super().forward(input_ids).logits
            return SequenceClassifierOutput(logits=torch.where(logits == 7, torch.nan, logits))

    with pytest.raises(ValueError, match=r"Broken.*Row 6 \(1 of 10 rows\)"):
        predict(Broken(), lengths, padded)


def test_an_empty_dataset_is_an_error():
    with pytest.raises(ValueError, match="no rows"):
        predict(Recorder(), [])


@pytest.mark.parametrize("label", [0.5, [1.0, 0.0], "positive"])
def test_labels_that_are_no_class_index_are_an_error(label):
    rows = [{"input_ids": [1], "label": label}]
    with pytest.raises(ValueError, match="one class index a row"):
        predict(Recorder(), rows, lambda rows: {"input_ids": torch.tensor([row["input_ids"] for row in rows])})


def test_regression_is_an_error():
    with pytest.raises(ValueError, match="two classes or more"):
        Predictions(np.zeros((3, 1), np.float32))


def test_labels_that_do_not_fit_the_logits_are_an_error():
    with pytest.raises(ValueError, match="3 rows of logits"):
        Predictions(np.zeros((3, 2), np.float32), np.zeros(2, np.int64))


def test_probabilities_survive_the_way_through_logits():
    given = [[0.25, 0.75], [1.0, 0.0]]
    found = Predictions.from_probabilities(given, [1, 0])
    np.testing.assert_allclose(found.probabilities, given, atol=1e-7)
    assert found.classes.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("row", "expected"),
    [({"label": 2}, 2), ({"labels": torch.tensor(1)}, 1), ({"label": None}, -100), ({"label": -1}, -100)],
)
def test_label_of_a_row(row, expected):
    assert label_of(row) == expected
