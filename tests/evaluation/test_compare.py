import json
import logging

import numpy as np
import pytest
import tiny
import torch
from datasets import Dataset, DatasetDict
from torch import nn
from transformers import PreTrainedConfig
from transformers.modeling_outputs import SequenceClassifierOutput

from hf_distill.evaluation import Predictions, compare, evaluate_model

NAMES = ["negative", "positive"]


class Table(nn.Module):
    """A classifier that knows the probability of the first class for each row by heart."""

    def __init__(self, first, names=NAMES):
        super().__init__()
        first = torch.tensor(first)
        self.logits = nn.Parameter(torch.stack([first, 1 - first], dim=1).log())
        self.config = PreTrainedConfig(id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)})

    def forward(self, row):
        return SequenceClassifierOutput(logits=self.logits[row])


LABELS = [0, 0, 0, 0, 1, 1, 1, 1]
ROWS = Dataset.from_dict({"row": list(range(8)), "label": LABELS})
RIGHT, WRONG = [0.8] * 4 + [0.2] * 4, [0.2] * 4 + [0.8] * 4


def table(right, **names):
    """Right about the first so many rows, wrong about the others; always with confidence 0.8."""
    return Table(RIGHT[:right] + WRONG[right:], **names)


def test_report_by_hand():
    report = compare(
        [table(6), table(7)], table(8), ROWS, [table(5), table(5)],
        seeds=[0, 1], dataset_name="/data/toy", split="dev", command="train.py --hub_token secret",
    )  # fmt: skip
    assert report.teacher["accuracy"] == 1.0
    assert report.teacher["accuracy_std"] is None
    assert report.student["accuracy"] == pytest.approx(6.5 / 8)
    assert report.student["accuracy_std"] == pytest.approx(np.std([6 / 8, 7 / 8], ddof=1))
    assert report.control["accuracy"] == 5 / 8
    # ECE: confidence 0.8 throughout, against 6/8 and 7/8 right.
    assert report.student["ece"] == pytest.approx((0.05 + 0.075) / 2, abs=1e-6)
    assert report.gap_closed == pytest.approx(0.5)
    assert report.gap_closed_std == pytest.approx(np.std([1 / 3, 2 / 3], ddof=1))
    assert report.agreement == pytest.approx(6.5 / 8)
    # KL is 0 where they agree, and 0.8 ln 4 - 0.2 ln 4 where the probabilities are exchanged: on 2 rows, then on 1.
    assert report.kl_nats == pytest.approx(1.5 / 8 * 0.6 * np.log(4), rel=1e-5)
    assert report.student["per_class"]["negative"] == {
        "precision": pytest.approx((4 / 6 + 4 / 5) / 2),
        "recall": 1.0,
        "f1": pytest.approx((0.8 + 8 / 9) / 2),
        "support": 4,
    }
    assert report.student["confusion"] == [[4.0, 0.0], [1.5, 2.5]]
    assert (report.student["parameters"], report.student["size_mb"]) == (16, 64 / 1e6)
    assert report.student["latency_ms"]["p50"] > 0
    assert report.student["throughput_per_s_std"] is not None
    assert (report.split, report.examples, report.seeds) == ("dev", 8, [0, 1])
    assert report.machine["threads"] == torch.get_num_threads()
    assert report.versions["torch"] == torch.__version__
    assert "/data" not in json.dumps(report.to_dict())
    assert "secret" not in report.command


def test_teacher_logits_take_the_students_class_order():
    swapped = Table(WRONG, names=["POSITIVE", "NEGATIVE"])
    report = compare(table(8), swapped, ROWS)
    assert (report.agreement, report.teacher["accuracy"]) == (1.0, 1.0)
    assert report.kl_nats == pytest.approx(0.0, abs=1e-7)
    assert list(report.teacher["per_class"]) == NAMES


def test_a_teacher_may_be_predictions_made_elsewhere():
    soft = Predictions.from_probabilities([[p, 1 - p] for p in RIGHT])
    report = compare(table(8), soft, ROWS, table(4))
    assert report.kl_nats == pytest.approx(0.0, abs=1e-7)
    assert report.teacher["accuracy"] == 1.0
    assert [report.teacher[key] for key in ("parameters", "size_mb", "latency_ms", "throughput_per_s")] == [None] * 4
    assert report.gap_closed == 1.0


def test_a_teacher_may_have_rows_and_a_collator_of_its_own():
    rows = [{"teachers": number, "label": label} for number, label in enumerate(LABELS)]

    def collator(rows):
        return {"row": torch.tensor([row["teachers"] for row in rows])}

    assert compare(table(6), table(8), ROWS, teacher_dataset=rows, teacher_collator=collator).teacher["accuracy"] == 1.0


