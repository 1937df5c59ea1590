import pytest

from hf_distill.metrics import Accuracy


@pytest.mark.parametrize("predictions", [[0, 2, 1], [[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.2, 0.6, 0.2]]])
def test_classes_and_probabilities_give_the_same(predictions):
    assert Accuracy().compute(predictions=predictions, references=[0, 2, 2]) == {"accuracy": pytest.approx(2 / 3)}


def test_batches_add_up():
    metric = Accuracy()
    metric.add_batch(predictions=[0, 1], references=[0, 1])
    metric.add_batch(predictions=[0, 1], references=[1, 1])
    assert metric.compute() == {"accuracy": 0.75}
