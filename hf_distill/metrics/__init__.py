"""Classification metrics in the form that ``evaluate`` loads and combines, working without a network.

Each also loads by its file: ``evaluate.load("<path to>/hf_distill/metrics/accuracy.py")``.
"""

from hf_distill.metrics.accuracy import Accuracy
from hf_distill.metrics.classification import classification_metrics
from hf_distill.metrics.expected_calibration_error import ExpectedCalibrationError, reliability_bins
from hf_distill.metrics.macro_f1 import MacroF1

__all__ = ["Accuracy", "ExpectedCalibrationError", "MacroF1", "classification_metrics", "reliability_bins"]