def test_splits_stay_apart_and_test_comes_first():
    half = ROWS.select([0, 1, 6, 7])
    report = compare(table(6), table(8), DatasetDict(validation=ROWS, test=half), table(5))
    assert (report.split, report.examples, report.student["accuracy"]) == ("test", 4, 0.5)
    [(name, other)] = report.other_splits.items()
    assert (name, other["examples"], other["student"]["accuracy"]) == ("validation", 8, 0.75)
    assert other["student"]["latency_ms"] == report.student["latency_ms"]
    assert other["gap_closed"] == pytest.approx(1 / 3)


def test_an_unlabelled_test_split_is_left_out_with_a_warning(caplog):
    unlabelled = Dataset.from_dict({"row": [0, 1], "label": [-1, -1]})
    with caplog.at_level(logging.WARNING):
        report = compare(table(6), table(8), {"test": unlabelled, "validation": ROWS})
    assert (report.split, report.other_splits) == ("validation", {})
    assert "test" in caplog.text


def test_no_control_no_gap():
    report = compare(table(6), table(8), ROWS)
    assert (report.control, report.gap_closed) == (None, None)


def test_class_names_come_from_whoever_has_them():
    nameless = ["LABEL_0", "LABEL_1"]
    assert list(compare(table(6, names=nameless), table(8), ROWS).student["per_class"]) == NAMES
    assert list(compare(table(6, names=nameless), table(8, names=nameless), ROWS).student["per_class"]) == nameless


def test_two_classes_of_one_name_are_two():
    cranes = ["crane", "crane"]  # the bird and the machine, as in ImageNet
    report = compare(table(6, names=cranes), table(8, names=cranes), ROWS)
    assert list(report.student["per_class"]) == ["crane (0)", "crane (1)"]


def test_real_models():
    """A teacher compared with itself agrees with itself, whatever it knows."""
    rows = tiny.dataset("bert")
    report = compare(tiny.distilbert(), tiny.bert(), rows, tiny.distilbert(seed=1), batch_size=8)
    assert 0 <= report.agreement <= 1
    same = compare(tiny.bert(), tiny.bert(), rows, batch_size=7)
    assert (same.agreement, same.student["accuracy"]) == (1.0, report.teacher["accuracy"])
    assert same.kl_nats == pytest.approx(0.0, abs=1e-6)


def test_evaluate_model_measures_everything():
    model, rows = tiny.bert(), tiny.dataset("bert", rows=6)
    result = evaluate_model(model, rows)
    assert result.predictions.logits.shape == (6, 3)
    assert result.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert result.figures()["throughput_per_s"] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student": []}, "at least one student"),
        ({"control": [table(5)] * 2}, "1 students and 2 controls"),
        ({"seeds": [0, 1]}, r"1 students and 2 seeds \[0, 1\]"),
        ({"dataset": ROWS.select([])}, "'validation' is empty"),
        ({"dataset": ROWS.remove_columns("label")}, "No labels in validation"),
        ({"dataset": ROWS.select(range(4))}, "one class only"),
        ({"dataset": Dataset.from_dict({"row": [0, 1, 2], "label": [0, 1, -100]})}, "row 2 has no label"),
        (
            {"dataset": Dataset.from_dict({"row": [0, 1, 2], "label": [0, 1, 2]})},
            "row 2 has label 2, but the student has 2",
        ),
        ({"dataset": Dataset.from_dict({"row": [0, 1], "label": [0.5, 1.5]})}, "one class index a row"),
        ({"teacher": table(8, names=["cat", "dog"])}, "not the same classes"),
        ({"control": table(8, names=NAMES[::-1])}, "order their classes differently"),
        ({"teacher_dataset": ROWS.select(range(7, -1, -1))}, "row 0 has label 1 for the teacher and 0"),
        ({"teacher_dataset": ROWS.select(range(1, 8))}, r"\(7, 2\) and the student's \(8, 2\)"),
        ({"teacher": Predictions(np.zeros((8, 3), np.float32))}, r"\(8, 3\)"),
        (
            {"dataset": {"a": ROWS, "b": ROWS}, "teacher": Predictions(np.zeros((8, 2), np.float32))},
            "nothing for the splits",
        ),
    ],
)
def test_what_cannot_be_compared_is_an_error_with_its_cure(changes, message):
    arguments = {"student": table(6), "teacher": table(8), "dataset": ROWS, **changes}
    with pytest.raises(ValueError, match=message):
        compare(**arguments)


def test_a_model_with_nan_is_named():
    broken = table(8)
    broken.logits.data[3] = torch.nan
    with pytest.raises(ValueError, match=r"teacher on validation with Table: Row 3"):
        compare(table(6), broken, ROWS)
