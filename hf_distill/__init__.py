"""Distil fine-tuned Hugging Face classifiers into small, fast students.

trainer = DistillationTrainer(model=student, teacher_model=teacher, args=args, train_dataset=train)
trainer.train()
"""

from hf_distill.soundness import check_torchvision

check_torchvision()

from hf_distill.adapters import make_adapter
from hf_distill.bottleneck_term import BottleneckTerm
from hf_distill.cache import CachedTeacher, cache_teacher, with_soft_labels
from hf_distill.contrastive_term import ContrastiveTerm
from hf_distill.data_free_trainer import DataFreeTrainer
from hf_distill.evaluation import compare
from hf_distill.example_ids import with_example_ids
from hf_distill.exit_term import ExitTerm
from hf_distill.export import OnnxExport, export_onnx
from hf_distill.feature_term import FeatureTerm
from hf_distill.generator import ImageGenerator
from hf_distill.generator_loss import GeneratorLoss
from hf_distill.layers import Pair, uniform_pairs
from hf_distill.losses import NO_LABEL
from hf_distill.models import VGGConfig, VGGForImageClassification
from hf_distill.noise import Noise
from hf_distill.objective import LabelTerm, LogitTerm, Objective, Term
from hf_distill.onnx_classifier import OnnxClassifier
from hf_distill.predictor import Predictor
from hf_distill.report import DistillationReport
from hf_distill.review_term import ReviewTerm
from hf_distill.schedules import Schedule, constant, cosine, linear, warmup
from hf_distill.student import student_from_teacher
from hf_distill.tasks import (
    Tasks,
    TaskTerm,
    joint_dataset,
    multi_task_objective,
    task_metrics,
    task_model,
    with_tasks,
)
from hf_distill.teachers import (
    ColumnTeacher,
    EnsembleTeacher,
    ImageTeacher,
    ModelTeacher,
    MovingAverageTeacher,
    Teacher,
    load_classifier,
    public_name,
)
from hf_distill.trainer import DistillationTrainer
from hf_distill.training_args import DistillationTrainingArguments
from hf_distill.views import ModelView, StepView

__all__ = [
    "NO_LABEL",
    "BottleneckTerm",
    "CachedTeacher",
    "ColumnTeacher",
    "ContrastiveTerm",
    "DataFreeTrainer",
    "DistillationReport",
    "DistillationTrainer",
    "DistillationTrainingArguments",
    "EnsembleTeacher",
    "ExitTerm",
    "FeatureTerm",
    "GeneratorLoss",
    "ImageGenerator",
    "ImageTeacher",
    "LabelTerm",
    "LogitTerm",
    "ModelTeacher",
    "ModelView",
    "MovingAverageTeacher",
    "Noise",
    "Objective",
    "OnnxClassifier",
    "OnnxExport",
    "Pair",
    "Predictor",
    "ReviewTerm",
    "Schedule",
    "StepView",
    "TaskTerm",
    "Tasks",
    "Teacher",
    "Term",
    "VGGConfig",
    "VGGForImageClassification",
    "cache_teacher",
    "compare",
    "constant",
    "cosine",
    "export_onnx",
    "joint_dataset",
    "linear",
    "load_classifier",
    "make_adapter",
    "multi_task_objective",
    "public_name",
    "student_from_teacher",
    "task_metrics",
    "task_model",
    "uniform_pairs",
    "warmup",
    "with_example_ids",
    "with_soft_labels",
    "with_tasks",
]
__version__ = "0.1.0"
