"""Models and data small enough for a test to train them in well under a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import nn
from torch.utils.data import SequentialSampler
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    Trainer,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
    set_seed,
)

from hf_distill import DistillationTrainingArguments, VGGConfig, VGGForImageClassification

VOCABULARY = 40
TEXT = ("bert", "distilbert")


def bert(labels: int = 3, layers: int = 1, seed: int = 0, dropout: float = 0.0, **config: Any) -> PreTrainedModel:
    set_seed(seed)
    return BertForSequenceClassification(
        BertConfig(
            **{
                "vocab_size": VOCABULARY,
                "hidden_size": 16,
                "num_hidden_layers": layers,
                "num_attention_heads": 2,
                "intermediate_size": 16,
                "max_position_embeddings": 16,
                "hidden_dropout_prob": dropout,
                "attention_probs_dropout_prob": dropout,
                "num_labels": labels,
                "initializer_range": 0.3,
                **config,
            }
        )
    )


def distilbert(labels: int = 3, seed: int = 0) -> PreTrainedModel:
    set_seed(seed)
    config = DistilBertConfig(
        vocab_size=VOCABULARY, dim=16, n_layers=1, n_heads=2, hidden_dim=16, max_position_embeddings=16,
        dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0, num_labels=labels, initializer_range=0.3,
    )  # fmt: skip
    return DistilBertForSequenceClassification(config)


def vit(labels: int = 3, seed: int = 0) -> PreTrainedModel:
    set_seed(seed)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=8, patch_size=4,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, num_labels=labels, initializer_range=0.3,
    )  # fmt: skip
    return ViTForImageClassification(config)


def resnet(labels: int = 3, seed: int = 0, width: int = 8) -> PreTrainedModel:
    """A ResNet with frozen batch normalisation: with moving statistics its gradient depends on the micro-batch."""
    set_seed(seed)
    config = ResNetConfig(
        embedding_size=4, hidden_sizes=[width], depths=[1], layer_type="basic", num_labels=labels, hidden_act="relu"
    )
    model = ResNetForImageClassification(config)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
            module.eval()
            module.train = lambda mode=True, module=module: module  # type: ignore[method-assign]
    return model


def vgg(labels: int = 3, seed: int = 0, **config: Any) -> PreTrainedModel:
    """A VGG without batch normalisation, for the same reason, and with a head whose answers differ."""
    set_seed(seed)
    form = {"hidden_sizes": [4, 8], "depths": [1, 1], "num_pooled_blocks": 1, "batch_norm": False, "image_size": 8}
    model = VGGForImageClassification(VGGConfig(**{**form, "num_labels": labels, **config}))
    model.classifier[-1].weight.data *= 30
    return model


MODELS = {"bert": bert, "distilbert": distilbert, "vit": vit, "resnet": resnet, "vgg": vgg}


def labels_for(task: str, generator: torch.Generator) -> Any:
    if task == "multi_label":
        return torch.randint(0, 2, (3,), generator=generator).float().tolist()
    if task == "regression":
        return torch.randn((), generator=generator).item()
    return int(torch.randint(0, 3, (), generator=generator))


def dataset(model: str = "bert", task: str = "single_label", rows: int = 36, seed: int = 0) -> Dataset:
    """Random inputs with random labels; texts have segments, so that ``token_type_ids`` matter."""
    generator = torch.Generator().manual_seed(seed)

    def row() -> dict[str, Any]:
        labels = labels_for(task, generator)
        if model not in TEXT:
            return {"pixel_values": torch.randn(3, 8, 8, generator=generator).tolist(), "labels": labels}
        return {
            "input_ids": torch.randint(5, VOCABULARY, (8,), generator=generator).tolist(),
            "attention_mask": [1] * 8,
            "token_type_ids": [0] * 4 + [1] * 4,
            "labels": labels,
        }

    return Dataset.from_list([row() for _ in range(rows)])


SEQUENTIAL = {"train_sampling_strategy": "sequential"}
if "train_sampling_strategy" not in TrainingArguments.__dataclass_fields__:  # transformers before 5.2
    SEQUENTIAL = {}
    Trainer._get_train_sampler = lambda self, rows=None: SequentialSampler(self.train_dataset if rows is None else rows)


def arguments(output_dir: str | Path, **changes: Any) -> DistillationTrainingArguments:
    """Quiet, deterministic, on the CPU; the teacher of a test knows nothing, so it is not scored."""
    return DistillationTrainingArguments(
        str(output_dir),
        **{
            "use_cpu": True,
            "report_to": "none",
            "disable_tqdm": True,
            "save_strategy": "no",
            "logging_steps": 1,
            "per_device_train_batch_size": 8,
            **SEQUENTIAL,
            "teacher_score_examples": 0,
            "max_grad_norm": 0.0,
            **changes,
        },
    )
