"""What recipes share: the command line, data, models, trainings and the report. Strings become objects here."""

from hf_distill.fingerprints import weights_fingerprint
from hf_distill.processes import leave_together
from hf_distill.recipe.answers import AnswerArguments, asked_once
from hf_distill.recipe.arguments import Preset, parse, parse_seeds
from hf_distill.recipe.card import CardArguments
from hf_distill.recipe.columns import TextData, as_classification, with_unlabelled
from hf_distill.recipe.data import load_splits
from hf_distill.recipe.exports import EXPORTS, check_export
from hf_distill.recipe.hardware import grouping_by_length, hardware_defaults, suit_cpu
from hf_distill.recipe.images import ImageData, as_image_classification, channels_last_collator, load_images
from hf_distill.recipe.models import (
    about_start,
    load_tokenizer,
    named_by,
    new_classifier,
    new_student,
    origin_of_student,
    split_layers,
)
from hf_distill.recipe.objective_check import check_objective
from hf_distill.recipe.program import run
from hf_distill.recipe.push import check_push
from hf_distill.recipe.reach import hub_reachable
from hf_distill.recipe.results import report_results
from hf_distill.recipe.runs import (
    check_sources,
    check_training,
    train_run,
    train_with_controls,
    without_teacher,
)
from hf_distill.recipe.text import (
    TokenizedData,
    check_names,
    fine_tuned_teacher,
    live_teacher,
    tokenize_data,
    tokenizer_of_student,
)
from hf_distill.recipe.tokens import padding_collator, tokenize
from hf_distill.recipe.turns import take_folder
from hf_distill.recipe.vision import (
    PreparedImages,
    check_image_model,
    live_image_teacher,
    new_image_classifier,
    prepare_images,
    trained_image_teacher,
)

__all__ = [
    "EXPORTS",
    "AnswerArguments",
    "CardArguments",
    "ImageData",
    "PreparedImages",
    "Preset",
    "TextData",
    "TokenizedData",
    "about_start",
    "as_classification",
    "as_image_classification",
    "asked_once",
    "channels_last_collator",
    "check_export",
    "check_image_model",
    "check_names",
    "check_objective",
    "check_push",
    "check_sources",
    "check_training",
    "fine_tuned_teacher",
    "grouping_by_length",
    "hardware_defaults",
    "hub_reachable",
    "leave_together",
    "live_image_teacher",
    "live_teacher",
    "load_images",
    "load_splits",
    "load_tokenizer",
    "named_by",
    "new_classifier",
    "new_image_classifier",
    "new_student",
    "origin_of_student",
    "padding_collator",
    "parse",
    "parse_seeds",
    "prepare_images",
    "report_results",
    "run",
    "split_layers",
    "suit_cpu",
    "take_folder",
    "tokenize",
    "tokenize_data",
    "tokenizer_of_student",
    "train_run",
    "train_with_controls",
    "trained_image_teacher",
    "weights_fingerprint",
    "with_unlabelled",
    "without_teacher",
]
