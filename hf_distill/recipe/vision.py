"""What image recipes share: models by name, images as they read them, and a teacher that is trained where it is not."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from datasets import Dataset
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    BaseImageProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    set_seed,
)

from hf_distill.augmentation import Augmentation
from hf_distill.image_views import Views
from hf_distill.labels import SINGLE_LABEL
from hf_distill.recipe.images import ImageData, channels_last_collator, image_processor
from hf_distill.recipe.models import (
    NEW,
    check_model,
    class_names,
    has_classes,
    has_trained_head,
    new_classifier,
    warn_of_unnamed_classes,
)
from hf_distill.recipe.runs import train_run
from hf_distill.teachers import load_classifier
from hf_distill.training_args import DistillationTrainingArguments

logger = logging.getLogger(__name__)

NewModels: TypeAlias = Mapping[str, Callable[..., PreTrainedConfig]]
"""Names that a recipe gives to configs, for models with random weights."""


@dataclass(frozen=True)
class PreparedImages:
    """An image data set as the models read it, teacher and student alike.

    Args:
        train: All training rows in random views; ``labels`` is ``-100`` where there is none.
        labelled: Those of them that have a label.
        evaluation: The labelled rows of validation and test, as they are.
        processor: Makes the same of a picture; to be saved with the models.
    """

    train: Views
    labelled: Views
    evaluation: dict[str, Dataset]
    processor: BaseImageProcessor


def prepare_images(
    data: ImageData, augmentation: Augmentation, teacher: str, new: NewModels, views: int | None = None
) -> PreparedImages:
    """Normalised images: as the teacher was trained, or by the statistics of the training split.

    Args:
        data: What to read.
        augmentation: For the training rows.
        teacher: A checkpoint, or the name of a new model.
        new: The names of new models.
        views: How many views of each training image there are; a new one in each epoch if left out.
    """
    mean, std = _normalization(teacher, new, data.shape[0]) or data.channel_statistics()
    return PreparedImages(
        train=data.views(data.splits["train"], mean, std, augmentation, views),
        labelled=data.views(data.labelled("train"), mean, std, augmentation, views),
        evaluation={split: data.read(rows, mean, std) for split, rows in data.evaluation().items()},
        processor=image_processor(data.shape[1], mean, std),
    )


def new_image_classifier(
    name: str, classes: Sequence[str], channels: int, seed: int, new: NewModels
) -> PreTrainedModel:
    """A model to be trained: a new one, or a checkpoint, with a new head where its own is for other classes.

    Args:
        name: A name of a new model, or a checkpoint's; after ``config:`` only the checkpoint's config counts.
        classes: The class names.
        channels: Of an image; for a new model.
        seed: For what is drawn at random.
        new: The names of new models.
    """
    if name in new:
        set_seed(seed)
        config = new[name](num_channels=channels, **class_names(classes))
        model = AutoModelForImageClassification.from_config(config)
    else:
        model = new_classifier(name, classes, seed, AutoModelForImageClassification)
    model.config.problem_type = SINGLE_LABEL  # also where mixed images have shares of classes as labels
    return model


def trained_image_teacher(
    name: str, data: ImageData, images: PreparedImages, args: DistillationTrainingArguments, new: NewModels
) -> PreTrainedModel:
    """A teacher that knows these classes. One that does not is trained first, in ``args.output_dir``.

    A checkpoint for other classes keeps its body and gets a new head. The teacher sees new views in each epoch, however
    many its students get.

    Args:
        name: A name of a new model, a name on the Hub or a folder.
        data: The task.
        images: The same, prepared.
        args: For the training.
        new: The names of new models.
    """
    if name not in new and knows_classes(name, data.classes):
        logger.info("The teacher %s is trained already.", name)
        teacher = load_classifier(name)
        warn_of_unnamed_classes(name, teacher.config, data.classes)
        return teacher
    logger.info("The teacher %s is not trained for these classes: it is trained first.", name)
    trainer = train_run(
        "teacher",
        lambda: new_image_classifier(name, data.classes, data.shape[0], args.seed, new),
        args,
        Views(images.labelled.rows, images.labelled.transform, args.seed),
        images.evaluation.get("validation"),
        processing_class=images.processor,
        collator=channels_last_collator,
        about={"model": name, "images": str(images.labelled.transform)},
    )
    return trainer.model


def knows_classes(name: str, classes: Sequence[str]) -> bool:
    """Whether a checkpoint has a trained head for these classes; without names their number decides."""
    trained = has_trained_head(name, AutoModelForImageClassification)
    return trained and has_classes(AutoConfig.from_pretrained(name), classes)


def check_image_model(name: str, flag: str, new: NewModels) -> None:
    """Raise, before anything takes long, where a model can neither be made nor found.

    Raises:
        KeyError: it looks like a misspelt name of a new model.
        FileNotFoundError: there is no such model.
    """
    if name in new:
        return
    if close := difflib.get_close_matches(name, new) if "/" not in name and not Path(name).exists() else []:
        raise KeyError(
            f"{flag} {name}: there is no such new model; did you mean {' or '.join(close)}? There are "
            f"{', '.join(new)}; or give the path or the Hub name of a checkpoint."
        )
    check_model(name, flag)


def _normalization(teacher: str, new: NewModels, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """What the processor saved with the teacher does to each channel; ``None`` where there is none that fits."""
    if teacher in new or teacher.startswith(NEW):
        return None
    try:
        processor: Any = AutoImageProcessor.from_pretrained(teacher)
    except (OSError, ValueError):
        return None
    mean, std = getattr(processor, "image_mean", None), getattr(processor, "image_std", None)
    if not getattr(processor, "do_normalize", False) or mean is None or std is None or len(mean) != channels:
        return None
    return tuple(mean), tuple(std)
