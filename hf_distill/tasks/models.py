"""From a classifier to a multi-task student, and from the trained one back to a classifier for each task."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel

from hf_distill.student import bare_copy, name_classes, output_layers
from hf_distill.tasks.names import FIELD, Tasks


def with_tasks(model: PreTrainedModel, tasks: Tasks) -> PreTrainedModel:
    """Give a classifier a new head, in place, with the classes of all tasks beside each other.

    Args:
        model: A classifier whose head is a linear layer, for whatever classes.
        tasks: What it is to learn.

    Returns:
        The model, untrained in its head. Its config names the tasks, so that it can be saved and loaded like any other.

    Raises:
        ValueError: the head is no linear layer.

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> model = BertForSequenceClassification(BertConfig(
        ...     vocab_size=10, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8))
        >>> student = with_tasks(model, Tasks({"tone": ["bad", "good"], "topic": ["film", "music", "art"]}))
        >>> student.classifier.out_features, student.config.id2label[4]
        (5, 'topic/art')
        >>> task_model(student, "topic").config.id2label
        {0: 'film', 1: 'music', 2: 'art'}
    """
    for head in output_layers(model):
        _resize(head, torch.zeros(len(tasks.joint), dtype=torch.long))
        model._init_weights(head)
    name_classes(model, tasks.joint)
    setattr(model.config, FIELD, list(tasks))
    model.config.problem_type = None  # what it was before, regression for instance, no longer holds
    return model


def task_model(model: PreTrainedModel, task: str) -> PreTrainedModel:
    """Cut the classifier of one task out of a multi-task student: a copy with the outputs of this task alone.

    Args:
        model: The student; it is not changed.
        task: Which one.

    Returns:
        A classifier like any other, to be saved, compared, exported or published.

    Raises:
        KeyError: there is no such task.
        ValueError: the model is no multi-task student.
    """
    tasks = Tasks.of(model.config)
    if tasks is None:
        raise ValueError(f"This {type(model).__name__} has no tasks to cut {task!r} out of: it is a model of one task.")
    outputs = tasks.outputs(task)
    copied = bare_copy(model)
    for head in output_layers(copied):
        _resize(head, torch.arange(outputs.start, outputs.stop))
    name_classes(copied, tasks[task])
    delattr(copied.config, FIELD)
    return copied


def _resize(head: nn.Linear, rows: torch.Tensor) -> None:
    """Leave these rows of a linear layer."""
    head.out_features = len(rows)
    for name, parameter in list(head.named_parameters()):
        setattr(head, name, nn.Parameter(parameter.detach()[rows.to(parameter.device)].clone()))
