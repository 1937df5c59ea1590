"""What image recipes share: models by name, images as they read them, and a teacher that is trained where it is not."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from datasets import Dataset
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    BaseImageProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    set_seed,
)

from hf_distill.augmentation import Augmentation
from hf_distill.features import find_module
from hf_distill.image_check import check_readable
from hf_distill.image_input import ConvertingCollator, ImageConversion
from hf_distill.image_processors import find_image_processor, image_conversion, read_processor
from hf_distill.image_views import Views
from hf_distill.labels import SINGLE_LABEL
from hf_distill.randomness import isolated_randomness
from hf_distill.recipe.images import ImageData, channels_last_collator, image_processor
from hf_distill.recipe.models import (
    NEW,
    about_start,
    check_model,
    class_names,
    has_classes,
    has_trained_head,
    new_classifier,
    warn_of_unnamed_classes,
)
from hf_distill.recipe.runs import check_sources, train_run
from hf_distill.teachers import ImageTeacher, ModelTeacher, load_classifier, public_name
from hf_distill.training_args import DistillationTrainingArguments

logger = logging.getLogger(__name__)

NewModels: TypeAlias = Mapping[str, Callable[..., PreTrainedConfig]]
"""Names that a recipe gives to configs, for models with random weights."""


@dataclass(frozen=True)
class PreparedImages:
    """An image data set as the student reads it, and what the teacher makes of that.

    Args:
        train: All training rows in random views; ``labels`` is ``-100`` where there is none.
        labelled: Those of them that have a label.
        evaluation: The labelled rows of validation and test, as they are.
        processor: Makes the same of a picture; to be saved with the student.
        teacher_processor: The teacher's own; ``None`` where it reads what the student reads.
        conversion: From the student's images to the teacher's, likewise.
    """

    train: Views
    labelled: Views
    evaluation: dict[str, Dataset]
    processor: BaseImageProcessor
    teacher_processor: BaseImageProcessor | None = None
    conversion: ImageConversion | None = None

    @property
    def teacher_collator(self) -> Callable[[list[Any]], dict[str, Any]]:
        """Batches for the teacher alone."""
        known = self.conversion
        return channels_last_collator if known is None else ConvertingCollator(channels_last_collator, known)

    @property
    def about_teacher(self) -> dict[str, str]:
        """What a training depends on besides, where the teacher has its own images."""
        return {} if self.conversion is None else {"teacher_images": str(self.conversion)}


def prepare_images(
    data: ImageData,
    augmentation: Augmentation,
    teacher: str,
    student: str,
    new: NewModels,
    views: int | None = None,
    *,
    teacher_layers: Collection[str] = (),
    student_layers: Collection[str] = (),
) -> PreparedImages:
    """Images normalised as the student was trained, or by the statistics of the training split where it is new.

    Args:
        data: What to read.
        augmentation: For the training rows.
        teacher: A checkpoint, or the name of a new model. Where an image processor was saved with it that makes other
            images, it gets its own.
        student: The same. Of its image processor the normalisation counts; the size is that of the data.
        new: The names of new models.
        views: How many views of each training image there are; a new one in each epoch if left out.
        teacher_layers: Paths of the teacher's modules that will be looked at.
        student_layers: Those of the student's.

    Raises:
        ValueError: one of the models cannot read its images, or the teacher's processor makes them in unknown ways.
        KeyError: a model has no module at a path.
    """
    _, height, width = data.shape
    saved = _saved_processor(student, new)
    mean, std = (saved and _normalization(saved, data.shape[0])) or data.channel_statistics()
    if saved is not None and (size := read_processor(saved).output_size(height, width)) != (height, width):
        logger.warning(
            "The student %s was trained on images of %d x %d pixels and reads %d x %d here; --image_size changes that.",
            student, *size, height, width,
        )  # fmt: skip
    processor = image_processor(height, mean, std)
    own = _saved_processor(teacher, new)
    if own is None and teacher not in new and not teacher.startswith(NEW):
        logger.warning(
            "No image processor was saved with the teacher %s, so it is shown the student's images, of %d x %d pixels. "
            "If it knows others, save its processor beside it.", teacher, height, width,
        )  # fmt: skip
    conversion = None if own is None else image_conversion(processor, own)
    if conversion is not None and not conversion.changes(height, width):
        own = conversion = None
    kind = "grey" if data.shape[0] == 1 else "coloured"
    cure = f"Set --image_size to the size that it was made for, and choose one for {kind} images."
    _check_reader(student, "--student", new, data.shape, student_layers, cure)
    cure = f"Save the image processor that it was trained with beside it, and choose one for {kind} images."
    _check_reader(teacher, "--teacher", new, data.shape, teacher_layers, cure, conversion)
    return PreparedImages(
        train=data.views(data.splits["train"], mean, std, augmentation, views),
        labelled=data.views(data.labelled("train"), mean, std, augmentation, views),
        evaluation={split: data.read(rows, mean, std) for split, rows in data.evaluation().items()},
        processor=processor,
        teacher_processor=own,
        conversion=conversion,
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
    many its students get; as its own image processor shows them, which is saved with it again.

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
    check_sources({name} - set(new), folder := Path(args.output_dir), folder)
    trainer = train_run(
        "teacher",
        lambda: new_image_classifier(name, data.classes, data.shape[0], args.seed, new),
        args,
        Views(images.labelled.rows, images.labelled.transform, args.seed),
        images.evaluation.get("validation"),
        processing_class=images.teacher_processor or images.processor,
        collator=images.teacher_collator,
        about={
            "model": name,
            "images": str(images.labelled.transform),
            **about_start(name, new),
            **images.about_teacher,
        },
    )
    return trainer.model


def live_image_teacher(model: PreTrainedModel, name: str, images: PreparedImages) -> ModelTeacher:
    """A trained model as the teacher of a student.

    Args:
        model: The model.
        name: What logs and card call it.
        images: As the student reads them, and what makes the teacher's of them.
    """
    own = images.teacher_processor
    teacher = ModelTeacher(model) if own is None else ImageTeacher(model, images.processor, own)
    teacher.name = public_name(name.removeprefix(NEW))
    return teacher


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
    check_model(name, flag, head=AutoModelForImageClassification)


def _saved_processor(name: str, new: NewModels) -> BaseImageProcessor | None:
    """The image processor saved with a checkpoint; ``None`` for a new model."""
    return None if name in new or name.startswith(NEW) else find_image_processor(name)


def _normalization(processor: Any, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """What an image processor does to each channel; ``None`` where that does not fit."""
    known = read_processor(processor)
    mean, std = (values * channels if len(values) == 1 else values for values in (known.mean, known.std))
    return (mean, std) if len(mean) == len(std) == channels else None


def _check_reader(
    name: str,
    flag: str,
    new: NewModels,
    shape: tuple[int, ...],
    layers: Collection[str],
    cure: str,
    conversion: ImageConversion | None = None,
) -> None:
    """Raise, before anything takes long, where a model cannot read its images or lacks a module to look at."""
    config = new[name](num_channels=shape[0]) if name in new else AutoConfig.from_pretrained(name.removeprefix(NEW))
    with isolated_randomness():
        model = AutoModelForImageClassification.from_config(config).eval()

    def read(pixel_values: Tensor) -> Any:
        return model(pixel_values=conversion(pixel_values) if conversion else pixel_values)

    check_readable(model, shape, f"{flag} {name}", cure, read)
    for path in sorted(layers):
        try:
            find_module(model, path)
        except KeyError as error:
            raise KeyError(
                f"{flag} {name}: {error.args[0]} Choose a --method, or --keep_features, for modules that it has."
            ) from error
