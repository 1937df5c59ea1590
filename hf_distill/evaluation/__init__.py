"""Compare a student with its teacher and with a control, on scores, size and speed."""

from hf_distill.evaluation.compare import ModelResult, compare, evaluate_model
from hf_distill.evaluation.prediction import Predictions, predict
from hf_distill.evaluation.speed import Speed, count_parameters, measure_speed, size_mb

__all__ = [
    "ModelResult",
    "Predictions",
    "Speed",
    "compare",
    "count_parameters",
    "evaluate_model",
    "measure_speed",
    "predict",
    "size_mb",
]
