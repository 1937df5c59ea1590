"""A student made from a teacher: the same architecture with fewer layers."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

from hf_distill.labels import class_order, classes_of
from hf_distill.randomness import isolated_randomness
from hf_distill.redaction import first_line

CURE = "Build the student from a smaller configuration instead."


def student_from_teacher(teacher: PreTrainedModel, layers: Sequence[int]) -> PreTrainedModel:
    """Copy a transformer and keep only some of its encoder layers, with embeddings, pooler and head.

    Args:
        teacher: Any model with one stack of equal layers, such as BERT, DistilBERT, RoBERTa or ViT. It is not changed.
        layers: Which layers to keep, from 0 at the input, in this order. Evenly spread ones are a good start.

    Returns:
        A new model that shares no memory with the teacher and can be saved and loaded like any other.

    Raises:
        ValueError: there is no single stack of layers, a layer does not exist, or what is saved could not be loaded.

    Source:
        Sanh et al. 2019, arXiv:1910.01108 (DistilBERT), starts the student from every second layer of the teacher.

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> teacher = BertForSequenceClassification(BertConfig(
        ...     vocab_size=10, hidden_size=8, num_hidden_layers=4, num_attention_heads=2, intermediate_size=8))
        >>> student_from_teacher(teacher, layers=[0, 2]).config.num_hidden_layers
        2
    """
    student = bare_copy(teacher)
    stack = _layer_stack(student)
    if not layers or not all(0 <= index < len(stack) for index in layers):
        raise ValueError(f"The teacher has layers 0 to {len(stack) - 1}; cannot keep {list(layers)}.")
    kept = [copy.deepcopy(stack[index]) for index in layers]
    del stack[:]
    stack.extend(kept)
    for place, layer in enumerate(kept):
        for module in layer.modules():
            if "layer_idx" in vars(module):  # where it finds its own part of a cache
                vars(module)["layer_idx"] = place
    student.config.num_hidden_layers = len(kept)
    if getattr(student.config, "layer_types", None):
        student.config.layer_types = [student.config.layer_types[index] for index in layers]
    _check_loads(student)
    return student.requires_grad_(True).train()


def with_class_order(model: PreTrainedModel, classes: Sequence[str]) -> PreTrainedModel:
    """Reorder the outputs of a classifier, in place, so that its classes stand in the given order.

    Args:
        model: A classifier whose head is a linear layer.
        classes: The names of its classes in the order that the data counts them.

    Returns:
        The model, with these names in its config.

    Raises:
        ValueError: the model has other classes, or another head.
    """
    order = class_order(classes, classes_of(model.config))
    if order is not None:
        for head in output_layers(model):
            for parameter in (head.weight, head.bias):
                if parameter is not None:
                    parameter.data = parameter.data[order]
    return name_classes(model, classes)


def name_classes(model: PreTrainedModel, classes: Sequence[str]) -> PreTrainedModel:
    """Call a model's outputs so, in its config and wherever else it keeps their number."""
    model.config.id2label = dict(enumerate(classes))
    model.config.label2id = {name: index for index, name in enumerate(classes)}
    if hasattr(model, "num_labels"):
        model.num_labels = len(classes)
    return model


def output_layers(model: PreTrainedModel) -> list[nn.Linear]:
    """The linear layers that put out a score for each class: one, or two of which the model takes the mean.

    Raises:
        ValueError: the head is something else.
    """
    linear = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    heads = 2 if type(model).__name__.endswith("WithTeacher") else 1  # DeiT and LeViT
    found = [layer for layer in linear if layer.out_features == model.config.num_labels][-heads:]
    if len(found) < heads:
        raise ValueError(
            f"The head of {type(model).__name__} is no linear layer: its outputs cannot be put in order or changed."
        )
    return found


def bare_copy(model: PreTrainedModel) -> PreTrainedModel:
    """A copy without what accelerate wraps around a model trained in bf16."""
    copied = copy.deepcopy(model)
    for name in ("forward", "_original_forward"):
        copied.__dict__.pop(name, None)
    return copied


def _check_loads(student: PreTrainedModel) -> None:
    """Raise where a config cannot say which layers were kept, so that what is saved could not be loaded again."""
    try:
        config = type(student.config).from_dict(student.config.to_dict())
        with torch.device("meta"), isolated_randomness():
            same = type(student)(config).state_dict().keys() == student.state_dict().keys()
    except Exception as error:  # each model and its config refuse in their own way
        name = type(student).__name__
        raise ValueError(f"{name} cannot do with fewer layers ({first_line(error)}). {CURE}") from error
    if not same:
        raise ValueError(f"The layers of {type(student).__name__} differ with their place. Keep others. {CURE}")


def _layer_stack(model: PreTrainedModel) -> nn.ModuleList:
    count = getattr(model.config, "num_hidden_layers", None)
    stacks = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == count]
    if len(stacks) != 1:
        raise ValueError(
            f"{type(model).__name__} has {len(stacks)} stacks of {count} layers, where one is needed. {CURE}"
        )
    return stacks[0]
